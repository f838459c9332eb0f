"""Losses that several papers share."""

import torch
from torch import Tensor


def pairwise_distances(features: Tensor, *, squared: bool = False) -> Tensor:
    """(B, D) -> (B, B) Euclidean distances in float32; the gradient at distance 0 is 0, not NaN."""
    features = features.float()
    squares = features.square().sum(1)
    distances = (squares[:, None] + squares[None, :] - 2 * features @ features.T).clamp(min=0)
    if squared:
        return distances
    zero = distances < 1e-12  # the square root's gradient is infinite there
    return distances.masked_fill(zero, 1.0).sqrt().masked_fill(zero, 0.0)


def batch_hard_triplet(features: Tensor, labels: Tensor, *, margin: float, squared: bool = False) -> Tensor:
    """Mean over anchors of [d(hardest positive) - d(hardest negative) + margin]_+.

    Hermans et al., "In Defense of the Triplet Loss", eq. 5. An anchor is its own positive where its identity has no
    other image in the batch.

    features: (B, D); labels: (B,) integers, at least two identities; squared: use squared distances (FaceNet).
    """
    distances = pairwise_distances(features, squared=squared)
    same = labels[:, None] == labels[None, :]
    if same.device.type == "cpu" and same.all():  # on a GPU the question would cost a wait in every step
        raise ValueError("batch_hard_triplet needs at least two identities in a batch")
    hardest_positive = distances.masked_fill(~same, -torch.inf).amax(1)
    hardest_negative = distances.masked_fill(same, torch.inf).amin(1)
    return (hardest_positive - hardest_negative + margin).clamp(min=0).mean()
