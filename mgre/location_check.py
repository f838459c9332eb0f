"""Do the location modules learn where the body is? [--demo] [--epochs 6], `--help` for more.

The location loss alone (eq. 3) trains the network on the joints of the training images. Printed is, for the query
images, whose identities were never trained on, the mean intersection over union (IoU) of predicted and true boxes,
beside that of Table 1's boxes and of the training images' mean boxes.
"""

import sys

import numpy as np
import torch
from torch import Tensor

from common import augment
from common.datasets.poses import read_joints
from common.errors import command
from common.images import ImageStore
from common.runs import Program
from common.samplers import IdentitySampler

from .losses import location_loss
from .model import MGRe
from .regions import REGIONS, intersection_over_union, prior_boxes, target_boxes
from .settings import Settings
from .train import augmented, prepared


@command
def main(argv: list[str] | None = None) -> None:
    description = "Train the location loss alone and compare predicted boxes with the true ones."
    program = Program.open(__package__, "location_check", argv, description=description, epochs=6, seed=0)
    settings = program.settings(Settings, "full")
    model = trained_to_locate(program, settings)
    for name, values in mean_overlaps(model, program, settings).items():
        each = "  ".join(f"{region.name} {value:.3f}" for region, value in zip(REGIONS, values, strict=True))
        print(f"{name:12s} mean {sum(values) / len(values):.3f}   {each}")


def trained_to_locate(program: Program, settings: Settings) -> MGRe:
    """Adam at the settings' learning rate, falling linearly to 0, on the mean location loss of all regions."""
    num_epochs, seed, device = program.arguments.epochs, program.arguments.seed, program.device
    subset = program.dataset.train
    joints = read_joints(program.dataset, subset)
    sampler = IdentitySampler(subset.labels, settings.identities_per_batch, settings.images_per_identity, seed=seed)
    store = ImageStore(subset, settings.height, settings.width, cache=settings.cache)
    torch.manual_seed(seed)
    model = MGRe(subset.num_identities, settings).to(device, memory_format=torch.channels_last).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    for epoch in range(1, num_epochs + 1):
        num_steps, losses = sampler.num_batches(epoch), []
        for step, indices in enumerate(sampler.batches(epoch)):
            for group in optimiser.param_groups:
                group["lr"] = settings.learning_rate * (1 - (epoch - 1 + step / num_steps) / num_epochs)
            generator = augment.batch_generator(seed, epoch, step)
            images, own_joints = augmented(store.gather(indices).to(device), joints[indices], settings, generator)
            targets, known = target_boxes(own_joints.to(device))
            with program.autocast(settings.precision):
                boxes = torch.cat(list(model.locate(images).values()), dim=1)
            loss = location_loss(boxes, targets, known)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        print(f"epoch {epoch}: location loss {np.mean(losses):.4f}, its last {losses[-1]:.4f}", file=sys.stderr)
    return model


def mean_overlaps(model: MGRe, program: Program, settings: Settings) -> dict[str, list[float]]:
    """Mean IoU of each region on the queries: of the `prior`, the `mean` and the `predicted` boxes."""
    dataset = program.dataset
    train_boxes, train_known = target_boxes(read_joints(dataset, dataset.train))
    mean = (train_boxes * train_known[..., None]).sum(0) / train_known.sum(0)[:, None]
    true, known = target_boxes(read_joints(dataset, dataset.query))
    store = ImageStore(dataset.query, settings.height, settings.width, cache=settings.cache)
    compared = {
        "prior": prior_boxes().expand_as(true),
        "mean": mean.expand_as(true),
        "predicted": predicted_boxes(model.eval(), store, program.device),
    }
    overlaps = {name: intersection_over_union(boxes, true) * known for name, boxes in compared.items()}
    return {name: (values.sum(0) / known.sum(0)).tolist() for name, values in overlaps.items()}


@torch.inference_mode()
def predicted_boxes(model: MGRe, store: ImageStore, device: torch.device) -> Tensor:
    """(N, 7, 4), the boxes of every image of a store."""
    batches = np.array_split(np.arange(len(store)), max(1, len(store) // 64))
    located = [model.locate(prepared(store.gather(indices).to(device))) for indices in batches]
    return torch.cat([torch.cat(list(boxes.values()), dim=1) for boxes in located]).cpu()


if __name__ == "__main__":
    main()
