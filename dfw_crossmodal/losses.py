"""DFW's losses (Sec. 3.4): eq. 7, and its overlap penalty (eq. 4-5), hetero-centre triplet (eq. 6) and L_ReID.

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
from .settings import Settings

EPSILON = 1e-6  # square pixels under the root, so that its gradient is finite where two centres coincide


class Batch(NamedTuple):
    """What the losses know of a batch beside the network's output."""

    labels: Tensor  # (b,)
    visible: Tensor  # (b,) bool
    generator: torch.Generator  # of the CPU, the same in every process: draws triplets


def losses(output: Output, batch: Batch, settings: Settings) -> dict[str, Tensor]:
    """Eq. 7 as `loss`, and its terms: L_ReID's two, summed over the sub-networks, and with SLN eq. 6 and eq. 5.

    Triplets and centres are those of the global batch of all processes.
    """
    features = distributed.gather_with_gradient(output.features.float().transpose(0, 1))  # (B, R, C)
    side_by_side = features.flatten(1)  # (B, R * C), the sub-networks' as at test time
    if settings.unit_features:
        features, side_by_side = functional.normalize(features, dim=2), functional.normalize(side_by_side, dim=1)
    labels, visible = distributed.gather(batch.labels), distributed.gather(batch.visible)

    identity_loss = sum(functional.cross_entropy(logits.float(), batch.labels) for logits in output.logits)
    triplet_loss = sum(triplet(feature, labels, settings, batch.generator) for feature in features.unbind(1))
    if not settings.sln:
        return {"loss": identity_loss + triplet_loss, "identity_loss": identity_loss, "triplet_loss": triplet_loss}

    P = settings.identities_per_batch
    centre_loss = hetero_centre_triplet(side_by_side, labels, visible, P, margin=settings.centre_margin)
    overlap_loss = overlap_penalty(*output.maps, settings)
    loss = identity_loss + triplet_loss + settings.centre_weight * centre_loss + settings.overlap_weight * overlap_loss
    return {
        "loss": loss,
        "identity_loss": identity_loss,
        "triplet_loss": triplet_loss,
        "centre_loss": centre_loss,
        "overlap_loss": overlap_loss,
    }


def overlap_penalty(first: Tensor, second: Tensor, settings: Settings) -> Tensor:
    """L_op, eq. 5, over S: the mean over images of max(0, 1 - d / S), d between the centres of the two sub-networks.

    Dividing by S brings the term to the size of the other losses (ASSUMED; a constant factor of eq. 5).
    first, second: (B, h, w), the two sub-networks' channel-pooled maps of eq. 4.
    """
    difference = centres(first, settings) - centres(second, settings)
    distance = (difference.square().sum(1) + EPSILON).sqrt()
    return (1 - distance / settings.separation).clamp(min=0).mean()


def centres(maps: Tensor, settings: Settings) -> Tensor:
    """Where each map is highest: (B, h, w) -> (B, 2), y and x in pixels of an image `separation_height` high.

    overlap_centre `hard`: the cell of the maximum, as the paper says; it has no gradient, so that its loss is constant.
    `soft`: the mean position under a softmax of the map, standardised and divided by `overlap_temperature` (ASSUMED).
    """
    rows, columns = maps.shape[1:]
    height, width = settings.separation_height, settings.separation_height * settings.width / settings.height
    flat = maps.float().flatten(1)
    if settings.overlap_centre == "hard":
        weights = functional.one_hot(flat.argmax(1), flat.shape[1]).to(flat.dtype)
    else:
        deviation = flat.std(1, keepdim=True, correction=0).clamp(min=1e-6)
        weights = torch.softmax((flat - flat.mean(1, keepdim=True)) / deviation / settings.overlap_temperature, dim=1)
    y = (torch.arange(rows, device=maps.device) + 0.5) * (height / rows)
    x = (torch.arange(columns, device=maps.device) + 0.5) * (width / columns)
    return weights @ torch.cartesian_prod(y, x)


def hetero_centre_triplet(features: Tensor, labels: Tensor, visible: Tensor, P: int, *, margin: float) -> Tensor:
    """L_hc_tri, eq. 6: a sum over the batch's identities, between the centres of their images in each modality.

    From each centre, the same identity's in the other modality must be nearer, by the margin, than the nearest centre
    of any other identity in either modality. Each bracket is a hinge (Liu et al., IEEE TMM 2020; not printed).
    features: (B, D); labels: (B,) integers, of P identities; visible: (B,) bool. Every identity has both modalities.
    """
    group = ranks_of(labels) + P * (~visible)  # visible centres first, then infrared ones
    members = (group == torch.arange(2 * P, device=labels.device)[:, None]).float()
    centre_of = (members @ features.float()) / members.sum(1, keepdim=True)
    distances = pairwise_distances(centre_of)

    own = torch.arange(2 * P, device=features.device)
    to_other_modality = distances[own, (own + P) % (2 * P)]
    same_identity = (own[:, None] - own[None, :]) % P == 0
    to_nearest_other = distances.masked_fill(same_identity, torch.inf).amin(1)
    return (margin + to_other_modality - to_nearest_other).clamp(min=0).sum()


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
