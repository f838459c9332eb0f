import math

import pytest
import torch

from common.losses import batch_hard_triplet, pairwise_distances


def test_batch_hard_triplet_by_hand():
    features = torch.tensor([[0.0], [3.0], [4.0], [10.0]])
    labels = torch.tensor([0, 0, 1, 1])
    # anchor 0: positive 3, negative 4; 1: 3, 1; 2: 6, 1; 3: 6, 7. With margin 0.5: 0, 2.5, 5.5, 0.
    assert batch_hard_triplet(features, labels, margin=0.5).item() == pytest.approx((0 + 2.5 + 5.5 + 0) / 4)
    # squared: 9 - 16, 9 - 1, 36 - 1, 36 - 49
    squared = batch_hard_triplet(features, labels, margin=0.5, squared=True)
    assert squared.item() == pytest.approx((0 + 8.5 + 35.5 + 0) / 4)


def test_batch_hard_triplet_against_plain_loops():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        features = torch.randn(12, 5, generator=generator, dtype=torch.float64).float()
        labels = torch.randint(0, 4, (12,), generator=generator)
        losses = []
        for a in range(12):
            distances = [math.dist(features[a].tolist(), features[b].tolist()) for b in range(12)]
            positive = max(distances[b] for b in range(12) if labels[b] == labels[a])
            negative = min(distances[b] for b in range(12) if labels[b] != labels[a])
            losses.append(max(0.0, positive - negative + 0.3))
        assert batch_hard_triplet(features, labels, margin=0.3).item() == pytest.approx(sum(losses) / 12, rel=1e-4)


def test_gradient_is_finite_where_features_coincide():
    features = torch.tensor([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [5.0, 2.0]], requires_grad=True)
    batch_hard_triplet(features, torch.tensor([0, 0, 1, 1]), margin=0.3).backward()
    assert torch.isfinite(features.grad).all() and features.grad.abs().sum() > 0


def test_distances_are_float32_whatever_the_features_are():
    features = torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=torch.bfloat16)
    distances = pairwise_distances(features)
    assert distances.dtype == torch.float32
    torch.testing.assert_close(distances, torch.tensor([[0.0, 5.0], [5.0, 0.0]]))


def test_one_identity_is_refused():
    with pytest.raises(ValueError, match="two identities"):
        batch_hard_triplet(torch.rand(4, 2), torch.zeros(4, dtype=torch.long), margin=0.3)
