"""Retrieval scores: CMC, mAP and mINP, computed in query blocks without a loop over queries.

CMC and the `step` average precision are those of nearly all re-ID code bases; `trapezoid` is `compute_AP.m` of the
Market-1501 tool box (Zheng et al., ICCV 2015); `interpolated` is that of object detection at all points, where the
precision at a recall is the highest at that recall or beyond; mINP is Ye et al., "Deep Learning for Person
Re-identification: A Survey and Outlook", TPAMI 2021 (arXiv 2001.04193), Sec. III-A.

Shapes: Q queries, G gallery images, B queries of one block, D dimensions.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from .block_ranks import rank_block
from .distances import DistanceBlocks, exact_products
from .inputs import Labels, ScoringError, as_floats, check_features, refuse_non_finite
from .match_ranks import UFUNC_BUFFER
from .protocols import PROTOCOLS
from .same_person import SamePerson

BLOCK_MEMORY = 2**24  # bytes for ranking a block of queries on one thread; larger blocks are no faster
BYTES_PER_DISTANCE, BYTES_PER_MATCH = 16, 128  # of a block: float64 copies and masks; tables of positions and ranks
PRODUCT_MEMORY = 2**27  # bytes of distances computed at once; smaller products are slower


@dataclass(frozen=True)
class RankingScores:
    """cmc: (max_rank,) float64, fraction of valid queries with a match within rank 1..max_rank. All in [0, 1]."""

    cmc: np.ndarray
    mAP: float
    mINP: float
    num_valid_queries: int


@dataclass(frozen=True)
class RankedMatches:
    """The ranks of the valid queries' matches, from which every score is computed. A valid query has a match.

    ranks: (M,) of all queries' matches, from 1, ascending within each query; counts: (V,) the number of matches of each
    valid query; first_ranks: (V,) the rank that CMC counts; persons: (V,) their ids.
    """

    ranks: np.ndarray
    counts: np.ndarray
    first_ranks: np.ndarray
    persons: np.ndarray

    def scores(self, average_precision: str = "step", max_rank: int = 50) -> RankingScores:
        if max_rank < 1:
            raise ScoringError(f"max_rank must be at least 1, got {max_rank}")
        hits = np.bincount(self.first_ranks[self.first_ranks <= max_rank] - 1, minlength=max_rank)
        return RankingScores(
            cmc=hits.cumsum() / len(self.counts),
            mAP=float(self.average_precisions(average_precision).mean()),
            mINP=float(self.inverse_penalties().mean()),
            num_valid_queries=len(self.counts),
        )

    def average_precisions(self, average_precision: str = "step") -> np.ndarray:
        """(V,), whose mean is mAP."""
        if average_precision not in PRECISIONS:
            raise ScoringError(f"unknown average_precision {average_precision!r}; known: {', '.join(PRECISIONS)}")
        starts = self.counts.cumsum() - self.counts
        found = np.arange(1, len(self.ranks) + 1) - np.repeat(starts, self.counts)
        return np.add.reduceat(PRECISIONS[average_precision](found, self.ranks), starts) / self.counts

    def inverse_penalties(self) -> np.ndarray:
        """(V,), the inverse negative penalties, whose mean is mINP."""
        return self.counts / self.ranks[self.counts.cumsum() - 1]


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
    """Scores of a distance matrix; equal distances rank by gallery index.

    distances: (Q, G) array or tensor, small = similar; ranked in float64 if it is float64 or integer, else in float32.
    ids, cameras: (Q,) or (G,) integers. protocol: a key of PROTOCOLS; average_precision: of PRECISIONS.
    ScoringError: NaN or infinity, wrong shapes, unknown names, or no query with a match.
    """
    matches = rank_matches(distances, query_ids, gallery_ids, query_cameras, gallery_cameras, protocol=protocol)
    return matches.scores(average_precision, max_rank)


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
    """Scores of features, (Q, D) and (G, D) arrays or tensors, without holding the (Q, G) matrix.

    metric: `euclidean` (ranked by squared distances, the same order) or `cosine`. Distances are float32 with TF32 off,
    or float64 where the features are. memory_limit: bytes besides the inputs (at least what one query needs). It
    sets how products are split, so distances may differ in their last bits. Errors: as `score_ranking`.
    """
    matches = rank_feature_matches(
        query_features,
        gallery_features,
        query_ids,
        gallery_ids,
        query_cameras,
        gallery_cameras,
        metric=metric,
        protocol=protocol,
        memory_limit=memory_limit,
    )
    return matches.scores(average_precision, max_rank)


def rank_matches(
    distances, query_ids, gallery_ids, query_cameras, gallery_cameras, *, protocol: str = "market1501"
) -> RankedMatches:
    """As `score_ranking`, but returns the ranks, from which several estimators can be computed."""
    if not isinstance(distances, Tensor):
        distances = np.asarray(distances)
    if distances.ndim != 2:
        raise ScoringError(f"distances must be (num_query, num_gallery), got shape {tuple(distances.shape)}")
    labels = Labels.check(query_ids, gallery_ids, query_cameras, gallery_cameras, distances.shape)
    return _rank_panels([distances], labels, BLOCK_MEMORY, protocol)


def rank_feature_matches(
    query_features,
    gallery_features,
    query_ids,
    gallery_ids,
    query_cameras,
    gallery_cameras,
    *,
    metric: str = "euclidean",
    protocol: str = "market1501",
    memory_limit: int = 2**30,
) -> RankedMatches:
    """As `score_features`, but returns the ranks."""
    query, gallery = check_features(query_features, gallery_features, metric)
    shape = (len(query), len(gallery))
    labels = Labels.check(query_ids, gallery_ids, query_cameras, gallery_cameras, shape)
    with exact_products():
        blocks = DistanceBlocks(query.to(gallery.device), gallery, metric, memory_limit // 4)
        size = max(1, min(memory_limit // 4, PRODUCT_MEMORY) // (blocks.dtype.itemsize * len(gallery)))
        panels = (blocks(slice(start, start + size)) for start in range(0, len(query), size))
        return _rank_panels(panels, labels, min(memory_limit // 4 // torch.get_num_threads(), BLOCK_MEMORY), protocol)


def _interpolated(found: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """At each match the highest precision at it or at a later one of its query."""
    precision = found / rank
    order = precision.argsort()
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    query = len(order) * (found == 1).cumsum()
    # From the last match to the first, each query begins above all of the one after it.
    highest = np.maximum.accumulate((place - query)[::-1])[::-1] + query
    return precision[order[highest]]


# At each match, `found` matches are among the first `rank` images (both count from 1).
PRECISIONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "step": lambda found, rank: found / rank,
    # compute_AP.m: the mean of the precision here and one rank earlier, which is 1 before the first rank.
    "trapezoid": lambda found, rank: (found / rank + np.where(rank > 1, (found - 1) / np.maximum(rank - 1, 1), 1)) / 2,
    "interpolated": _interpolated,
}


def _rank_panels(panels: Iterable, labels: Labels, memory: int, protocol: str) -> RankedMatches:
    """panels: each the (n, G) distances of the next n queries, array or tensor; memory: bytes for ranking a block.

    Blocks are shared out to threads, each of which runs NumPy: a busy core then delays one block. Torch's own threads
    would wait for each other in every operation.
    """
    if protocol not in PROTOCOLS:
        raise ScoringError(f"unknown protocol {protocol!r}; known: {', '.join(PROTOCOLS)}")
    rule = PROTOCOLS[protocol]
    people = SamePerson(labels)
    identities = people.identities() if rule.by_identity else None
    size = max(1, memory // (BYTES_PER_DISTANCE * len(labels.gallery_ids) + BYTES_PER_MATCH * int(people.counts.max())))

    def rank(panel, start: int, first_row: int):
        distances = as_floats(panel[start : start + size])
        refuse_non_finite(distances, "distances", first_row + start)
        queries = slice(first_row + start, first_row + start + len(distances))
        images, counts = people.images(queries, rule)
        ranks, firsts = rank_block(distances, images, counts, identities)
        return ranks, counts[counts > 0], firsts[counts > 0], labels.query_ids[queries][counts > 0]

    found, first_row = [], 0
    with ThreadPoolExecutor(torch.get_num_threads(), initializer=np.setbufsize, initargs=(UFUNC_BUFFER,)) as pool:
        for panel in panels:
            on_device = isinstance(panel, Tensor) and not panel.is_cpu  # where one thread is enough
            found += (map if on_device else pool.map)(
                partial(rank, panel, first_row=first_row), range(0, len(panel), size)
            )
            first_row += len(panel)
    ranks, counts, firsts, persons = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    if not len(counts):
        raise labels.no_valid_query()
    return RankedMatches(ranks, counts, firsts, persons)
