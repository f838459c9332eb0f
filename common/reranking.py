"""k-reciprocal re-ranking: Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017.

The numbers are those of the authors' code, its normalisation included: squared Euclidean distances, each row over its
largest value among queries and gallery together. What is kept is sparse: k1 neighbours of each image, and a row of a
few dozen weights for each, so that memory beside the output grows with the number of images, not with its square.

Shapes: Q queries, G gallery images, N = Q + G images in this order, D dimensions.
"""

import warnings
from collections.abc import Callable

import numpy as np
import scipy.sparse
import torch
from torch import Tensor
from tqdm import tqdm

from common.feature_distances import exact_products
from common.nearest import Nearest, nearest_by_features, nearest_by_rows
from common.scoring_input import ScoringError, check_features

BLOCK = 2048  # rows and columns of a block of distances
PAIRS = 2**9  # pairs of features gathered at once; few enough to stay in a core's cache
ROW_BYTES = 2**25  # of output rows that are worked on at once

Csr = scipy.sparse.csr_array


def k_reciprocal_distances(
    query_features, gallery_features, *, k1: int = 20, k2: int = 6, lambda_value: float = 0.3
) -> np.ndarray:
    """Re-ranked distances of features, (Q, D) and (G, D) arrays or tensors: (Q, G) float32.

    k1: neighbours that count (Sec. 3.2); k2: neighbours that are averaged (Sec. 3.4); lambda_value: share of the
    original distance (eq. 12). k1 shrinks to the gallery's size, with a warning. Products run on the features' device,
    in float32 without TF32. Raises ScoringError for wrong shapes, NaN or infinity and impossible settings.
    """
    query, gallery = check_features(query_features, gallery_features)
    k1, neighbours = _check_settings(k1, k2, lambda_value, len(query), len(gallery))
    features = torch.cat([query.to(gallery.device, torch.float32), gallery.to(torch.float32)])

    def pairs(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        first, second = (torch.from_numpy(index).to(features.device) for index in (rows, columns))
        distances = features.new_empty(len(rows))
        one, other = features.new_empty(2, min(PAIRS, len(rows)), features.shape[1])  # new memory each time is slow
        for start in range(0, len(rows), PAIRS):
            part = slice(start, min(start + PAIRS, len(rows)))
            left, right = one[: part.stop - start], other[: part.stop - start]
            torch.index_select(features, 0, first[part], out=left)
            torch.index_select(features, 0, second[part], out=right)
            distances[part] = left.sub_(right).square_().sum(1)
        return distances.cpu().numpy()

    between = np.empty((len(query), len(gallery)), np.float32)
    with exact_products():
        nearest = nearest_by_features(features, neighbours, BLOCK, between)
        return _rerank(nearest, pairs, between, between, k1, k2, lambda_value)


def k_reciprocal_from_distances(
    query_gallery, query_query, gallery_gallery, *, k1: int = 20, k2: int = 6, lambda_value: float = 0.3
) -> np.ndarray:
    """The same from ready squared distances, (Q, G), (Q, Q) and (G, G) arrays or tensors on the CPU."""
    given = {"query_gallery": query_gallery, "query_query": query_query, "gallery_gallery": gallery_gallery}
    between, queries, gallery = (torch.as_tensor(_matrix(name, values)) for name, values in given.items())
    num_query, num_gallery = between.shape
    if queries.shape != (num_query, num_query) or gallery.shape != (num_gallery, num_gallery):
        raise ScoringError(
            f"query_gallery has shape {tuple(between.shape)}, so query_query must be {(num_query, num_query)}, got "
            f"{tuple(queries.shape)}, and gallery_gallery {(num_gallery, num_gallery)}, got {tuple(gallery.shape)}"
        )
    k1, neighbours = _check_settings(k1, k2, lambda_value, num_query, num_gallery)

    def whole_rows(rows: slice) -> Tensor:
        """(B, N) distances of some rows, of queries, gallery images or both, to all."""
        of_queries = slice(rows.start, min(rows.stop, num_query))
        of_gallery = slice(max(rows.start - num_query, 0), max(rows.stop - num_query, 0))
        upper = torch.cat([queries[of_queries], between[of_queries]], dim=1)
        lower = torch.cat([between[:, of_gallery].T, gallery[of_gallery]], dim=1)
        block = torch.cat([upper, lower]) if len(upper) and len(lower) else upper if len(upper) else lower
        if not block.isfinite().all():
            row = int((~block.isfinite()).any(1).nonzero()[0]) + rows.start
            where = f"query {row}" if row < num_query else f"gallery image {row - num_query}"
            raise ScoringError(f"distances: NaN or infinity in the row of {where}")
        return block

    def pairs(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        values = np.empty(len(rows), np.float32)
        first, second = np.minimum(rows, columns), np.maximum(rows, columns)  # queries come first
        of_queries, of_gallery = second < num_query, first >= num_query
        apart = ~of_queries & ~of_gallery
        values[of_queries] = queries.numpy()[first[of_queries], second[of_queries]]
        values[apart] = between.numpy()[first[apart], second[apart] - num_query]
        values[of_gallery] = gallery.numpy()[first[of_gallery] - num_query, second[of_gallery] - num_query]
        return values

    size = max(1, ROW_BYTES // (between.element_size() * (num_query + num_gallery)))
    nearest = nearest_by_rows(whole_rows, num_query + num_gallery, neighbours, size)
    output = np.empty((num_query, num_gallery), np.float32)
    return _rerank(nearest, pairs, between.numpy(), output, k1, k2, lambda_value)


def _matrix(name: str, values):
    values = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if values.ndim != 2:
        raise ScoringError(f"{name} must be a matrix, got shape {values.shape}")
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float32)


def _check_settings(k1: int, k2: int, lambda_value: float, num_query: int, num_gallery: int) -> tuple[int, int]:
    """k1 that fits the gallery, and how many neighbours of each image are needed (itself among them)."""
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
    nearest: Nearest,
    pairs: Callable[[np.ndarray, np.ndarray], np.ndarray],
    between: np.ndarray,
    output: np.ndarray,
    k1: int,
    k2: int,
    lambda_value: float,
) -> np.ndarray:
    """Fills output, (Q, G), and returns it; it may be `between` itself, (Q, G), the distances of queries to gallery.

    nearest: at least max(k1 + 1, k2) neighbours of all N images; pairs: distances of pairs of images by index. All
    distances as given, not normalised.
    """
    num_query, num_gallery = between.shape
    indices = nearest.indices.cpu().numpy()
    farthest = np.maximum(nearest.farthest.cpu().numpy(), np.finfo(np.float32).tiny)  # 0 if all images are alike
    weights = _encode(nearest, pairs, farthest, k1)
    if k2 > 1:  # Sec. 3.4, local query expansion: each row becomes the mean of its nearest rows
        weights = _pattern(indices[:, :k2]) @ weights / np.float32(min(k2, indices.shape[1]))
    weights = weights.astype(np.float32)
    of_gallery = weights[num_query:].tocsc()

    size = max(1, ROW_BYTES // (8 * num_gallery))
    for start in tqdm(range(0, num_query, size), desc="re-ranking", unit="block", disable=None):
        rows = slice(start, min(start + size, num_query))
        jaccard = _sum_of_minima(weights[rows], of_gallery).astype(np.float32)
        jaccard = 1 - jaccard / (2 - jaccard)  # eq. 10: every row of weights adds up to 1
        original = between[rows] / farthest[rows, None]
        output[rows] = (1 - lambda_value) * jaccard + lambda_value * original  # eq. 12
    return output


def _pattern(neighbours: np.ndarray) -> Csr:
    """(N, N) with a one at each of `neighbours`, (N, k)."""
    count, k = neighbours.shape
    row_ends = np.arange(0, count * k + 1, k)
    return Csr((np.ones(count * k, np.float32), neighbours.reshape(-1), row_ends), shape=(count, count))


def _encode(nearest: Nearest, pairs: Callable, farthest: np.ndarray, k1: int) -> Csr:
    """Weights over each image's expanded k-reciprocal neighbours, Sec. 3.2 and eq. 7: (N, N), rows add up to 1."""
    indices = nearest.indices.cpu().numpy()
    reciprocal = _reciprocal(indices[:, : k1 + 1])
    half = _reciprocal(indices[:, : int(np.around(k1 / 2)) + 1])
    # Eq. 3: a neighbour's own half-size set joins if two thirds of it are there already.
    shared = reciprocal.multiply(reciprocal @ half.T).tocoo()
    enough = shared.data > 2 / 3 * half.sum(1)[shared.col]
    joining = Csr((shared.data[enough], (shared.row[enough], shared.col[enough])), shape=shared.shape)
    members = (reciprocal + joining @ half).tocoo()
    row, column = members.row.astype(np.int64), members.col.astype(np.int64)
    weights = Csr((np.exp(-_distances(nearest, row, column, pairs) / farthest[row]), (row, column)), members.shape)
    sums = np.maximum(weights.sum(1), np.finfo(np.float32).tiny)  # 0 where too many ties hide an image from itself
    return scipy.sparse.diags_array(1 / sums, dtype=np.float32) @ weights


def _distances(nearest: Nearest, row: np.ndarray, column: np.ndarray, pairs: Callable) -> np.ndarray:
    """(n,) distances of the pairs (row, column): those of neighbours are known, the others are computed."""
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
    """Ones where two images are among each other's `neighbours`, eq. 1 and 2."""
    forward = _pattern(neighbours)
    return Csr(forward.multiply(forward.T))


def _sum_of_minima(rows: Csr, columns: scipy.sparse.csc_array) -> np.ndarray:
    """Of each row with each row of `columns`: the sum over entries of the smaller of the two; (B, G) float64."""
    num_rows, num_columns = rows.shape[0], columns.shape[0]
    lengths = np.diff(columns.indptr)[rows.indices]
    entry = np.repeat(np.arange(rows.nnz), lengths)  # which entry of `rows` meets ...
    place = np.arange(len(entry)) + np.repeat(columns.indptr[rows.indices] - lengths.cumsum() + lengths, lengths)
    smaller = np.minimum(rows.data[entry], columns.data[place])
    row = np.repeat(np.arange(num_rows), np.diff(rows.indptr))[entry]
    cells = row * num_columns + columns.indices[place]
    return np.bincount(cells, smaller, minlength=num_rows * num_columns).reshape(num_rows, num_columns)
