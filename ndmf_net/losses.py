"""NDMF-Net's losses: label smoothing as eq. 12 prints it, and the weighted sum of eq. 14.

Shapes: B images of this process, D dimensions, K identities.
"""

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

from common import distributed
from common.losses import batch_hard_triplet

from .model import Output
from .settings import Settings


class Batch(NamedTuple):
    """What the losses need besides the network's output."""

    labels: Tensor  # (B,)


def losses(output: Output, batch: Batch, settings: Settings) -> dict[str, Tensor]:
    """Eq. 14 as `loss`, and its terms; triplets are mined in the global batch of all processes, whose images
    `identity_reduction: sum` adds up."""
    identity_loss = smoothed_cross_entropy(output.logits, batch.labels, smoothing=settings.label_smoothing)
    if settings.identity_reduction == "sum":
        identity_loss = identity_loss * (distributed.world_size() * len(batch.labels))  # processes take the mean of it
    triplet_loss = batch_hard_triplet(
        distributed.gather_with_gradient(output.feature.float()),
        distributed.gather(batch.labels),
        margin=settings.triplet_margin,
        squared=settings.triplet_squared,
    )
    loss = settings.identity_weight * identity_loss + settings.triplet_weight * triplet_loss
    return {"loss": loss, "identity_loss": identity_loss, "triplet_loss": triplet_loss}


def smoothed_cross_entropy(logits: Tensor, labels: Tensor, *, smoothing: float) -> Tensor:
    """Cross-entropy with the labels of eq. 12: 1 - eps on the true class, eps / (K - 1) on each other.

    Not torch.nn.CrossEntropyLoss(label_smoothing=eps), which gives eps / K to every class, the true one included.
    The mean over images of the sum over classes. Eq. 11 prints a sum over images, and none over classes.

    logits: (B, K); labels: (B,) in 0..K-1.
    """
    log_probabilities = functional.log_softmax(logits.float(), dim=1)
    true = log_probabilities.gather(1, labels[:, None]).squeeze(1)
    others = log_probabilities.sum(1) - true
    return -((1 - smoothing) * true + smoothing / (logits.shape[1] - 1) * others).mean()
