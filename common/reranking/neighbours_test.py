"""Neighbours equal a stable sort of the whole matrix, ties included, whatever the blocks."""

import numpy as np
import pytest
import torch

from common.reranking.neighbours import neighbours_of_features, smallest


@pytest.mark.parametrize("size", [1, 7, 16, 50, 64])
@pytest.mark.parametrize("num_query", [1, 7, 20, 49])
def test_neighbours_equal_a_stable_sort_and_query_gallery_distances_are_kept(size, num_query):
    # Small integers: float32 products are exact, and ties are frequent.
    features = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (50, 4)).astype(np.float32))
    between = np.full((num_query, 50 - num_query), np.nan, np.float32)
    nearest = neighbours_of_features(features, 8, size, between)
    distances = (features[:, None] - features).square().sum(2)
    expected = distances.sort(dim=1, stable=True)
    assert nearest.indices.tolist() == expected.indices[:, :8].tolist()
    assert nearest.distances.tolist() == expected.values[:, :8].tolist()
    assert nearest.farthest.tolist() == distances.amax(1).tolist()
    assert between.tolist() == distances[:num_query, num_query:].tolist()


def test_smallest_of_a_constant_row():
    values, indices = smallest(torch.zeros(3, 1000), 5)
    assert indices.tolist() == [[0, 1, 2, 3, 4]] * 3 and values.tolist() == [[0.0] * 5] * 3


def test_fewer_columns_than_neighbours():
    values, indices = smallest(torch.tensor([[2.0, 1.0]]), 5)
    assert values.tolist() == [[1.0, 2.0]] and indices.tolist() == [[1, 0]]
