"""MGRe's losses: location (eq. 3), identity with soft labels, and batch-hard triplet, in the weighted sum of eq. 9.

Shapes: B images of this process, D dimensions, R regions of a stage, seven in all.
"""

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

from common import distributed
from common.losses import batch_hard_triplet

from .model import Output
from .regions import map_sizes, positions_of
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
    mined in the global batch of all processes. A network without location modules has no `location_loss`. Also, for the
    log, each stage's L_ID and L_loc without a weight: `identity_loss_1`, `location_loss_1`, ...
    """
    all_labels = distributed.gather(batch.labels)
    identity, triplet_loss = {}, 0.0
    for stage, feature in output.features.items():
        identity[stage] = functional.cross_entropy(
            output.logits[stage].float(), batch.labels, label_smoothing=settings.label_smoothing
        )
        triplet_loss += stage_weight(stage, settings) * batch_hard_triplet(
            distributed.gather_with_gradient(feature.float()), all_labels, margin=settings.triplet_margin
        )
    identity_loss = sum(stage_weight(stage, settings) * loss for stage, loss in identity.items())
    terms = {"identity_loss": identity_loss, "triplet_loss": triplet_loss}
    by_stage = {f"identity_loss_{stage}": loss for stage, loss in identity.items()}
    if output.boxes:
        located = location_losses(output.boxes, batch, settings)
        terms["location_loss"] = weighted_location_loss(located, settings)
        by_stage |= {f"location_loss_{stage}": loss for stage, loss in located.items()}
    return {"loss": sum(terms.values()), **terms, **by_stage}


def stage_weight(stage: int, settings: Settings) -> float:
    """Of the stage's losses in eq. 9."""
    return 1.0 if stage == 4 else settings.stage_loss_weight


def weighted_location_loss(by_stage: dict[int, Tensor], settings: Settings) -> Tensor:
    """L_loc's term in eq. 9."""
    return sum(
        settings.stage_loss_weight * settings.location_loss_weight * location_loss
        for location_loss in by_stage.values()
    )


def location_losses(boxes: dict[int, Tensor], batch: Batch, settings: Settings) -> dict[int, Tensor]:
    """Eq. 3 of each stage, in the units of `location_units`. boxes: {stage: (B, R, 4)}."""
    found, sizes = {}, map_sizes(settings)
    for stage, predicted in boxes.items():
        own, (height, width) = positions_of(stage), sizes[stage]
        scale = (1, 1) if settings.location_units == "image" else (width, height)
        found[stage] = location_loss(predicted, batch.targets[:, own], batch.known[:, own], scale)
    return found


def location_loss(boxes: Tensor, targets: Tensor, known: Tensor, scale: tuple[int, int] = (1, 1)) -> Tensor:
    """Eq. 3: the sum of the four squared differences, averaged over the known boxes of all images and regions.

    boxes: (B, R, 4), predicted, in parts of the image; targets: (B, R, 4) with eq. 3's margin in them; known: (B, R)
    bool, which targets count. Zero, with a zero gradient, where none does. scale: what differences in x and in y are
    multiplied by before they are squared, such as the map's width and height.
    """
    squares = (boxes.float() - targets).square().unflatten(2, (2, 2)).sum(2)  # of x, of y
    squares = scale[0] ** 2 * squares[..., 0] + scale[1] ** 2 * squares[..., 1]
    return (squares * known).sum() / known.sum().clamp(min=1)
