"""Scoring and re-ranking as re-ID code bases usually write them: a loop over queries, and dense N x N matrices.

`python -m benchmarks speed` compares our code with them in speed, memory and results. Nothing else uses them.
"""

import numpy as np


def score_with_loop(distances, query_ids, gallery_ids, query_cameras, gallery_cameras, *, whole_arrays: bool = False):
    """(CMC at rank 1, mAP) by the Market-1501 rule; distances: (Q, G).

    One query at a time, with a Python list for the precision at every rank, as is common; whole_arrays: with numpy.
    """
    order = np.argsort(distances, axis=1)
    first_hits, precisions = [], []
    for query in range(len(distances)):
        ranking = order[query]
        same = gallery_ids[ranking] == query_ids[query]
        own_camera = same & (gallery_cameras[ranking] == query_cameras[query])
        hits = same[~own_camera & (gallery_ids[ranking] != -1)].astype(np.int64)
        if not hits.any():
            continue
        found = hits.cumsum()
        if whole_arrays:
            precision = found / np.arange(1, len(found) + 1)
        else:
            precision = np.asarray([count / (place + 1.0) for place, count in enumerate(found)])
        first_hits.append(hits[0])
        precisions.append((precision * hits).sum() / hits.sum())
    return float(np.mean(first_hits)), float(np.mean(precisions))


def rerank_dense(query_gallery, query_query, gallery_gallery, k1: int = 20, k2: int = 6, lambda_value: float = 0.3):
    """(Q, G) re-ranked distances from squared ones, with dense matrices and a Python loop over images."""
    num_query = len(query_query)
    original = np.block([[query_query, query_gallery], [query_gallery.T, gallery_gallery]]).astype(np.float32)
    original = (original / original.max(axis=0)).T
    ranking = np.argsort(original)
    weights = np.zeros_like(original)
    count, half = len(original), int(np.around(k1 / 2))
    for item in range(count):
        members = _reciprocal(ranking, item, k1)
        expanded = [members]
        for candidate in members:
            theirs = _reciprocal(ranking, candidate, half)
            if len(np.intersect1d(theirs, members)) > 2 / 3 * len(theirs):
                expanded.append(theirs)
        expanded = np.unique(np.concatenate(expanded))
        weight = np.exp(-original[item, expanded])
        weights[item, expanded] = weight / weight.sum()
    original = original[:num_query]
    if k2 > 1:
        weights = np.stack([weights[ranking[item, :k2]].mean(axis=0) for item in range(count)])
    holders = [np.flatnonzero(weights[:, column]) for column in range(count)]
    jaccard = np.zeros_like(original)
    for query in range(num_query):
        shared = np.zeros(count, np.float32)
        for column in np.flatnonzero(weights[query]):
            rows = holders[column]
            shared[rows] += np.minimum(weights[query, column], weights[rows, column])
        jaccard[query] = 1 - shared / (2 - shared)
    return ((1 - lambda_value) * jaccard + lambda_value * original)[:, num_query:]


def _reciprocal(ranking: np.ndarray, item: int, k: int) -> np.ndarray:
    forward = ranking[item, : k + 1]
    backward = ranking[forward, : k + 1]
    return forward[np.flatnonzero((backward == item).any(axis=1))]


def squared_distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(n, m) float32."""
    return (one**2).sum(1)[:, None] + (other**2).sum(1)[None] - 2 * one @ other.T
