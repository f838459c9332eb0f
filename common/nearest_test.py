"""Neighbours equal a stable sort of the whole matrix, ties included, whatever the blocks."""

import numpy as np
import pytest
import torch

from common.nearest import nearest_by_features, nearest_by_rows, smallest


@pytest.mark.parametrize("levels", [2, 7, 10_000])
@pytest.mark.parametrize("size", [1, 5, 16, 100])
def test_rows_equal_a_stable_sort(levels, size):
    distances = torch.from_numpy(np.random.default_rng(levels).integers(0, levels, (60, 60)).astype(np.float32))
    nearest = nearest_by_rows(lambda rows: distances[rows], 60, 9, size)
    expected = distances.sort(dim=1, stable=True)
    assert nearest.indices.tolist() == expected.indices[:, :9].tolist()
    assert nearest.distances.tolist() == expected.values[:, :9].tolist()
    assert nearest.farthest.tolist() == distances.amax(1).tolist()


@pytest.mark.parametrize("size", [1, 7, 16, 50, 64])
@pytest.mark.parametrize("num_query", [1, 7, 20, 49])
def test_features_equal_a_stable_sort_and_keep_what_lies_between(size, num_query):
    # Small whole numbers: float32 products are exact, and ties abound.
    features = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (50, 4)).astype(np.float32))
    between = np.full((num_query, 50 - num_query), np.nan, np.float32)
    nearest = nearest_by_features(features, 8, size, between)
    distances = (features[:, None] - features).square().sum(2)
    expected = distances.sort(dim=1, stable=True)
    assert nearest.indices.tolist() == expected.indices[:, :8].tolist()
    assert nearest.distances.tolist() == expected.values[:, :8].tolist()
    assert nearest.farthest.tolist() == distances.amax(1).tolist()
    assert between.tolist() == distances[:num_query, num_query:].tolist()


def test_smallest_of_a_row_that_is_all_alike():
    values, indices = smallest(torch.zeros(3, 1000), 5)
    assert indices.tolist() == [[0, 1, 2, 3, 4]] * 3 and values.tolist() == [[0.0] * 5] * 3


def test_fewer_columns_than_neighbours():
    values, indices = smallest(torch.tensor([[2.0, 1.0]]), 5)
    assert values.tolist() == [[1.0, 2.0]] and indices.tolist() == [[1, 0]]
