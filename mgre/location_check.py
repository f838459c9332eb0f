"""Do the location modules learn where the body is? [--demo] [--epochs 6], `--help` for more.

The location loss alone (eq. 3) trains the network on the joints of the training images. Printed is, for the query
images, whose identities were never trained on, the mean intersection over union (IoU) of predicted and true boxes,
beside that of Table 1's boxes and of the training images' mean boxes. The page reads them from the result record.
"""

import sys

import numpy as np
import torch

from common import augment
from common.datasets.poses import read_joints
from common.errors import command
from common.images import ImageStore
from common.runs import Program
from common.samplers import IdentitySampler

from .activity import name_in_log, predicted_boxes, region_overlaps
from .losses import Batch, location_losses
from .model import MGRe
from .regions import REGIONS, margins_of, mean_boxes, prior_boxes, target_boxes
from .settings import Settings
from .train import augmented, prepared


@command
def main(argv: list[str] | None = None) -> None:
    description = "Train the location loss alone and compare predicted boxes with the true ones."
    program = Program.open(__package__, "location_check", argv, description=description, epochs=6, seed=0)
    settings = program.settings(Settings, "full")
    model = trained_to_locate(program, settings)
    overlaps = mean_overlaps(model, program, settings)
    for name, values in overlaps.items():
        each = "  ".join(f"{region.name} {value:.3f}" for region, value in zip(REGIONS, values, strict=True))
        print(f"{name:12s} mean {sum(values) / len(values):.3f}   {each}")
    scores = {name: scores_of(values) for name, values in overlaps.items()}
    print(program.write_record(scores, {"epochs": program.arguments.epochs, "seed": program.arguments.seed}))


def scores_of(values: list[float]) -> dict[str, float]:
    """Named as in the log of a training run."""
    each = {f"iou_{name_in_log(region.name)}": value for region, value in zip(REGIONS, values, strict=True)}
    return {"iou": sum(values) / len(values), **each}


def trained_to_locate(program: Program, settings: Settings) -> MGRe:
    """Adam at the settings' learning rate, falling linearly to 0, on the mean location loss of the three stages, each
    counted by its number of regions."""
    num_epochs, seed, device = program.arguments.epochs, program.arguments.seed, program.device
    subset = program.dataset.train
    joints = read_joints(program.dataset, subset)
    sampler = IdentitySampler(subset.labels, settings.identities_per_batch, settings.images_per_identity, seed=seed)
    store = ImageStore(subset, settings.height, settings.width, cache=settings.cache)
    margins = margins_of(settings)
    torch.manual_seed(seed)
    model = MGRe(subset.num_identities, settings).to(device, memory_format=torch.channels_last).train()
    model.start_at(mean_boxes(*target_boxes(joints, margins)))
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    for epoch in range(1, num_epochs + 1):
        num_steps, losses = sampler.num_batches(epoch), []
        for step, indices in enumerate(sampler.batches(epoch)):
            for group in optimiser.param_groups:
                group["lr"] = settings.learning_rate * (1 - (epoch - 1 + step / num_steps) / num_epochs)
            generator = augment.batch_generator(seed, epoch, step)
            images, own_joints = augmented(store.gather(indices).to(device), joints[indices], settings, generator)
            batch = Batch(torch.empty(0), *target_boxes(own_joints.to(device), margins))
            with program.autocast(settings.precision):
                boxes = model.locate(images)
            by_stage = location_losses(boxes, batch, settings)
            loss = sum(boxes[stage].shape[1] * loss for stage, loss in by_stage.items()) / len(REGIONS)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        print(f"epoch {epoch}: location loss {np.mean(losses):.4f}, its last {losses[-1]:.4f}", file=sys.stderr)
    return model


def mean_overlaps(model: MGRe, program: Program, settings: Settings) -> dict[str, list[float]]:
    """Mean IoU of each region on the queries: of the `prior`, the `mean` and the `predicted` boxes."""
    dataset, margins = program.dataset, margins_of(settings)
    mean = mean_boxes(*target_boxes(read_joints(dataset, dataset.train), margins))
    true, known = target_boxes(read_joints(dataset, dataset.query), margins)
    store = ImageStore(dataset.query, settings.height, settings.width, cache=settings.cache)
    parts = [store.gather(part) for part in np.array_split(np.arange(len(store)), -(-len(store) // 64))]
    located = [predicted_boxes(model, prepared(part.to(program.device))) for part in parts]
    predicted = torch.cat([torch.cat(list(boxes.values()), dim=1) for boxes in located])
    compared = {"prior": prior_boxes().expand_as(true), "mean": mean.expand_as(true), "predicted": predicted}
    return {name: region_overlaps(boxes, true, known) for name, boxes in compared.items()}


if __name__ == "__main__":
    main()
