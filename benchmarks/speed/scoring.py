"""Speed and memory of scoring and re-ranking at Market-1501's size against the usual code.

Part of `make speed`. `python -m benchmarks.speed.scoring --images 93820 --queries 11659` re-ranks as many images as
MSMT17 has, without the usual code (whose matrices would not fit in memory). Memory is read from Linux's /proc.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from common.metrics import score_features, score_ranking
from common.metrics.distances import exact_products
from common.reranking import k_reciprocal_distances

from .comparison import Work, compare, megabytes, reset_peak
from .compiled_scoring import compile_scoring, compiler
from .plain_scoring import rerank_dense, score_with_loop, squared_distances

DIMENSION = 2048
NOISE = 2.9  # of features around their person's centre; gives an mAP near 0.8
QUERIES, MATCHES, DISTRACTORS, JUNK = 3_368, 13_115, 2_798, 3_819  # Market-1501
PERSONS, CAMERAS = 750, 6


@dataclass(frozen=True)
class Case:
    query: np.ndarray  # (Q, D)
    gallery: np.ndarray  # (G, D)
    labels: tuple[np.ndarray, ...]  # query ids, gallery ids, query cameras, gallery cameras


def make_case(queries: int = QUERIES, gallery: int = MATCHES + DISTRACTORS + JUNK) -> Case:
    """Normalised features with ids, cameras, junk and distractors in Market-1501's proportions."""
    rng = np.random.default_rng(0)
    distractors, junk = (round(gallery * part / (MATCHES + DISTRACTORS + JUNK)) for part in (DISTRACTORS, JUNK))
    persons = max(2, round(PERSONS * queries / QUERIES))
    query_ids = np.sort(rng.integers(1, persons + 1, queries))
    found = np.sort(rng.integers(1, persons + 1, gallery - distractors - junk))
    gallery_ids = np.concatenate([found, np.zeros(distractors, np.int64), np.full(junk, -1)])
    centres = rng.standard_normal((2 * persons + 1, DIMENSION), dtype=np.float32)

    def features(ids: np.ndarray) -> np.ndarray:
        shown = np.where(ids > 0, ids, rng.integers(persons + 1, len(centres), len(ids)))
        values = centres[shown] + NOISE * rng.standard_normal((len(ids), DIMENSION), dtype=np.float32)
        return values / np.linalg.norm(values, axis=1, keepdims=True)

    cameras = (rng.integers(1, CAMERAS + 1, len(ids)) for ids in (query_ids, gallery_ids))
    return Case(features(query_ids), features(gallery_ids), (query_ids, gallery_ids, *cameras))


def _matrix(case: Case) -> np.ndarray:
    return squared_distances(case.query, case.gallery)


def _matrix_and_code(case: Case) -> tuple[np.ndarray, Callable]:
    return _matrix(case), compile_scoring()


def _product(case: Case, _) -> np.ndarray:
    with exact_products():
        return (torch.from_numpy(case.query) @ torch.from_numpy(case.gallery).T)[:1].numpy()


def _scores(scores) -> np.ndarray:
    return np.array([scores.cmc[0], scores.mAP])


def _usual_loop(case: Case, ready) -> np.ndarray:
    return np.array(score_with_loop(ready, *case.labels))


def _array_loop(case: Case, ready) -> np.ndarray:
    return np.array(score_with_loop(ready, *case.labels, whole_arrays=True))


def _compiled(case: Case, ready) -> np.ndarray:
    matrix, score = ready
    return np.array(score(matrix, *case.labels))


def _our_ranking(case: Case, ready) -> np.ndarray:
    return _scores(score_ranking(ready, *case.labels))


def _our_features(case: Case, _) -> np.ndarray:
    return _scores(score_features(case.query, case.gallery, *case.labels))


def _dense(case: Case, _) -> np.ndarray:
    query, gallery = case.query, case.gallery
    return rerank_dense(_matrix(case), squared_distances(query, query), squared_distances(gallery, gallery))


def _sparse(case: Case, _) -> np.ndarray:
    return k_reciprocal_distances(case.query, case.gallery)


SCORING = {
    "product": Work("the product of features alone", _product, repeats=3),
    "loop": Work("usual loop, ready distances", _usual_loop, _matrix),
    "array loop": Work("loop with whole-array precision, ready distances", _array_loop, _matrix, repeats=3),
    "compiled": Work(
        "compiled code with a sort per query, ready distances",
        _compiled,
        _matrix_and_code,
        repeats=3,
        missing="" if compiler() else "there is no C compiler here",
    ),
    "ranking": Work(
        "score_ranking, ready distances", _our_ranking, _matrix, ("loop", "array loop", "compiled"), repeats=9
    ),
    "busy": Work(
        "score_ranking with one busy competitor", _our_ranking, _matrix, ("ranking",), repeats=9, competitor=True
    ),
    "features": Work("score_features, from features", _our_features, None, ("product",), repeats=3),
}
RERANKING = {
    "dense": Work("dense code, from features", _dense),
    "sparse": Work("k_reciprocal_distances", _sparse, None, ("dense",), repeats=3),
}


def compare_at_full_size(works: dict[str, Work], what: str) -> str:
    return compare(works, make_case, f"{what}, {QUERIES:,} x {MATCHES + DISTRACTORS + JUNK:,}, {DIMENSION}-d")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.scoring", description=__doc__)
    parser.add_argument("--images", type=int, required=True, help="queries and gallery together")
    parser.add_argument("--queries", type=int, required=True)
    arguments = parser.parse_args(argv)
    case = make_case(arguments.queries, arguments.images - arguments.queries)
    reset_peak()
    before, started = megabytes("VmRSS"), time.monotonic()
    k_reciprocal_distances(case.query, case.gallery)
    seconds, extra = time.monotonic() - started, megabytes("VmHWM") - before
    print(f"re-ranking {arguments.images:,} images: {seconds:.0f} s, {extra / 1024:.1f} GiB besides the features")


if __name__ == "__main__":
    main()
