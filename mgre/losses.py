"""MGRe's losses: location (eq. 3), identity with soft labels, and batch-hard triplet, in the weighted sum of eq. 9.

Shapes: B images of this process, D dimensions, R regions of a stage, seven in all.
"""

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

from common import distributed
from common.losses import batch_hard_triplet

from .model import Output
from .regions import positions_of
from .settings import Settings


class Batch(NamedTuple):
    """What the losses know of a batch beside the network's output. No boxes where the network has no regions."""

    labels: Tensor  # (B,)
    targets: Tensor | None = None  # (B, 7, 4), the boxes around the joints, eq. 3's margin included
    known: Tensor | None = None  # (B, 7) bool, the regions that have joints


def losses(output: Output, batch: Batch, settings: Settings) -> dict[str, Tensor]:
    """Eq. 9 as `loss`, and its three terms, each already summed over the stages:

    L = lambda * sum over stages 1 to 3 of (L_loc + L_ID + L_triplet) + (L_ID + L_triplet) of stage 4

    with lambda = stage_loss_weight. location_loss_weight is an extra factor of L_loc, 1 in the paper. Triplets are
    mined in the global batch of all processes. A network without location modules has no `location_loss`.
    """
    all_labels = distributed.gather(batch.labels)
    identity_loss = triplet_loss = 0.0
    for stage, feature in output.features.items():
        weight = 1.0 if stage == 4 else settings.stage_loss_weight
        identity_loss += weight * functional.cross_entropy(
            output.logits[stage].float(), batch.labels, label_smoothing=settings.label_smoothing
        )
        triplet_loss += weight * batch_hard_triplet(
            distributed.gather_with_gradient(feature.float()), all_labels, margin=settings.triplet_margin
        )
    terms = {"identity_loss": identity_loss, "triplet_loss": triplet_loss}
    if output.boxes:
        terms["location_loss"] = sum(
            settings.stage_loss_weight
            * settings.location_loss_weight
            * location_loss(boxes, batch.targets[:, positions_of(stage)], batch.known[:, positions_of(stage)])
            for stage, boxes in output.boxes.items()
        )
    return {"loss": sum(terms.values()), **terms}


def location_loss(boxes: Tensor, targets: Tensor, known: Tensor) -> Tensor:
    """Eq. 3: the sum of the four squared differences, averaged over the known boxes of all images and regions.

    boxes: (B, R, 4), predicted, in parts of the image; targets: (B, R, 4) with eq. 3's margin in them; known: (B, R)
    bool, which targets count. Zero, with a zero gradient, where none does.
    """
    squares = (boxes.float() - targets).square().sum(2)
    return (squares * known).sum() / known.sum().clamp(min=1)
