"""The code that the benchmark compares with computes the same."""

import numpy as np
import pytest

from benchmarks.speed.compiled_scoring import compile_scoring, compiler
from benchmarks.speed.plain_scoring import rerank_dense, score_with_loop, squared_distances
from common.metrics import score_ranking
from common.reranking import k_reciprocal_distances


def _features(seed):
    rng = np.random.default_rng(seed)
    centres = 3 * rng.normal(size=(9, 8))
    ids = rng.integers(0, 9, 15), rng.integers(-1, 9, 80)
    query, gallery = (centres[i] + rng.normal(size=(len(i), 8)) for i in ids)
    cameras = rng.integers(0, 3, 15), rng.integers(0, 3, 80)
    return query.astype(np.float32), gallery.astype(np.float32), *ids, *cameras


@pytest.mark.parametrize("seed", range(5))
def test_plain_scoring_and_reranking_give_our_numbers(seed):
    query, gallery, *labels = _features(seed)
    distances = squared_distances(query, gallery)
    expected = score_ranking(distances, *labels)
    for whole_arrays in (False, True):
        rank1, mean_precision = score_with_loop(distances, *labels, whole_arrays=whole_arrays)
        assert rank1 == pytest.approx(expected.cmc[0]) and mean_precision == pytest.approx(expected.mAP, abs=1e-9)
    if compiler():
        rank1, mean_precision = compile_scoring()(distances, *labels)
        assert rank1 == pytest.approx(expected.cmc[0]) and mean_precision == pytest.approx(expected.mAP, abs=1e-9)
    dense = rerank_dense(distances, squared_distances(query, query), squared_distances(gallery, gallery))
    np.testing.assert_allclose(dense, k_reciprocal_distances(query, gallery), atol=1e-5)


@pytest.mark.skipif(not compiler(), reason="no C compiler")
def test_compiled_code_breaks_ties_by_position():
    rng = np.random.default_rng(0)
    distances = rng.integers(0, 5, (20, 500)).astype(np.float32)
    labels = rng.integers(0, 9, 20), rng.integers(-1, 9, 500), rng.integers(0, 3, 20), rng.integers(0, 3, 500)
    expected = score_ranking(distances, *labels)
    assert compile_scoring()(distances, *labels) == pytest.approx((expected.cmc[0], expected.mAP), abs=1e-12)
