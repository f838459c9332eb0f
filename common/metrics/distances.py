"""Distances between features, a block of queries at a time, as exact and repeatable as float32 products allow.

Shapes: Q queries, G gallery images, B queries of one block, D dimensions.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

METRICS = ("euclidean", "cosine")


class DistanceBlocks:
    """Called with a slice of query rows, returns their distances to the whole gallery, (B, G).

    query: (Q, D), gallery: (G, D), on one device and finite. `euclidean` gives squared distances (the same ranking),
    `cosine` the negative cosine similarity. Float32, or float64 where one of the features is. memory: bytes for
    temporary copies of features, besides the block itself. Call it within `exact_products`.
    """

    def __init__(self, query: Tensor, gallery: Tensor, metric: str, memory: int):
        self.query, self.gallery, self.metric = query, gallery, metric
        self.dtype = torch.float64 if torch.float64 in (query.dtype, gallery.dtype) else torch.float32
        rows = max(1, memory // (32 * gallery.shape[1]))  # int64 and float64 copies, twice
        self.chunks = [slice(start, start + rows) for start in range(0, len(gallery), rows)]
        self.lengths = torch.linalg.vector_norm(gallery, dim=1, dtype=self.dtype)
        self.copies, self.originals = self._repeated_rows()

    def __call__(self, rows: slice) -> Tensor:
        query = self.query[rows].to(self.dtype)
        lengths = torch.linalg.vector_norm(query, dim=1, keepdim=True)
        distances = query.new_empty(len(query), len(self.gallery))
        for chunk in self.chunks:
            torch.mm(query, self.gallery[chunk].to(self.dtype).T, out=distances[:, chunk])
        if self.metric == "euclidean":
            distances.mul_(-2).add_(self.lengths.square()).add_(lengths.square()).clamp_(min=0)
        else:
            tiny = torch.finfo(self.dtype).tiny  # the similarity of a zero vector is 0, not NaN
            distances.div_(self.lengths.clamp(min=tiny)).div_(-lengths.clamp(min=tiny))
        # A product's last bits depend on the column's position, so equal features would not tie without this copy.
        distances[:, self.copies] = distances[:, self.originals]
        return distances

    def _repeated_rows(self) -> tuple[Tensor, Tensor]:
        """Gallery rows that equal an earlier row, and the first such row of each: two (n,) index tensors."""
        columns = torch.arange(
            0, self.gallery.shape[1], max(1, self.gallery.shape[1] // 64), device=self.lengths.device
        )
        group, count = torch.unique(self._sums(self.gallery[:, columns]), return_inverse=True, return_counts=True)[1:]
        alike = (count[group] > 1).nonzero().squeeze(1)  # equal in a sample of columns: only these are compared in full
        if not len(alike):
            return alike, alike
        group = torch.unique(self._sums(self.gallery, alike), return_inverse=True)[1]
        index = torch.arange(len(group), device=group.device)
        first = torch.full_like(index, len(index)).scatter_reduce_(0, group, index, "amin")[group]
        copies = (first < index).nonzero().squeeze(1)
        return alike[copies], alike[first[copies]]

    def _sums(self, features: Tensor, rows: Tensor | None = None) -> Tensor:
        """(n,) int64, equal for equal rows. features: (N, d); rows: (n,) indices, default all."""
        weights = torch.randint(-(2**62), 2**62, (features.shape[1],), generator=torch.Generator().manual_seed(0))
        weights = weights.to(features.device)
        bits = torch.int64 if self.dtype == torch.float64 else torch.int32
        rows = torch.arange(len(features), device=features.device) if rows is None else rows
        # Integer sums wrap around but are exact, so equal rows have equal sums (+ 0.0 makes -0.0 the same as 0.0).
        return torch.cat(
            [((features[rows[chunk]].to(self.dtype) + 0.0).view(bits) * weights).sum(1) for chunk in self.chunks]
        )


@contextmanager
def exact_products() -> Iterator[None]:
    """Float32 matrix products in float32 (no TF32, bfloat16 or autocast), whatever the caller has set."""
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
    chosen = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            yield
    finally:
        for backend, precision in zip(backends, chosen, strict=True):
            backend.fp32_precision = precision
