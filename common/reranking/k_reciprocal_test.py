"""Re-ranking against the paper's definitions written out with sets and loops, in float64."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.metrics import ScoringError
from common.reranking import k_reciprocal, k_reciprocal_distances, k_reciprocal_from_distances


def plain(query_gallery, query_query, gallery_gallery, k1, k2, lambda_value):
    """Zhong et al., CVPR 2017, Sec. 3, on squared distances; every row is divided by its largest value."""
    whole = np.block([[query_query, query_gallery], [query_gallery.T, gallery_gallery]]).astype(np.float64)
    count, num_query = len(whole), len(query_query)
    normalised = whole / whole.max(1, keepdims=True)
    ranking = [sorted(range(count), key=lambda other, row=row: (whole[row][other], other)) for row in range(count)]

    def reciprocal(item, k):  # eq. 2; the item itself is the first of its k + 1 neighbours
        return {other for other in ranking[item][: k + 1] if item in ranking[other][: k + 1]}

    weights = np.zeros((count, count))
    for item in range(count):
        members = reciprocal(item, k1)
        expanded = set(members)
        for candidate in members:  # eq. 3
            half = reciprocal(candidate, int(np.around(k1 / 2)))
            if len(half & members) > 2 / 3 * len(half):
                expanded |= half
        for other in expanded:  # eq. 7
            weights[item, other] = math.exp(-normalised[item, other])
        weights[item] /= weights[item].sum()
    weights = np.stack([weights[ranking[item][:k2]].mean(0) for item in range(count)])  # eq. 11

    final = np.zeros(query_gallery.shape)
    for query in range(num_query):
        for image in range(count - num_query):
            shared = np.minimum(weights[query], weights[num_query + image]).sum()  # eq. 10
            jaccard = 1 - shared / (2 - shared)
            final[query, image] = (1 - lambda_value) * jaccard + lambda_value * normalised[query, num_query + image]
    return final


def squared_distances(one, other):
    return ((one[:, None].astype(np.float64) - other) ** 2).sum(2)


def distances_of(query, gallery):
    return squared_distances(query, gallery), squared_distances(query, query), squared_distances(gallery, gallery)


def clusters(seed, num_query=12, num_gallery=60, dim=6, whole_numbers=False):
    """Features of a few persons; integers are exact in float32 and tie often."""
    rng = np.random.default_rng(seed)
    centres = 4 * rng.normal(size=(7, dim))
    query = centres[rng.integers(0, 7, num_query)] + rng.normal(size=(num_query, dim))
    gallery = centres[rng.integers(0, 7, num_gallery)] + rng.normal(size=(num_gallery, dim))
    if whole_numbers:
        query, gallery = query.round(), gallery.round()
    return query.astype(np.float32), gallery.astype(np.float32)


@pytest.mark.parametrize(
    ("k1", "k2", "lambda_value"), [(20, 6, 0.3), (7, 3, 0.5), (5, 1, 0.0), (3, 9, 1.0), (1, 1, 0.3)]
)
@pytest.mark.parametrize("whole_numbers", [False, True])
def test_equals_the_plain_reference(k1, k2, lambda_value, whole_numbers, monkeypatch):
    options = {"k1": k1, "k2": k2, "lambda_value": lambda_value}
    for seed in range(12):
        monkeypatch.setattr(k_reciprocal, "BLOCK", (2048, 17, 30)[seed % 3])
        monkeypatch.setattr(k_reciprocal, "ROW_BYTES", (2**25, 1)[seed % 2])
        monkeypatch.setattr(k_reciprocal, "PAIRS", (2**13, 3)[seed % 2])
        query, gallery = clusters(seed, whole_numbers=whole_numbers)
        expected = plain(*distances_of(query, gallery), **options)
        found = k_reciprocal_distances(query, gallery, **options)
        assert found.dtype == np.float32 and found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=1e-5)
        given = distances_of(query, gallery)
        from_distances = k_reciprocal_from_distances(*given, **options)
        assert from_distances.dtype == np.float32
        np.testing.assert_allclose(from_distances, expected, atol=1e-5)
        np.testing.assert_array_equal(given[0], squared_distances(query, gallery))  # left as they are


def test_takes_tensors_and_half_precision():
    query, gallery = clusters(0, whole_numbers=True)
    expected = k_reciprocal_distances(query, gallery)
    found = k_reciprocal_distances(torch.from_numpy(query).half(), torch.from_numpy(gallery).half().requires_grad_())
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_order_of_queries_and_gallery_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    query, gallery = clusters(seed)
    rows, columns = rng.permutation(len(query)), rng.permutation(len(gallery))
    shuffled = k_reciprocal_distances(query[rows], gallery[columns])
    np.testing.assert_allclose(shuffled, k_reciprocal_distances(query, gallery)[rows][:, columns], atol=1e-5)
    assert (shuffled >= 0).all() and (shuffled <= 1 + 1e-6).all()


def test_lambda_one_keeps_the_original_ranking():
    query, gallery = clusters(3)
    found = k_reciprocal_distances(query, gallery, lambda_value=1.0)
    between = squared_distances(query, gallery)
    assert (found.argsort(1, kind="stable") == between.astype(np.float32).argsort(1, kind="stable")).all()


def test_all_features_equal():
    # Every distance is 0 and ties rank by index: everyone's neighbours are items 0 to 5 (three of them queries). The
    # others are in no list, so they have no reciprocal neighbours and share no weight with a query.
    query, gallery = np.ones((3, 4)), np.ones((30, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alone = k_reciprocal_distances(query, gallery, k1=5, k2=1)
        averaged = k_reciprocal_distances(query, gallery, k1=5, k2=2)  # every row becomes the mean of items 0 and 1
    np.testing.assert_allclose(alone, np.tile([0.0] * 3 + [0.7] * 27, (3, 1)), atol=1e-6)
    np.testing.assert_allclose(averaged, np.zeros((3, 30)), atol=1e-6)


def test_k1_larger_than_the_gallery_shrinks_with_a_warning():
    query, gallery = clusters(0, num_query=3, num_gallery=6)
    with pytest.warns(UserWarning, match="k1 is 20, but the gallery has only 6"):
        found = k_reciprocal_distances(query, gallery)
    np.testing.assert_allclose(found, k_reciprocal_distances(query, gallery, k1=6), atol=1e-7)


@pytest.mark.parametrize(
    ("query", "gallery", "options", "message"),
    [
        (np.ones((2, 4)), np.ones((2, 5)), {}, r"\(2, 4\) and \(2, 5\)"),
        (np.ones((2, 4)), np.array([[1.0] * 4, [np.nan] * 4]), {}, "gallery_features: NaN in row 1"),
        (np.ones((0, 4)), np.ones((2, 4)), {}, "0 queries"),
        (np.ones((2, 4)), np.ones((2, 4)), {"k1": 0}, "k1 >= 1"),
        (np.ones((2, 4)), np.ones((2, 4)), {"lambda_value": 1.5}, "lambda_value"),
    ],
)
def test_bad_features_are_refused(query, gallery, options, message):
    with pytest.raises(ScoringError, match=message):
        k_reciprocal_distances(query, gallery, **({"k1": 1} | options))


@pytest.mark.parametrize(
    ("query_gallery", "query_query", "message"),
    [
        (np.ones((2, 3)), np.ones((3, 3)), r"got shapes \(\(2, 3\), \(3, 3\), \(3, 3\)\)"),
        (np.ones(3), np.ones((2, 2)), "must be"),
        (np.array([[1.0] * 3, [1.0, np.inf, 1.0]]), np.ones((2, 2)), "query_gallery: infinity in row 1"),
        (np.ones((0, 3)), np.ones((0, 0)), "0 queries"),
    ],
)
def test_bad_distances_are_refused(query_gallery, query_query, message):
    with pytest.raises(ScoringError, match=message):
        k_reciprocal_from_distances(query_gallery, query_query, np.ones((3, 3)), k1=1)
