"""Do the location modules learn where the body is? `python -m mgre.location_check [--epochs 6]`.

The location loss alone (eq. 3) trains the demo's network on the synthetic joints. Printed is the mean intersection over
union of predicted and true boxes for people never seen, beside that of the training images' mean boxes.
"""

import argparse
import sys

import numpy as np
import torch

from common import augment, hardware
from common.config import load_config
from common.datasets import open_dataset
from common.errors import command
from common.images import ImageStore
from common.provenance import paper_folder
from common.samplers import IdentitySampler

from .losses import location_loss
from .model import MGRe
from .poses import read_joints
from .regions import REGIONS, intersection_over_union, prior_boxes, target_boxes
from .train import Config, augmented, build_model

CPU = torch.device("cpu")


@command
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}.location_check")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    overlaps = measure(arguments.epochs, arguments.seed)
    for name, values in overlaps.items():
        each = "  ".join(f"{region.name} {value:.3f}" for region, value in zip(REGIONS, values, strict=True))
        print(f"{name:12s} mean {sum(values) / len(values):.3f}   {each}")


def measure(num_epochs: int, seed: int) -> dict[str, list[float]]:
    """Mean IoU of each region on the demo's queries: of the `prior`, the `mean` and the `predicted` boxes."""
    dataset = open_dataset("market1501", size="demo")
    folder = paper_folder(__package__)
    config = load_config(Config, folder, dataset="market1501", demo=True, variant="full", overrides={})
    train_boxes, train_known = target_boxes(read_joints(dataset, dataset.train))
    mean = (train_boxes * train_known[..., None]).sum(0) / train_known.sum(0)[:, None]
    true, known = target_boxes(read_joints(dataset, dataset.query))

    torch.manual_seed(seed)
    model = build_model(config, dataset.train.num_identities).to(memory_format=torch.channels_last)
    learn_location(model, dataset, config, num_epochs, seed)
    store = ImageStore(dataset.query, config.height, config.width)
    predicted = predict(model.eval(), store)
    compared = {"prior": prior_boxes().expand_as(true), "mean": mean.expand_as(true), "predicted": predicted}
    overlaps = {name: intersection_over_union(boxes, true) * known for name, boxes in compared.items()}
    return {name: (values.sum(0) / known.sum(0)).tolist() for name, values in overlaps.items()}


def learn_location(model: MGRe, dataset, config: Config, num_epochs: int, seed: int) -> None:
    """Adam at the demo's learning rate, falling linearly to 0, on the sum of the stages' location losses."""
    subset, joints = dataset.train, read_joints(dataset, dataset.train)
    sampler = IdentitySampler(subset.labels, config.identities_per_batch, config.images_per_identity, seed=seed)
    store = ImageStore(subset, config.height, config.width)
    optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    model.train()
    for epoch in range(1, num_epochs + 1):
        num_steps, losses = sampler.num_batches(epoch), []
        for step, indices in enumerate(sampler.batches(epoch)):
            for group in optimiser.param_groups:
                group["lr"] = config.learning_rate * (1 - (epoch - 1 + step / num_steps) / num_epochs)
            generator = augment.batch_generator(seed, epoch, step)
            images, own_joints = augmented(store.gather(indices), joints[indices], config, generator)
            targets, known = target_boxes(own_joints)
            with hardware.autocast(CPU, hardware.select_precision(config.precision, CPU)):
                boxes = torch.cat(list(model.locate(images).values()), dim=1)
            loss = location_loss(boxes, targets, known)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        print(f"epoch {epoch}: location loss {np.mean(losses):.4f}, its last {losses[-1]:.4f}", file=sys.stderr)


@torch.inference_mode()
def predict(model: MGRe, store: ImageStore) -> torch.Tensor:
    """(N, 7, 4), the boxes of every image of a store."""
    batches = np.array_split(np.arange(len(store)), max(1, len(store) // 64))
    located = [model.locate(augment.normalise(store.gather(indices))) for indices in batches]
    return torch.cat([torch.cat(list(boxes.values()), dim=1) for boxes in located])


if __name__ == "__main__":
    main(sys.argv[1:])
