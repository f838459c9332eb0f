"""FGSAM's losses: eq. 11, and its attribute losses (eq. 5) and focal triplet losses (eq. 9-10).

Shapes: B images of this process, D numbers of an embedding, T triplets of the global batch.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from common import distributed
from common.losses import pairwise_distances

from .attribute_tasks import UNLABELLED
from .ground_truth import pose_losses
from .model import Output
from .settings import Settings


class Batch(NamedTuple):
    """What the losses know of a batch beside the network's output."""

    labels: Tensor  # (B,)
    attributes: Tensor  # (B, tasks), UNLABELLED where not annotated
    phase: int  # of the training
    pose: tuple[list[Tensor], Tensor] | None = None  # what each stage of the pose net should give, and W; eq. 3-4


def losses(output: Output, batch: Batch, settings: Settings) -> dict[str, Tensor]:
    """Eq. 11 as `loss`, and its terms, which it adds without weights: the identity loss of the plenary branch, the
    attribute losses summed over tasks (where there are any), the focal triplet losses summed over branches (phase 3);
    and `pose_loss`, eq. 3-4 times `pose_loss_weight`, where the batch says what the pose net should give.

    Triplets are those of the global batch of all processes.
    """
    terms = {"identity_loss": functional.cross_entropy(output.identity_logits.float(), batch.labels)}
    if output.attribute_logits:
        terms["attribute_loss"] = sum(attribute_losses(output.attribute_logits, batch.attributes).values())
    if batch.phase == 3:
        labels = distributed.gather(batch.labels)
        terms["triplet_loss"] = sum(
            branch_loss(distributed.gather_with_gradient(embedding.float()), labels, settings)
            for embedding in output.embeddings.values()
        )
    if batch.pose is not None:
        wanted, weights = batch.pose
        terms["pose_loss"] = settings.pose_loss_weight * pose_losses(output.pose_stages, wanted, weights)["loss"]
    return {"loss": sum(terms.values()), **terms}  # eq. 11


def attribute_losses(logits: Mapping[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
    """Eq. 5 for each task: cross-entropy, the mean over the images whose person is labelled; 0 where none is.

    logits: task -> (B, values); labels: (B, tasks) in the same order, UNLABELLED where not annotated.
    """
    found = {}
    for task, own in zip(logits, labels.unbind(1), strict=True):
        total = functional.cross_entropy(logits[task].float(), own, ignore_index=UNLABELLED, reduction="sum")
        found[task] = total / (own != UNLABELLED).sum().clamp(min=1)
    return found


def branch_loss(embeddings: Tensor, labels: Tensor, settings: Settings) -> Tensor:
    """A branch's eq. 10 (eq. 9 without `focal`), reduced over its triplets as `reduction` says.

    embeddings: (B, D); labels: (B,); both of the global batch.
    """
    positive, negative, valid = triplet_distances(embeddings, labels, settings.mining, settings.distance)
    terms = [triplet(positive, negative, alpha=settings.alpha)]
    if settings.focal:
        constants = {"alpha": settings.alpha, "beta": settings.beta, "gamma": settings.gamma}
        terms = list(focal_triplet(positive, negative, **constants, detach_weight=settings.detach_weight))
        terms = terms if settings.absolute else terms[:1]
    if settings.reduction == "apart":
        return sum(mean_of_positive(term * valid) for term in terms)
    found = sum(terms) * valid
    return found.sum() / valid.sum().clamp(min=1) if settings.reduction == "all" else mean_of_positive(found)


def focal_triplet(
    positive: Tensor, negative: Tensor, *, alpha: float, beta: float, gamma: float, detach_weight: bool = False
) -> tuple[Tensor, Tensor]:
    """Eq. 10's two terms for each triplet: lambda^gamma TL, and max(d_ap - beta, 0).

    TL = max(d_ap - d_an + alpha, 0), eq. 9; lambda = max(d_ap - d_an + 1, 1). positive, negative: d_ap and d_an, which
    broadcast; the second term has d_ap's shape. detach_weight: no gradient through lambda.
    """
    difference = positive - negative
    weight = (difference + 1).clamp(min=1)  # lambda
    if detach_weight:
        weight = weight.detach()
    return weight**gamma * triplet(positive, negative, alpha=alpha), (positive - beta).clamp(min=0)


def triplet(positive: Tensor, negative: Tensor, *, alpha: float) -> Tensor:
    """Eq. 9 for each triplet."""
    return (positive - negative + alpha).clamp(min=0)


def triplet_distances(
    embeddings: Tensor,
    labels: Tensor,
    mining: Literal["all", "hard"],
    distance: Literal["euclidean", "squared"] = "euclidean",
) -> tuple[Tensor, Tensor, Tensor]:
    """d_ap, d_an and which are triplets (bool), of a batch, between L2-normalised embeddings.

    mining: `all`, which broadcast to (B, B, B) of anchor, positive and negative, or `hard`, (B,) each, which pairs each
    anchor with its farthest positive and nearest negative. embeddings: (B, D); labels: (B,), of several identities.
    """
    distances = pairwise_distances(functional.normalize(embeddings.float(), dim=1), squared=distance == "squared")
    same = labels[:, None] == labels[None, :]
    if mining == "hard":
        positive = distances.masked_fill(~same, -torch.inf).amax(1)
        negative = distances.masked_fill(same, torch.inf).amin(1)
        return positive, negative, torch.ones_like(labels, dtype=torch.bool)
    # A mask, not a list of triplets: a GPU would have to be asked for the list's length.
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    valid = (same & ~itself)[:, :, None] & ~same[:, None, :]
    return distances[:, :, None], distances[:, None, :], valid


def mean_of_positive(losses: Tensor) -> Tensor:
    """The mean over the triplets whose loss is not 0; 0 where there is none."""
    return losses.sum() / (losses > 0).sum().clamp(min=1)
