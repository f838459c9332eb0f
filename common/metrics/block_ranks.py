"""Ranks of the matches of a block of queries: a few queries at a time on CPUs, the whole block on other devices.

Shapes: B queries of the block, b of one piece, G gallery images, M the most matches that any of the queries has.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .match_ranks import FEW, count_before, count_before_in_cells, pad_columns

PIECE = 2**17  # distances that a CPU compares at once: few enough for its cache, many enough to be worth NumPy's calls


@dataclass(frozen=True)
class Images:
    """matches: (B, M) gallery positions of each query's matches. Left out are `excluded`, (1, G) or (B, G) bool, and
    `own`, (B, L) positions of further images of the query's person. Positions are ascending, padded with G."""

    matches: np.ndarray
    excluded: np.ndarray
    own: np.ndarray


@dataclass(frozen=True)
class Identities:
    """order: (G,) gallery positions by identity; starts: (I,) where each identity's images start in it."""

    order: np.ndarray
    starts: np.ndarray

    def before(self, values: np.ndarray, match: np.ndarray) -> np.ndarray:
        """(b,) how many identities have an image before a match. values: (b, G); match: (b, 1) positions."""
        near = np.take_along_axis(values, match, axis=1)
        before = (values < near) | ((values == near) & (np.arange(values.shape[1]) < match))
        return np.logical_or.reduceat(before[:, self.order], self.starts, axis=1).sum(1)


def rank_block(
    distances: Tensor, images: Images, num_matches: np.ndarray, identities: Identities | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Ranks of the matches, from 1, in one array, ascending within each query; ties rank by gallery position. And (B,)
    the rank that CMC counts, of queries with a match; among identities where they are given.

    distances: (B, G), finite; num_matches: (B,).
    """
    num_gallery = distances.shape[1]
    ranks = np.full(images.matches.shape, num_gallery + 1)
    firsts = np.zeros(len(distances), np.int64)
    for rows, values, before in (count_on_cpu if distances.is_cpu else count_on_device)(distances, images, num_matches):
        ranks[rows, : before.shape[1]] = before + 1
        if identities:
            nearest = np.where(images.matches[rows, : before.shape[1]] < num_gallery, before, num_gallery).argmin(1)
            first = images.matches[rows, nearest][:, None]
            firsts[rows] = 1 + identities.before(torch.as_tensor(values).cpu().numpy(), first)
    real = images.matches < num_gallery
    ranks[~real] = num_gallery + 1
    ranks.sort(axis=1)
    return ranks[real], firsts if identities else ranks.min(1, initial=num_gallery + 1)


Counts = Iterator[tuple[np.ndarray, np.ndarray | Tensor, np.ndarray]]


def count_on_cpu(distances: Tensor, images: Images, num_matches: np.ndarray) -> Counts:
    """For a few rows with about as many matches each, or one row with many: the rows, their (b, G) distances, infinite
    where images are left out, and (b, M) how many images come before each match."""
    matrix = distances.numpy()
    num_gallery = matrix.shape[1]
    for rows in _pieces(num_matches, num_gallery):
        values = pad_columns(matrix[rows])
        gallery = values[:, :num_gallery]
        np.copyto(gallery, np.inf, where=images.excluded if len(images.excluded) == 1 else images.excluded[rows])
        values[np.arange(len(rows))[:, None], images.own[rows]] = np.inf
        values[:, num_gallery:] = np.nan
        matches = images.matches[rows, : num_matches[rows[-1]]]
        few = matches.shape[1] <= FEW
        yield (
            rows,
            gallery,
            count_before(values, matches, num_gallery) if few else count_before_in_cells(gallery[0], matches[0])[None],
        )


def _pieces(num_matches: np.ndarray, num_gallery: int) -> Iterator[np.ndarray]:
    """Rows with a match, by their number of matches, a few at a time; rows with many matches one by one."""
    rows = np.argsort(num_matches, kind="stable")
    few, many = np.searchsorted(num_matches[rows], [1, FEW + 1])
    size = max(1, PIECE // num_gallery)
    yield from (rows[start : min(start + size, many)] for start in range(few, many, size))
    yield from rows[many:, None]


def count_on_device(distances: Tensor, images: Images, num_matches: np.ndarray) -> Counts:
    """As `count_on_cpu`, for the whole block by torch: one comparison of all distances for each match."""
    rows = np.flatnonzero(num_matches)
    if not len(rows):
        return
    num_gallery = distances.shape[1]
    left_out = np.zeros((len(distances), num_gallery + 1), bool)  # the last column takes the padding
    left_out[:, :num_gallery] = images.excluded
    np.put_along_axis(left_out, images.own, True, axis=1)
    arrays = rows, left_out[rows, :num_gallery], images.matches[rows]
    chosen, left_out, matches = (torch.from_numpy(array).to(distances.device) for array in arrays)
    values = distances[chosen].masked_fill_(left_out, torch.inf)
    columns = torch.arange(num_gallery, device=distances.device)
    before = torch.zeros_like(matches)
    for place, match in enumerate(matches.clamp(max=num_gallery - 1).split(1, dim=1)):
        near = values.gather(1, match)
        before[:, place] = ((values < near) | ((values == near) & (columns < match))).sum(1)
    yield rows, values, before.cpu().numpy()
