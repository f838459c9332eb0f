"""The losses of Sec. 3.4: overlap penalty (eq. 4-5), hetero-centre triplet (eq. 6) and the triplet inside L_ReID.

Shapes: B images, D numbers of a feature, h x w cells of a map, P identities in the batch.
"""

import torch
from torch import Tensor
from torch.nn import functional

from common.losses import batch_hard_triplet, pairwise_distances

CENTRES = ("soft", "hard")
MININGS = ("hard", "random")

EPSILON = 1e-6  # square pixels under the root, so that its gradient is finite where two centres coincide


def overlap_penalty(
    first: Tensor,
    second: Tensor,
    *,
    separation: float,
    image_size: tuple[float, float],
    centre: str,
    temperature: float,
) -> Tensor:
    """L_op, eq. 5, over S: the mean over images of max(0, 1 - d / S), d between the centres of the two sub-networks.

    Dividing by S lets the term start at the size of the other losses (ASSUMED; a constant factor of eq. 5).
    first, second: (B, h, w), their channel-pooled maps of eq. 4; separation: S, in pixels of a picture
    of image_size, height and width; centre, temperature: see `centres`.
    """
    sizes = {"image_size": image_size, "centre": centre, "temperature": temperature}
    difference = centres(first, **sizes) - centres(second, **sizes)
    distance = (difference.square().sum(1) + EPSILON).sqrt()
    return (1 - distance / separation).clamp(min=0).mean()


def centres(maps: Tensor, *, image_size: tuple[float, float], centre: str, temperature: float) -> Tensor:
    """Where each map is highest: (B, h, w) -> (B, 2), y and x in pixels of a picture of `image_size`.

    `hard`: the cell of the maximum, as the paper says; it has no gradient, so that a loss of it is a constant.
    `soft`: the mean position under a softmax of the map, standardised and divided by `temperature` (ASSUMED).
    """
    if centre not in CENTRES:
        raise ValueError(f"centres are {' or '.join(CENTRES)}, not {centre!r}")
    rows, columns = maps.shape[1:]
    flat = maps.float().flatten(1)
    if centre == "hard":
        weights = functional.one_hot(flat.argmax(1), flat.shape[1]).to(flat.dtype)
    else:
        deviation = flat.std(1, keepdim=True, correction=0).clamp(min=1e-6)
        weights = torch.softmax((flat - flat.mean(1, keepdim=True)) / deviation / temperature, dim=1)
    y = (torch.arange(rows, device=maps.device) + 0.5) * (image_size[0] / rows)
    x = (torch.arange(columns, device=maps.device) + 0.5) * (image_size[1] / columns)
    return weights @ torch.cartesian_prod(y, x)


def hetero_centre_triplet(features: Tensor, labels: Tensor, visible: Tensor, *, margin: float) -> Tensor:
    """L_hc_tri, eq. 6: a sum over the batch's identities, between the centres of their images in each modality.

    From each centre, the same identity's in the other modality must be nearer, by the margin, than the nearest centre
    of any other identity in either modality. Each bracket is a hinge (Liu et al., IEEE TMM 2020; not printed).
    features: (B, D); labels: (B,) integers; visible: (B,) bool. Every identity has images of both modalities.
    """
    identities, position = labels.unique(return_inverse=True)
    P = len(identities)
    group = position + P * (~visible)  # visible centres first, then infrared ones
    members = functional.one_hot(group, 2 * P).T.float()
    centre_of = (members @ features.float()) / members.sum(1, keepdim=True)
    distances = pairwise_distances(centre_of)

    own = torch.arange(2 * P, device=features.device)
    to_other_modality = distances[own, (own + P) % (2 * P)]
    same_identity = (own[:, None] - own[None, :]) % P == 0
    to_nearest_other = distances.masked_fill(same_identity, torch.inf).amin(1)
    return (margin + to_other_modality - to_nearest_other).clamp(min=0).sum()


def triplet(features: Tensor, labels: Tensor, *, margin: float, mining: str, generator: torch.Generator) -> Tensor:
    """Mean over anchors of [d(positive) - d(negative) + margin]_+, whatever the images' modalities.

    mining: `hard` takes the batch's farthest positive and nearest negative, `random` draws one of each, by `generator`
    (of the CPU). features: (B, D); labels: (B,) integers, at least two identities and two images of each.
    """
    if mining not in MININGS:
        raise ValueError(f"mining is {' or '.join(MININGS)}, not {mining!r}")
    if mining == "hard":
        return batch_hard_triplet(features, labels, margin=margin)
    same = labels[:, None] == labels[None, :]
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    distances = pairwise_distances(features)
    positive, negative = (drawn(choice, generator) for choice in (same & ~itself, ~same))
    return (distances.gather(1, positive) - distances.gather(1, negative) + margin).clamp(min=0).mean()


def drawn(choice: Tensor, generator: torch.Generator) -> Tensor:
    """(B, B) bool -> (B, 1), one true column of each row at random."""
    return torch.multinomial(choice.cpu().float(), 1, generator=generator).to(choice.device)
