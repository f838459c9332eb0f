"""How many images come before each match of a query, without sorting the gallery. NumPy, on the calling thread.

A query with few matches compares every distance with each of them. A query with many counts the distances in cells and
sorts only those in a match's cell. On CPUs NumPy compares several times as fast as torch, and no thread waits for
another (measured).

Shapes: b queries, G gallery images, W > G columns, M the most matches that any of the queries has.
"""

import numpy as np

FEW = 32  # matches of a query that is ranked by comparing; cells are faster beyond (measured)
CELLS = 64  # for each match; more cells leave fewer distances to sort
UFUNC_BUFFER = 512  # for np.setbufsize: NumPy copies operands whose rows are shorter, which is slower


def pad_columns(distances: np.ndarray) -> np.ndarray:
    """(b, G) -> (b, W) as `count_before` needs them, a copy; NaN beyond the gallery."""
    groups, words = _words(distances.shape[1])
    values = np.empty((len(distances), 8 * groups * words), distances.dtype)
    values[:, : distances.shape[1]] = distances
    values[:, distances.shape[1] :] = np.nan
    return values


def count_before(values: np.ndarray, matches: np.ndarray, num_gallery: int) -> np.ndarray:
    """How many images come before each match, (b, M); ties by position.

    values: (b, W) from `pad_columns`, infinite for images left out; matches: (b, M) positions, padded with G.
    """
    real = matches < num_gallery
    near = values[np.arange(len(values))[:, None], matches][:, :, None]
    first, last = matches[:, 0].min(), matches.max(where=real, initial=0) + 1
    mask = np.empty((*matches.shape, values.shape[1]), bool)
    # An image at a match's distance comes before it if it is left of all matches, and after it if right of all.
    np.less_equal(values[:, None, :first], near, out=mask[:, :, :first])
    np.less(values[:, None, first:], near, out=mask[:, :, first:])
    before = _count_true(mask)
    ties = np.equal(values[:, None, first:last], near)
    if np.count_nonzero(ties) > np.count_nonzero(real):  # a match equals more than itself
        ties &= np.arange(first, last) < matches[:, :, None]
        before += ties.sum(2)
    return before


def count_before_in_cells(values: np.ndarray, matches: np.ndarray) -> np.ndarray:
    """As `count_before`, for one query with many matches. values: (G,); matches: (M,)."""
    near = values[matches]
    cell = _cells(values, near.min(), near.max(), CELLS * len(matches))
    sizes = np.bincount(cell)
    with_match = np.zeros(len(sizes), bool)
    with_match[cell[matches]] = True
    candidates = np.flatnonzero(with_match[cell])
    place = np.empty_like(candidates)
    place[np.argsort(values[candidates], kind="stable")] = np.arange(len(candidates))
    sizes[with_match] = 0
    return sizes.cumsum()[cell[matches]] + place[np.searchsorted(candidates, matches)]


def _cells(values: np.ndarray, low: np.floating, high: np.floating, count: int) -> np.ndarray:
    """A cell for each value, never a later one for a smaller value; `count` equal cells from low to high."""
    with np.errstate(over="ignore", divide="ignore"):
        scale = values.dtype.type(count) / (high - low)
        if not 0 < scale < np.inf:  # all matches at one distance, or too far apart to subtract
            return (values >= low).astype(np.intp) + (values > high)
        return ((values - low) * scale + 1).clip(0, count + 2).astype(np.intp)


def _words(num_gallery: int) -> tuple[int, int]:
    """How many groups of how many 8-byte words hold more than num_gallery bytes; at most 255 words a group."""
    groups = num_gallery // (8 * 255) + 1
    return groups, num_gallery // (8 * groups) + 1


def _count_true(mask: np.ndarray) -> np.ndarray:
    """Sums over the last axis, whose length comes from `_words`. Each byte of a word counts for itself, up to 255: this
    is several times as fast as a sum of bool."""
    groups, words = _words(mask.shape[-1] - 1)
    counts = mask.view(np.uint64).reshape(*mask.shape[:-1], groups, words).sum(-1)
    return counts.view(np.uint8).sum(-1, dtype=np.int64)
