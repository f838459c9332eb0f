"""Retrieval scores: CMC, mAP and mINP, computed in query blocks without a loop over queries.

CMC and the `step` average precision are those of nearly all re-ID code bases; `trapezoid` is `compute_AP.m` of the
Market-1501 tool box (Zheng et al., ICCV 2015); mINP is Ye et al., "Deep Learning for Person Re-identification: A Survey
and Outlook", TPAMI 2021 (arXiv 2001.04193), Sec. III-A.

How it is fast: a query needs the ranks of its few true matches, not the whole ranking. Its wrong answers are sorted by
distance alone (no indices), the true matches are looked up among them, and only queries with exact ties take a
second sort.

Shapes: Q queries, G gallery images, B queries of one block, M true matches of the query that has most, D dimensions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from common.datasets.base import JUNK
from common.errors import UserError
from common.feature_distances import METRICS, DistanceBlocks, exact_products

BLOCK_MEMORY = 2**26  # bytes that a block may use; larger ones are no faster


class ScoringError(UserError, ValueError):
    """Input that no score can be computed from."""


@dataclass(frozen=True)
class RankingScores:
    """cmc: (max_rank,) float64, fraction of valid queries with a true match at rank 1..max_rank. All in [0, 1]."""

    cmc: np.ndarray
    mAP: float
    mINP: float
    num_valid_queries: int


def score_ranking(
    distances,
    query_ids,
    gallery_ids,
    query_cameras,
    gallery_cameras,
    *,
    protocol: str = "market1501",
    average_precision: str = "step",
    max_rank: int = 50,
) -> RankingScores:
    """Scores of a ready distance matrix; equal distances rank by gallery index.

    distances: (Q, G) array or tensor, small = similar, ranked in float64 if it is float64 or integer, else in float32.
    ids, cameras: (Q,) or (G,) integers. Raises ScoringError for NaN or infinity, wrong shapes, unknown names, and when
    no query has a true match.
    """
    if not isinstance(distances, Tensor):
        distances = np.asarray(distances)
    if distances.ndim != 2:
        raise ScoringError(f"distances must be (num_query, num_gallery), got shape {tuple(distances.shape)}")
    labels = _Labels.check(
        query_ids, gallery_ids, query_cameras, gallery_cameras, distances.shape, getattr(distances, "device", "cpu")
    )
    return _score_blocks(
        lambda rows: _floats(distances[rows]), labels, BLOCK_MEMORY, protocol, average_precision, max_rank
    )


def score_features(
    query_features,
    gallery_features,
    query_ids,
    gallery_ids,
    query_cameras,
    gallery_cameras,
    *,
    metric: str = "euclidean",
    protocol: str = "market1501",
    average_precision: str = "step",
    max_rank: int = 50,
    memory_limit: int = 2**30,
) -> RankingScores:
    """Scores of features, (Q, D) and (G, D) arrays or tensors, without ever holding the (Q, G) matrix.

    metric: `euclidean` (ranked by squared distances, the same order) or `cosine`. Distances are float32 with TF32 off,
    or float64 where the features are. memory_limit: bytes beside the inputs, down to what one query needs. Another
    limit groups the products otherwise, so distances may differ in their last bits. Raises as `score_ranking` does.
    """
    if metric not in METRICS:
        raise ScoringError(f"unknown metric {metric!r}; known: {', '.join(METRICS)}")
    query, gallery = (
        values.detach() if isinstance(values, Tensor) else _floats(np.asarray(values))
        for values in (query_features, gallery_features)
    )
    if query.ndim != 2 or gallery.ndim != 2 or query.shape[1] != gallery.shape[1]:
        raise ScoringError(
            "query_features and gallery_features must be (num_query, dim) and (num_gallery, dim), "
            f"got shapes {tuple(query.shape)} and {tuple(gallery.shape)}"
        )
    shape = (len(query), len(gallery))
    labels = _Labels.check(query_ids, gallery_ids, query_cameras, gallery_cameras, shape, gallery.device)
    for name, features in (("query_features", query), ("gallery_features", gallery)):
        _refuse_non_finite(features, name)
    with exact_products():
        block = DistanceBlocks(query.to(gallery.device), gallery, metric, memory_limit // 4)
        memory = min(memory_limit // 2, BLOCK_MEMORY)
        return _score_blocks(block, labels, memory, protocol, average_precision, max_rank)


def _market1501(query_ids: Tensor, query_cameras: Tensor, gallery_ids: Tensor, gallery_cameras: Tensor) -> Tensor:
    """Junk, and the query's own person in the query's own camera. Zheng et al., ICCV 2015, Sec. 5."""
    return (query_ids == gallery_ids) & (query_cameras == gallery_cameras) | (gallery_ids == JUNK)


# A protocol is what it takes out of a query's gallery: ids and cameras, (B, 1) and (G,) -> (B, G) bool.
EXCLUSIONS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {"market1501": _market1501}

# At each true match, `found` true matches lie within the first `rank` answers (both count from 1).
PRECISIONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "step": lambda found, rank: found / rank,
    # compute_AP.m: the mean of the precision here and one rank earlier, which is 1 before the first rank.
    "trapezoid": lambda found, rank: (found / rank + np.where(rank > 1, (found - 1) / np.maximum(rank - 1, 1), 1)) / 2,
}


@dataclass(frozen=True)
class _Labels:
    """(Q,) and (G,) integer tensors on the distances' device."""

    query_ids: Tensor
    gallery_ids: Tensor
    query_cameras: Tensor
    gallery_cameras: Tensor

    @classmethod
    def check(cls, query_ids, gallery_ids, query_cameras, gallery_cameras, shape, device) -> "_Labels":
        num_query, num_gallery = shape
        if not num_query or not num_gallery:
            raise ScoringError(f"nothing to rank: {num_query} queries and {num_gallery} gallery images")
        given = {
            "query_ids": (query_ids, num_query),
            "gallery_ids": (gallery_ids, num_gallery),
            "query_cameras": (query_cameras, num_query),
            "gallery_cameras": (gallery_cameras, num_gallery),
        }
        return cls(**{name: cls._column(name, values, count, device) for name, (values, count) in given.items()})

    @staticmethod
    def _column(name: str, values, count: int, device) -> Tensor:
        values = values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
        if values.shape != (count,):
            raise ScoringError(f"{name} has shape {values.shape}, but the distances or features need {(count,)}")
        if not np.issubdtype(values.dtype, np.integer):
            raise ScoringError(f"{name} must be integers, got {values.dtype}")
        small = np.abs(values.astype(np.int64)).max() < 2**31  # half the memory traffic of every comparison
        return torch.from_numpy(values.astype(np.int32 if small else np.int64)).to(device)

    def no_valid_query(self) -> ScoringError:
        def some(values: Tensor) -> str:
            found = torch.unique(values).tolist()
            return f"{', '.join(map(str, found[:10]))}{', ...' if len(found) > 10 else ''} ({len(found)})"

        return ScoringError(
            "no query has a true match in the gallery that the protocol admits. "
            f"Queries: ids {some(self.query_ids)}, cameras {some(self.query_cameras)}; "
            f"gallery: ids {some(self.gallery_ids)}, cameras {some(self.gallery_cameras)}. "
            "Were ids relabelled for one of them, or is every image in one camera?"
        )


def _score_blocks(
    distance_block: Callable[[slice], Tensor],
    labels: _Labels,
    memory: int,
    protocol: str,
    average_precision: str,
    max_rank: int,
) -> RankingScores:
    for what, name, known in (
        ("protocol", protocol, EXCLUSIONS),
        ("average_precision", average_precision, PRECISIONS),
    ):
        if name not in known:
            raise ScoringError(f"unknown {what} {name!r}; known: {', '.join(known)}")
    if max_rank < 1:
        raise ScoringError(f"max_rank must be at least 1, got {max_rank}")

    num_query, num_gallery = len(labels.query_ids), len(labels.gallery_ids)
    most_matches = int(torch.unique(labels.gallery_ids, return_counts=True)[1].max())
    # Masks, copies, sorts and the int64 keys of ties for each distance, and what each true match needs (measured).
    size = max(1, memory // (56 * num_gallery + 64 * most_matches))
    first_ranks, precisions, penalties = [], [], []
    for start in range(0, num_query, size):
        rows = slice(start, min(start + size, num_query))
        distances = distance_block(rows)
        _refuse_non_finite(distances, "distances", start)
        ids = labels.query_ids[rows, None]
        same = ids == labels.gallery_ids
        excluded = EXCLUSIONS[protocol](
            ids, labels.query_cameras[rows, None], labels.gallery_ids, labels.gallery_cameras
        )
        ranks, counts = _match_ranks(distances, same & ~excluded, ~(same | excluded))
        counts = counts[counts > 0]
        if len(counts):
            ends = counts.cumsum()
            starts = ends - counts
            found = np.arange(1, len(ranks) + 1) - np.repeat(starts, counts)
            first_ranks.append(ranks[starts])
            precisions.append(np.add.reduceat(PRECISIONS[average_precision](found, ranks), starts) / counts)
            penalties.append(counts / ranks[ends - 1])
    if not first_ranks:
        raise labels.no_valid_query()
    first_rank = np.concatenate(first_ranks)
    hits = np.bincount(first_rank[first_rank <= max_rank] - 1, minlength=max_rank)
    return RankingScores(
        cmc=hits.cumsum() / len(first_rank),
        mAP=float(np.concatenate(precisions).mean()),
        mINP=float(np.concatenate(penalties).mean()),
        num_valid_queries=len(first_rank),
    )


def _match_ranks(distances: Tensor, matches: Tensor, wrong: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Ranks of the true matches, counted from 1, among true matches and wrong answers; ties rank by gallery index.

    distances: (B, G); matches, wrong: (B, G) bool. Returns the ranks of all queries in one row, ascending within each
    query, and (B,) the number of true matches of each query.
    """
    counts = matches.sum(1)
    most = int(counts.max())
    row, column = matches.nonzero(as_tuple=True)
    place = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    near = distances.new_full((len(distances), most), torch.inf)
    index = column.new_zeros(near.shape)
    near[row, place], index[row, place] = distances[row, column], column
    near, order = near.sort(dim=1, stable=True)  # `nonzero` gave the columns in order: ties stay by index
    index = index.gather(1, order)
    position = torch.arange(most, device=row.device)
    real = position < counts[:, None]  # infinity pads the rows at their ends

    others = _sort_rows(distances.masked_fill(~wrong, torch.inf))
    before = torch.searchsorted(others, near)
    tied = ((torch.searchsorted(others, near, right=True) > before) & real).any(1).nonzero().squeeze(1)
    if len(tied):
        before[tied] += _earlier_ties(distances[tied], wrong[tied], near[tied], index[tied])
    return (before + position + 1)[real].cpu().numpy(), counts.cpu().numpy()


def _earlier_ties(distances: Tensor, wrong: Tensor, near: Tensor, index: Tensor) -> Tensor:
    """How many wrong answers at exactly a true match's distance come before it in the gallery: (B, M).

    distances: (B, G); wrong: (B, G) bool; near, index: (B, M) distances (ascending) and columns of the true matches.
    """
    num_gallery, most = distances.shape[1], near.shape[1]
    group = torch.searchsorted(near, distances)  # the first true match that is not nearer
    tied = (near.gather(1, group.clamp(max=most - 1)) == distances) & wrong
    keys = group.mul_(num_gallery).add_(torch.arange(num_gallery, device=group.device))  # by group, then by column
    keys = _sort_rows(keys.masked_fill_(~tied, torch.iinfo(keys.dtype).max))
    start = torch.searchsorted(near, near).mul_(num_gallery)
    return torch.searchsorted(keys, start + index) - torch.searchsorted(keys, start)


def _sort_rows(values: Tensor) -> Tensor:
    """(B, G) sorted along G. NumPy's vectorised sort is some 20 times as fast as torch's on CPUs (both measured)."""
    if values.device.type != "cpu":
        return values.sort(dim=1).values
    values.numpy().sort(axis=1)
    return values


def _floats(values) -> Tensor:
    """Float64 from float64 and integers, else float32; no copy where the memory can be shared."""
    if isinstance(values, Tensor):
        values = values.detach()
        keep = values.dtype == torch.float64 or not values.is_floating_point()
        return values.to(torch.float64 if keep else torch.float32)
    keep = values.dtype == np.float64 or not np.issubdtype(values.dtype, np.floating)
    return torch.from_numpy(np.require(values, np.float64 if keep else np.float32, ["C", "W"]))


def _refuse_non_finite(values: Tensor, name: str, first_row: int = 0) -> None:
    """values: (n, m), of which row 0 is row `first_row` of what the user gave as `name`."""
    sums = values.sum(1, dtype=torch.promote_types(values.dtype, torch.float32))
    if sums.isfinite().all():  # a NaN or an infinity would have stayed in the sum
        return
    for row in (~sums.isfinite()).nonzero().squeeze(1).tolist():
        if not values[row].isfinite().all():  # else finite values whose sum overflowed
            kind = "NaN" if values[row].isnan().any() else "infinity"
            raise ScoringError(f"{name}: {kind} in row {first_row + row}; is the model or its input broken?")
