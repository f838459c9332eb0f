"""k-reciprocal re-ranking: Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017.

The numbers are those of the authors' code, including its normalisation: squared Euclidean distances, each row divided
by its maximum over queries and gallery. Storage is sparse (k1 neighbours and a few dozen weights per image), so memory
besides the output grows linearly with the number of images.

Shapes: Q queries, G gallery images, N = Q + G images in this order, D dimensions.
"""

import warnings
from collections.abc import Callable

import numpy as np
import scipy.sparse
import torch
from tqdm import tqdm

from common.metrics.distances import exact_products
from common.metrics.inputs import ScoringError, as_floats, check_features, refuse_non_finite

from .neighbours import Neighbours, neighbours_of_features

BLOCK = 2048  # rows and columns of a block of distances
PAIRS = 2**9  # pairs of features gathered at once; they fit in a core's cache
ROW_BYTES = 2**25  # of output rows computed at once

Csr = scipy.sparse.csr_array


def k_reciprocal_distances(
    query_features, gallery_features, *, k1: int = 20, k2: int = 6, lambda_value: float = 0.3
) -> np.ndarray:
    """Re-ranked distances of features, (Q, D) and (G, D) arrays or tensors: (Q, G) float32.

    k1: number of reciprocal neighbours (Sec. 3.2); k2: neighbours that are averaged (Sec. 3.4); lambda_value: weight of
    the original distance (eq. 12). k1 is cut to the gallery's size, with a warning. Products run on the features'
    device, in float32 without TF32. ScoringError: wrong shapes, NaN, infinity, or impossible settings.
    """
    query, gallery = check_features(query_features, gallery_features)
    k1, neighbours = _check_settings(k1, k2, lambda_value, len(query), len(gallery))
    features = torch.cat([query.to(gallery.device, torch.float32), gallery.to(torch.float32)])

    def pairs(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        first, second = (torch.from_numpy(index).to(features.device) for index in (rows, columns))
        distances = features.new_empty(len(rows))
        one, other = features.new_empty(2, min(PAIRS, len(rows)), features.shape[1])  # allocating each time is slow
        for start in range(0, len(rows), PAIRS):
            part = slice(start, min(start + PAIRS, len(rows)))
            left, right = one[: part.stop - start], other[: part.stop - start]
            torch.index_select(features, 0, first[part], out=left)
            torch.index_select(features, 0, second[part], out=right)
            distances[part] = left.sub_(right).square_().sum(1)
        return distances.cpu().numpy()

    between = np.empty((len(query), len(gallery)), np.float32)
    with exact_products():
        nearest = neighbours_of_features(features, neighbours, BLOCK, between)
        return _rerank(nearest, pairs, between, k1, k2, lambda_value)


def k_reciprocal_from_distances(
    query_gallery, query_query, gallery_gallery, *, k1: int = 20, k2: int = 6, lambda_value: float = 0.3
) -> np.ndarray:
    """The same from ready squared Euclidean distances, (Q, G), (Q, Q) and (G, G) arrays or tensors of one device.

    They are joined to (N, N), so memory grows with its square. ScoringError: shapes that do not fit, NaN, infinity.
    """
    given = {"query_gallery": query_gallery, "query_query": query_query, "gallery_gallery": gallery_gallery}
    between, queries, gallery = (as_floats(values).float() for values in given.values())
    shapes = tuple(tuple(values.shape) for values in (between, queries, gallery))
    if between.ndim != 2 or shapes[1:] != ((len(between),) * 2, (between.shape[1],) * 2):
        raise ScoringError(f"{', '.join(given)} must be (Q, G), (Q, Q) and (G, G), got shapes {shapes}")
    k1, neighbours = _check_settings(k1, k2, lambda_value, *between.shape)
    for name, values in zip(given, (between, queries, gallery), strict=True):
        refuse_non_finite(values, name)
    whole = torch.cat([torch.cat([queries, between], dim=1), torch.cat([between.T, gallery], dim=1)])
    nearest = Neighbours(len(whole), neighbours, whole.dtype, whole.device)
    nearest.add(slice(0, len(whole)), 0, whole)

    def pairs(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return whole[torch.from_numpy(rows).to(whole.device), torch.from_numpy(columns).to(whole.device)].cpu().numpy()

    return _rerank(nearest, pairs, between.cpu().numpy().copy(), k1, k2, lambda_value)


def _check_settings(k1: int, k2: int, lambda_value: float, num_query: int, num_gallery: int) -> tuple[int, int]:
    """k1 cut to the gallery's size, and the number of neighbours needed for each image, itself included."""
    if not num_query or not num_gallery:
        raise ScoringError(f"nothing to rank: {num_query} queries and {num_gallery} gallery images")
    if k1 < 1 or k2 < 1 or not 0 <= lambda_value <= 1:
        raise ScoringError(
            f"re-ranking needs k1 >= 1, k2 >= 1 and lambda_value in [0, 1]; got {k1}, {k2}, {lambda_value}"
        )
    if k1 > num_gallery:
        warnings.warn(f"k1 is {k1}, but the gallery has only {num_gallery} images: using {num_gallery}", stacklevel=3)
        k1 = num_gallery
    return k1, min(max(k1 + 1, k2), num_query + num_gallery)


def _rerank(
    nearest: Neighbours,
    pairs: Callable[[np.ndarray, np.ndarray], np.ndarray],
    between: np.ndarray,
    k1: int,
    k2: int,
    lambda_value: float,
) -> np.ndarray:
    """Replace `between`, the (Q, G) distances of queries to gallery, by the re-ranked ones, and return it.

    nearest: at least max(k1 + 1, k2) neighbours of all N images; pairs: distances of pairs of images by index.
    Distances are squared Euclidean, not normalised.
    """
    num_query, num_gallery = between.shape
    indices = nearest.indices.cpu().numpy()
    farthest = np.maximum(nearest.farthest.cpu().numpy(), np.finfo(np.float32).tiny)  # 0 if all features are equal
    weights = _encode(nearest, pairs, farthest, k1)
    if k2 > 1:  # Sec. 3.4, local query expansion: the mean over the nearest rows
        weights = _pattern(indices[:, :k2]) @ weights / np.float32(min(k2, indices.shape[1]))
    weights = weights.astype(np.float32)
    of_gallery = weights[num_query:].tocsc()

    size = max(1, ROW_BYTES // (8 * num_gallery))
    for start in tqdm(range(0, num_query, size), desc="re-ranking", unit="block", disable=None):
        rows = slice(start, min(start + size, num_query))
        jaccard = _sum_of_minima(weights[rows], of_gallery).astype(np.float32)
        jaccard = 1 - jaccard / (2 - jaccard)  # eq. 10: every row of weights adds up to 1
        original = between[rows] / farthest[rows, None]
        between[rows] = (1 - lambda_value) * jaccard + lambda_value * original  # eq. 12
    return between


def _pattern(neighbours: np.ndarray) -> Csr:
    """(N, N) with ones at `neighbours`, (N, k)."""
    count, k = neighbours.shape
    row_ends = np.arange(0, count * k + 1, k)
    return Csr((np.ones(count * k, np.float32), neighbours.reshape(-1), row_ends), shape=(count, count))


def _encode(nearest: Neighbours, pairs: Callable, farthest: np.ndarray, k1: int) -> Csr:
    """Weights over each image's expanded k-reciprocal neighbours, Sec. 3.2 and eq. 7: (N, N), rows add up to 1."""
    indices = nearest.indices.cpu().numpy()
    reciprocal = _reciprocal(indices[:, : k1 + 1])
    half = _reciprocal(indices[:, : int(np.around(k1 / 2)) + 1])
    # Eq. 3: a neighbour's own half-size set is added if two thirds of it are already included.
    shared = reciprocal.multiply(reciprocal @ half.T).tocoo()
    enough = shared.data > 2 / 3 * half.sum(1)[shared.col]
    joining = Csr((shared.data[enough], (shared.row[enough], shared.col[enough])), shape=shared.shape)
    members = (reciprocal + joining @ half).tocoo()
    row, column = members.row.astype(np.int64), members.col.astype(np.int64)
    weights = Csr((np.exp(-_distances(nearest, row, column, pairs) / farthest[row]), (row, column)), members.shape)
    sums = np.maximum(weights.sum(1), np.finfo(np.float32).tiny)  # 0 where ties push an image out of its own neighbours
    return scipy.sparse.diags_array(1 / sums, dtype=np.float32) @ weights


def _distances(nearest: Neighbours, row: np.ndarray, column: np.ndarray, pairs: Callable) -> np.ndarray:
    """(n,) distances of the pairs (row, column); those of neighbours are looked up, the others computed."""
    indices = nearest.indices.cpu().numpy()
    count, k = indices.shape
    keys = np.arange(count)[:, None] * count + indices
    order = np.argsort(keys, axis=1)
    known = np.take_along_axis(keys, order, axis=1).reshape(-1)
    values = np.take_along_axis(nearest.distances.cpu().numpy(), order, axis=1).reshape(-1)
    asked = row * count + column
    place = np.searchsorted(known, asked).clip(max=count * k - 1)
    distances = values[place]
    missing = known[place] != asked
    distances[missing] = pairs(row[missing], column[missing])
    return distances


def _reciprocal(neighbours: np.ndarray) -> Csr:
    """Ones where two images are in each other's `neighbours`, eq. 1 and 2."""
    forward = _pattern(neighbours)
    return Csr(forward.multiply(forward.T))


def _sum_of_minima(rows: Csr, columns: scipy.sparse.csc_array) -> np.ndarray:
    """For each pair of a row of `rows` and a row of `columns`, the sum over entries of the minimum: (B, G) float64."""
    num_rows, num_columns = rows.shape[0], columns.shape[0]
    lengths = np.diff(columns.indptr)[rows.indices]
    entry = np.repeat(np.arange(rows.nnz), lengths)  # which entry of `rows` meets ...
    place = np.arange(len(entry)) + np.repeat(columns.indptr[rows.indices] - lengths.cumsum() + lengths, lengths)
    smaller = np.minimum(rows.data[entry], columns.data[place])
    row = np.repeat(np.arange(num_rows), np.diff(rows.indptr))[entry]
    cells = row * num_columns + columns.indices[place]
    return np.bincount(cells, smaller, minlength=num_rows * num_columns).reshape(num_rows, num_columns)
