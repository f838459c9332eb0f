"""What the location modules do, logged after each epoch: how well the boxes fit people who are not trained on, beside
boxes that ignore the image, and how strongly identity and triplet loss pull at the boxes.

Shapes: N images; boxes: (N, 7, 4) of all REGIONS, in parts of the image.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from common.datasets.base import Subset
from common.datasets.poses import read_joints
from common.errors import UserError
from common.evaluation.retrieval import random_identities
from common.images import ImageStore
from common.runs import Run

from .box_gradient import LEAST, region_norms
from .losses import Batch, location_losses, weighted_location_loss
from .model import MGRe, Output
from .regions import REGIONS, intersection_over_union, margins_of, positions_of, prior_boxes, target_boxes
from .settings import Settings

NUM_WATCHED = 256  # images of different people, at most


class Watched(NamedTuple):
    """Images of people who are not trained on, and constant boxes to compare with."""

    images: Tensor  # (N, 3, H, W) uint8
    true: Tensor  # (N, 7, 4), the boxes around the joints
    known: Tensor  # (N, 7) bool
    mean: Tensor  # (7, 4), the training images' mean boxes


def watched_people(run: Run, mean: Tensor) -> Watched | None:
    """One image of each of NUM_WATCHED identities held out of the training or, where none is, of the test queries; None
    if the file of poses has none of them. mean: the training images' mean boxes (7, 4)."""
    settings = run.settings
    _, validation = run.dataset.hold_out(settings.validation_identities)
    subset: Subset = validation.query if validation else run.dataset.query
    try:
        true, known = target_boxes(read_joints(run.dataset, subset), margins_of(settings))
    except UserError:
        return None
    positions = random_identities(subset, NUM_WATCHED, among=known.any(1).numpy())
    store = ImageStore(subset, settings.height, settings.width, cache=settings.cache)
    return Watched(store.gather(positions), true[positions], known[positions], mean)


def name_in_log(region: str) -> str:
    return region.replace(" ", "_")


@torch.no_grad()
def predicted_boxes(model: MGRe, images: Tensor) -> dict[int, Tensor]:
    """{stage: (N, R, 4)} on the CPU, in evaluation mode, after which the model is in the mode in which it was.

    images: (N, 3, H, W), as the network takes them.
    """
    training = model.training
    parts = [model.eval().locate(part) for part in images.split(64)]
    model.train(training)
    return {stage: torch.cat([part[stage].float().cpu() for part in parts]) for stage in model.box_stages}


def region_overlaps(boxes: Tensor, true: Tensor, known: Tensor) -> list[float]:
    """The mean IoU of each region over the images in which it is known; nan if it is in none."""
    overlaps = intersection_over_union(boxes, true) * known
    return (overlaps.sum(0) / known.sum(0)).tolist()


def location_activity(predicted: Mapping[int, Tensor], watched: Watched, settings: Settings) -> dict[str, float]:
    """`iou_<region>` of the boxes that `predicted_boxes` found, and `iou`, their mean; `iou_mean_boxes` and
    `iou_table1`, the same mean of the training images' mean boxes and of Table 1's; `held_out_location_loss` and, of
    the mean boxes, `mean_boxes_location_loss`, weighted as in eq. 9.
    """
    values, overlaps = {}, {"": [], "_mean_boxes": [], "_table1": []}
    batch = Batch(torch.empty(0), watched.true, watched.known)
    constant: dict[int, Tensor] = {}
    for stage, boxes in predicted.items():
        own = positions_of(stage)
        constant[stage] = watched.mean[own].expand_as(boxes)
        compared = (boxes, constant[stage], prior_boxes()[own].expand_as(boxes))
        for name, some in zip(overlaps, compared, strict=True):
            overlaps[name] += region_overlaps(some, watched.true[:, own], watched.known[:, own])
        found = overlaps[""][-boxes.shape[1] :]
        values |= {f"iou_{name_in_log(region.name)}": iou for region, iou in zip(REGIONS[own], found, strict=True)}
    values |= {f"iou{name}": sum(found) / len(found) for name, found in overlaps.items()}
    for name, some in (("held_out", predicted), ("mean_boxes", constant)):
        loss = weighted_location_loss(location_losses(dict(some), batch, settings), settings)
        values[f"{name}_location_loss"] = loss.item()
    return values


class BoxGradients:
    """Of one training step, how strongly the re-ID losses pull at the boxes, beside the location loss.

    Make it after the losses and before the backward pass, which it leaves as it is; read `ratios` after it.
    """

    def __init__(self, output: Output, terms: Mapping[str, Tensor]):
        self.boxes = dict(output.boxes)
        found = torch.autograd.grad(terms["location_loss"], list(self.boxes.values()), retain_graph=True)
        self.of_location = dict(zip(self.boxes, found, strict=True))
        for boxes in self.boxes.values():
            boxes.retain_grad()

    def ratios(self, loss_scale: float = 1.0) -> dict[str, float]:
        """`box_gradient_<region>`: the norm over the batch of the re-ID losses' gradient in a region's boxes, as it
        arrives there (see `box_gradient`), over that of the location loss's. loss_scale: what the loss was multiplied
        by."""
        ratios = {}
        for stage, boxes in self.boxes.items():
            location = self.of_location[stage]
            re_id = region_norms(boxes.grad / loss_scale - location)
            found = (re_id / region_norms(location).clamp(min=LEAST)).tolist()
            own = REGIONS[positions_of(stage)]
            ratios |= {f"box_gradient_{name_in_log(region.name)}": r for region, r in zip(own, found, strict=True)}
        return ratios


def carriers_of(model: MGRe) -> dict[str, list[str]]:
    """{row of `what each stage carries`: its submodules}: each stage's feature, and each stage's boxes."""
    rows = {f"feature of stage {stage}": [f"embeddings.{stage}.neck"] for stage in model.feature_stages}
    located = {stage: f"branches.{stage}.location" for stage in model.box_stages}
    rows |= {f"boxes of stage {stage}": [module] for stage, module in located.items()}
    return rows | ({"all boxes": list(located.values())} if len(located) > 1 else {})
