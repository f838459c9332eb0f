"""Speed and memory of scoring and re-ranking at Market-1501's size against the usual code, each in its own process.

Part of `make speed`. `python -m benchmarks.speed.scoring --images 93820 --queries 11659` re-ranks as many images as
MSMT17 has, without the usual code (whose matrices would not fit in memory). Memory is read from Linux's /proc.
"""

import argparse
import ctypes
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate

from common.metrics import score_features, score_ranking
from common.metrics.distances import exact_products
from common.reranking import k_reciprocal_distances

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


def _product(case: Case, _) -> np.ndarray:
    with exact_products():
        return (torch.from_numpy(case.query) @ torch.from_numpy(case.gallery).T)[:1].numpy()


def _scores(scores) -> np.ndarray:
    return np.array([scores.cmc[0], scores.mAP])


def _usual_loop(case: Case, ready) -> np.ndarray:
    return np.array(score_with_loop(ready, *case.labels))


def _array_loop(case: Case, ready) -> np.ndarray:
    return np.array(score_with_loop(ready, *case.labels, whole_arrays=True))


def _our_ranking(case: Case, ready) -> np.ndarray:
    return _scores(score_ranking(ready, *case.labels))


def _our_features(case: Case, _) -> np.ndarray:
    return _scores(score_features(case.query, case.gallery, *case.labels))


def _dense(case: Case, _) -> np.ndarray:
    query, gallery = case.query, case.gallery
    return rerank_dense(_matrix(case), squared_distances(query, query), squared_distances(gallery, gallery))


def _sparse(case: Case, _) -> np.ndarray:
    return k_reciprocal_distances(case.query, case.gallery)


@dataclass(frozen=True)
class Work:
    """work: what is timed, given the case and the result of `prepare`; against: the row to compare with."""

    title: str
    work: Callable
    prepare: Callable | None = None
    against: str | None = None


SCORING = {
    "product": Work("the product of features alone", _product),
    "loop": Work("usual loop, ready distances", _usual_loop, _matrix),
    "array loop": Work("loop with whole-array precision, ready distances", _array_loop, _matrix),
    "ranking": Work("score_ranking, ready distances", _our_ranking, _matrix, "loop"),
    "features": Work("score_features, from features", _our_features, None, "product"),
}
RERANKING = {
    "dense": Work("dense code, from features", _dense),
    "sparse": Work("k_reciprocal_distances", _sparse, None, "dense"),
}


def _megabytes(field: str) -> float:
    """VmRSS (current) or VmHWM (peak since `_reset_peak`) of this process; Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(field + ":"))


def _reset_peak() -> None:
    """Return freed memory to the system and reset the peak, so that new allocations show."""
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:  # glibc
        trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def _measure(work: Work, repeats: int, file: str) -> None:
    """Run in its own process. Writes the seconds of the fastest repeat and the extra memory of the first to a file."""
    case = make_case()
    ready = work.prepare(case) if work.prepare else None
    seconds, extra = [], 0.0
    for repeat in range(repeats):
        _reset_peak()
        before, started = _megabytes("VmRSS"), time.monotonic()
        result = work.work(case, ready)
        seconds.append(time.monotonic() - started)
        if repeat == 0:
            extra = _megabytes("VmHWM") - before
    np.savez(file, seconds=min(seconds), extra=extra, result=result)


def compare(works: dict[str, Work], what: str) -> str:
    """A table of all rows, with their ratios to the rows that they are compared with."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, work in works.items():
            file = f"{folder}/result.npz"
            repeats = 1 if work.against is None and name != "product" else 3
            process = multiprocessing.get_context("spawn").Process(target=_measure, args=(work, repeats, file))
            process.start()
            process.join()
            if process.exitcode:
                raise RuntimeError(f"{work.title} ended with exit code {process.exitcode}")
            with np.load(file) as values:
                found[name] = {key: values[key] for key in values.files}
            print(f"{name}: {float(found[name]['seconds']):.2f} s", file=sys.stderr, flush=True)
    rows = []
    for name, work in works.items():
        own = found[name]
        row = [work.title, f"{float(own['seconds']):.2f}", f"{float(own['extra']):,.0f}", "", "", ""]
        if work.against:
            other = found[work.against]
            ratio, memory = (float(other[key] / max(own[key], 1e-9)) for key in ("seconds", "extra"))
            row[3] = f"{ratio:.1f} x as fast as '{works[work.against].title}'"
            if own["result"].shape == other["result"].shape:
                row[4] = f"1/{memory:.0f}" if memory >= 1 else f"{1 / memory:.1f} x"
                row[5] = f"{np.abs(own['result'] - other['result']).max():.1e}"
        rows.append(row)
    title = (
        f"\n{what}, {QUERIES:,} x {MATCHES + DISTRACTORS + JUNK:,}, {DIMENSION}-d, {torch.get_num_threads()} threads"
    )
    heads = ["what", "seconds", "extra MB", "against", "memory", "largest difference"]
    return title + "\n" + tabulate(rows, heads, disable_numparse=True)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.scoring", description=__doc__)
    parser.add_argument("--images", type=int, required=True, help="queries and gallery together")
    parser.add_argument("--queries", type=int, required=True)
    arguments = parser.parse_args(argv)
    case = make_case(arguments.queries, arguments.images - arguments.queries)
    _reset_peak()
    before, started = _megabytes("VmRSS"), time.monotonic()
    k_reciprocal_distances(case.query, case.gallery)
    seconds, extra = time.monotonic() - started, _megabytes("VmHWM") - before
    print(f"re-ranking {arguments.images:,} images: {seconds:.0f} s, {extra / 1024:.1f} GiB besides the features")


if __name__ == "__main__":
    main()
