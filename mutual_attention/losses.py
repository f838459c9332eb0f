"""Deep mutual attention's losses: identification (eq. 10), verification (eq. 12) and their weighted sum (eq. 13)."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .model import DIFFERENT, SAME, Output
from .settings import Settings


class Batch(NamedTuple):
    """What the losses know of B pairs beside the network's output."""

    identities: Tensor  # (2B,), of all first images, then of all second ones
    same: Tensor  # (B,) bool, whether a pair shows one person


def losses(output: Output, batch: Batch, settings: Settings) -> dict[str, Tensor]:
    """Eq. 13 as `loss`, and its terms: means over all images and over pairs. `identity_reduction: sum` adds up the two
    images of a pair, and takes the mean over pairs."""
    identification_loss = functional.cross_entropy(output.identity_logits.float(), batch.identities)  # eq. 10
    if settings.identity_reduction == "sum":
        identification_loss = 2 * identification_loss
    target = torch.where(batch.same, SAME, DIFFERENT)
    verification_loss = functional.cross_entropy(output.verification_logits.float(), target)  # eq. 12
    loss = settings.verification_weight * verification_loss + identification_loss  # eq. 13
    return {"loss": loss, "identification_loss": identification_loss, "verification_loss": verification_loss}
