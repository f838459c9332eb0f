"""Ranks of matches against a plain sort of each query's images, by every way of counting."""

from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.metrics import PROTOCOLS, ScoringError, block_ranks, match_ranks, rank_matches, ranking

WAYS = {
    "comparing": (match_ranks.FEW, block_ranks.count_on_cpu),
    "cells": (0, block_ranks.count_on_cpu),
    "device": (match_ranks.FEW, block_ranks.count_on_device),
}


@contextmanager
def counting(way: str, memory: int = ranking.BLOCK_MEMORY, piece: int = block_ranks.PIECE):
    few, count = WAYS[way]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block_ranks, "FEW", few)
        patch.setattr(block_ranks, "count_on_cpu", count)
        patch.setattr(block_ranks, "PIECE", piece)
        patch.setattr(ranking, "BLOCK_MEMORY", memory)
        yield


@pytest.fixture(params=WAYS)
def way(request):
    with counting(request.param):
        yield


def plain_ranks(distances, query_ids, gallery_ids, query_cameras, gallery_cameras, protocol):
    """Ranks, number of matches and CMC's rank of each query with a match, one query and one image after another."""
    rule = PROTOCOLS[protocol]
    left_out = rule.excludes(query_ids, query_cameras, gallery_ids, gallery_cameras)
    all_ranks, all_counts, all_firsts = [], [], []
    for query in range(len(query_ids)):
        images = [item for item in range(len(gallery_ids)) if not left_out[query, item]]
        images.sort(key=lambda item: (distances[query, item], item))
        ids = [gallery_ids[item] for item in images]
        ranks = [rank for rank, person in enumerate(ids, start=1) if person == query_ids[query]]
        if ranks:
            all_ranks += ranks
            all_counts.append(len(ranks))
            all_firsts.append(len(set(ids[: ranks[0]])) if rule.by_identity else ranks[0])
    return all_ranks, all_counts, all_firsts


@st.composite
def cases(draw):
    """From no match to every image a match; from all distances equal to none."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_query, num_gallery = draw(st.integers(1, 12)), draw(st.integers(1, 90))
    persons, cameras = draw(st.sampled_from([1, 2, 5, 60])), draw(st.integers(1, 5))
    shape = num_query, num_gallery
    distinct = draw(st.sampled_from([1, 2, 5, 40, None]))
    distances = rng.normal(size=shape) if distinct is None else rng.integers(0, distinct, shape) / 7 - 0.5
    query_ids, gallery_ids = rng.integers(0, persons, num_query), rng.integers(-1, persons, num_gallery)
    if draw(st.booleans()):
        gallery_ids.sort()  # as files are listed
    labels = query_ids, gallery_ids, rng.integers(0, cameras, num_query), rng.integers(0, cameras, num_gallery)
    return distances.astype(draw(st.sampled_from([np.float32, np.float64]))), *labels


@pytest.mark.parametrize("chosen", WAYS)
@settings(max_examples=200, deadline=None)
@given(
    case=cases(),
    protocol=st.sampled_from(sorted(PROTOCOLS)),
    memory=st.sampled_from([1, 2**13, 2**24]),  # one query a block, some, all
    piece=st.sampled_from([1, 200, 2**17]),
)
def test_equals_a_plain_sort(chosen, case, protocol, memory, piece):
    with counting(chosen, memory, piece):
        ranks, counts, firsts = plain_ranks(*case, protocol)
        if not counts:
            with pytest.raises(ScoringError, match="no query has a match"):
                rank_matches(*case, protocol=protocol)
            return
        found = rank_matches(*case, protocol=protocol)
    assert found.ranks.tolist() == ranks
    assert found.counts.tolist() == counts
    assert found.first_ranks.tolist() == firsts


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("num_gallery", [2039, 2040, 2041, 20_000])
@pytest.mark.parametrize("distinct", [50, 2**40])
def test_large_galleries(way, num_gallery, distinct, dtype):
    rng = np.random.default_rng(num_gallery)
    distances = rng.integers(0, distinct, (6, num_gallery)).astype(dtype)
    gallery_ids = rng.integers(0, num_gallery // 20, num_gallery)
    gallery_ids[rng.permutation(num_gallery)[:300]] = 1  # many matches for two of the queries
    labels = [1, 2, 3, 4, 1, 5], gallery_ids, np.zeros(6, int), np.ones(num_gallery, int)
    found = rank_matches(distances, *labels)
    expected = []
    for query, row in zip(labels[0], distances, strict=True):
        place = np.empty(num_gallery, int)
        place[np.argsort(row, kind="stable")] = np.arange(1, num_gallery + 1)
        expected += sorted(place[gallery_ids == query].tolist())
    assert found.ranks.tolist() == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("values", [[0.0, 1.0], [1.0, -1.0, 0.5], [0.0, -0.0, 5e-324], [0.1, np.nextafter(0.1, 1)]])
@pytest.mark.parametrize("scale", ["ordinary", "largest"])
def test_extreme_distances(way, values, scale, dtype):
    rng = np.random.default_rng(0)
    factor = 1 if scale == "ordinary" else np.finfo(dtype).max
    distances = rng.choice(np.array(values), (4, 100)).astype(dtype) * dtype(factor)
    labels = np.array([0, 1, 2, 0]), rng.integers(0, 3, 100), np.zeros(4, int), np.ones(100, int)
    assert rank_matches(distances, *labels).ranks.tolist() == plain_ranks(distances, *labels, "market1501")[0]


@pytest.mark.parametrize("num_gallery", [1, 7, 8, 2039, 2040, 2041, 4080, 50_000])
def test_images_are_counted_beyond_255(num_gallery):
    # All images are nearer than the last one, which is the match.
    distances = np.zeros((1, num_gallery), np.float32)
    distances[0, -1] = 1
    ids = np.arange(num_gallery)
    assert rank_matches(distances, ids[-1:], ids, [0], np.ones_like(ids)).ranks.tolist() == [num_gallery]


def test_the_first_bad_row_of_many_blocks_is_named(monkeypatch):
    monkeypatch.setattr(ranking, "BLOCK_MEMORY", 1)
    distances = np.zeros((40, 3), np.float32)
    distances[[23, 30], 1] = np.nan, np.inf
    ids = np.zeros(40, int)
    with pytest.raises(ScoringError, match="NaN in row 23"):
        rank_matches(distances, ids, [0, 1, 2], ids, [1, 1, 1])
