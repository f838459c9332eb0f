"""The nearest neighbours of every item among all items, from blocks of distances that are discarded.

Shapes: N items, k neighbours, B rows and C columns of a block.
"""

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm


class Neighbours:
    """Collects the k nearest of N items, block by block; equal distances rank by index, as a stable sort ranks them.

    distances, indices: (N, k), ascending by (distance, index); farthest: (N,) the largest distance of each row so far.
    """

    def __init__(self, num_items: int, k: int, dtype: torch.dtype, device: torch.device | str):
        self.k = k
        self.distances = torch.full((num_items, k), torch.inf, dtype=dtype, device=device)
        self.indices = torch.full((num_items, k), num_items, dtype=torch.int64, device=device)  # after every real index
        self.farthest = torch.full((num_items,), -torch.inf, dtype=dtype, device=device)

    def add(self, rows: slice, first_column: int, block: Tensor) -> None:
        """block: (B, C) distances of the items `rows` to the items from `first_column` on.

        The blocks of a row must come in column order, so that ties rank by index.
        """
        self.farthest[rows] = torch.maximum(self.farthest[rows], block.amax(1))
        distances, indices = smallest(block, self.k)
        distances = torch.cat([self.distances[rows], distances], dim=1)
        indices = torch.cat([self.indices[rows], indices + first_column], dim=1)
        distances, order = distances.sort(dim=1, stable=True)
        self.distances[rows] = distances[:, : self.k]
        self.indices[rows] = indices.gather(1, order[:, : self.k])


def smallest(block: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k smallest of each row of (B, C), ascending, and their columns, both (B, min(k, C)); ties by column."""
    if block.shape[1] <= k:
        return block.sort(dim=1, stable=True)
    values, indices = torch.topk(block, k + 1, dim=1, largest=False)  # sorted, but ties come in any order
    tied = (values[:, 1:] == values[:, :-1]).any(1).nonzero().squeeze(1)
    values, indices = values[:, :k], indices[:, :k]
    if len(tied):
        exact = block[tied].sort(dim=1, stable=True)
        values[tied], indices[tied] = exact.values[:, :k], exact.indices[:, :k]
    return values, indices


def neighbours_of_features(features: Tensor, k: int, size: int, between: np.ndarray) -> Neighbours:
    """The k nearest by squared Euclidean distance of `features`, (N, D) float; each pair is computed once.

    size: rows and columns of a block; between: (Q, N - Q), filled with the distances of the first Q items to the
    others, which are computed anyway. An item's distance to itself is exactly 0.
    """
    count = len(features)
    nearest = Neighbours(count, k, features.dtype, features.device)
    # In float64: the rounding of float32 sums over thousands of dimensions would swap close neighbours.
    squares = torch.cat([part.double().square().sum(1) for part in features.split(size)]).to(features.dtype)
    starts = range(0, count, size)
    with tqdm(total=len(starts) * (len(starts) + 1) // 2, desc="neighbours", unit="block", disable=None) as bar:
        for start in starts:
            rows = slice(start, min(start + size, count))
            for other in range(start, count, size):
                columns = slice(other, min(other + size, count))
                block = torch.mm(features[rows], features[columns].T)
                block.mul_(-2).add_(squares[rows, None]).add_(squares[columns]).clamp_(min=0)
                if start == other:
                    block.fill_diagonal_(0)
                _keep(between, rows, columns, block)
                nearest.add(rows, other, block)
                if start != other:
                    nearest.add(columns, start, block.T.contiguous())
                bar.update()
    return nearest


def _keep(between: np.ndarray, rows: slice, columns: slice, block: Tensor) -> None:
    """Copy the part of the block that belongs in `between`: rows before Q, columns from Q on."""
    first = len(between)
    if rows.start < first < columns.stop:
        part = block[: first - rows.start, max(first - columns.start, 0) :]
        left = max(columns.start - first, 0)
        between[rows.start : rows.start + len(part), left : left + part.shape[1]] = part.cpu().numpy()
