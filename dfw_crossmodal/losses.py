"""DFW's losses (Sec. 3.4): eq. 7, and its hetero-centre triplet (eq. 6) and L_ReID; overlap.py has eq. 4-5.

Shapes: B images of the global batch, b of this process, R sub-networks, C channels, D numbers of a feature, h x w cells
of a map, P identities in the batch.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from common import distributed
from common.losses import batch_hard_triplet, pairwise_distances

from .model import Output
from .overlap import overlap_penalty
from .settings import Settings


class Batch(NamedTuple):
    """What the losses know of a batch beside the network's output."""

    labels: Tensor  # (b,)
    visible: Tensor  # (b,) bool
    generator: torch.Generator  # of the CPU, the same in every process: draws triplets


def losses(output: Output, batch: Batch, settings: Settings) -> dict[str, Tensor]:
    """Eq. 7 as `loss`, and its terms: L_ReID's two, summed over the sub-networks, eq. 6, and with SLN eq. 5.

    Triplets, centres and mean maps are those of the global batch of all processes.
    """
    features = distributed.gather_with_gradient(output.features.float().transpose(0, 1))  # (B, R, C)
    side_by_side = features.flatten(1)  # (B, R * C), the sub-networks' as at test time
    if settings.unit_features:
        features, side_by_side = functional.normalize(features, dim=2), functional.normalize(side_by_side, dim=1)
    labels, visible = distributed.gather(batch.labels), distributed.gather(batch.visible)

    identity_loss = sum(
        functional.cross_entropy(logits.float(), batch.labels, label_smoothing=settings.label_smoothing)
        for logits in output.logits
    )
    triplet_loss = sum(triplet(feature, labels, settings, batch.generator) for feature in features.unbind(1))
    loss, terms = identity_loss + triplet_loss, {"identity_loss": identity_loss, "triplet_loss": triplet_loss}
    if settings.centre_triplet:
        terms["centre_loss"] = hetero_centre_triplet(side_by_side, labels, visible, settings)
        loss = loss + settings.centre_weight * terms["centre_loss"]
    if settings.sln:
        maps = distributed.gather_with_gradient(output.maps.float().transpose(0, 1))  # (B, 2, h, w)
        terms["overlap_loss"] = overlap_penalty(*maps.unbind(1), visible, settings)
        loss = loss + settings.overlap_weight * terms["overlap_loss"]
    return {"loss": loss, **terms}


def hetero_centre_triplet(features: Tensor, labels: Tensor, visible: Tensor, settings: Settings) -> Tensor:
    """L_hc_tri, eq. 6: a sum over the batch's identities, between the centres of their images in each modality.

    From each centre, the same identity's in the other modality must be nearer, by the margin, than the nearest centre
    of any other identity in either modality. With `centre_hinge` each bracket is at least 0, as in its source (Liu et
    al., IEEE TMM 2020); `centre_reduction` `mean` divides the sum by its 2P brackets.
    features: (B, D); labels: (B,) integers, of P identities; visible: (B,) bool. Every identity has both modalities.
    """
    P = settings.identities_per_batch
    group = ranks_of(labels) + P * (~visible)  # visible centres first, then infrared ones
    members = (group == torch.arange(2 * P, device=labels.device)[:, None]).float()
    centre_of = (members @ features.float()) / members.sum(1, keepdim=True)
    distances = pairwise_distances(centre_of)

    own = torch.arange(2 * P, device=features.device)
    to_other_modality = distances[own, (own + P) % (2 * P)]
    same_identity = (own[:, None] - own[None, :]) % P == 0
    to_nearest_other = distances.masked_fill(same_identity, torch.inf).amin(1)
    brackets = settings.centre_margin + to_other_modality - to_nearest_other
    if settings.centre_hinge:
        brackets = brackets.clamp(min=0)
    return brackets.sum() if settings.centre_reduction == "sum" else brackets.mean()


def ranks_of(labels: Tensor) -> Tensor:
    """The place of each label among the distinct ones, (B,), without asking a GPU how many there are."""
    equal = labels[:, None] == labels
    first = equal.int().argmax(1) == torch.arange(len(labels), device=labels.device)  # of each label's images
    return ((labels < labels[:, None]) & first).sum(1)


def triplet(features: Tensor, labels: Tensor, settings: Settings, generator: torch.Generator) -> Tensor:
    """Mean over anchors of [d(positive) - d(negative) + margin]_+, whatever the images' modalities.

    triplet_mining `hard` takes the batch's farthest positive and nearest negative, `random` draws one of each.
    features: (B, D); labels: (B,) integers, at least two identities and two images of each.
    """
    if settings.triplet_mining == "hard":
        return batch_hard_triplet(features, labels, margin=settings.triplet_margin)
    same = labels[:, None] == labels[None, :]
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    distances = pairwise_distances(features)
    positive, negative = (drawn(choice, generator) for choice in (same & ~itself, ~same))
    return (distances.gather(1, positive) - distances.gather(1, negative) + settings.triplet_margin).clamp(min=0).mean()


def drawn(choice: Tensor, generator: torch.Generator) -> Tensor:
    """(B, B) bool -> (B, 1), one true column of each row at random."""
    return torch.multinomial(choice.cpu().float(), 1, generator=generator).to(choice.device)
