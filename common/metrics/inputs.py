"""Checks of the input to scoring: labels, distances and features become tensors, or raise a clear error.

Shapes: Q queries, G gallery images, D dimensions.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError

from .distances import METRICS


class ScoringError(UserError, ValueError):
    """Input that cannot be scored."""


@dataclass(frozen=True)
class Labels:
    """(Q,) and (G,) integer arrays."""

    query_ids: np.ndarray
    gallery_ids: np.ndarray
    query_cameras: np.ndarray
    gallery_cameras: np.ndarray

    @classmethod
    def check(cls, query_ids, gallery_ids, query_cameras, gallery_cameras, shape) -> "Labels":
        num_query, num_gallery = shape
        if not num_query or not num_gallery:
            raise ScoringError(f"nothing to rank: {num_query} queries and {num_gallery} gallery images")
        given = {
            "query_ids": (query_ids, num_query),
            "gallery_ids": (gallery_ids, num_gallery),
            "query_cameras": (query_cameras, num_query),
            "gallery_cameras": (gallery_cameras, num_gallery),
        }
        return cls(**{name: cls._column(name, values, count) for name, (values, count) in given.items()})

    @staticmethod
    def _column(name: str, values, count: int) -> np.ndarray:
        values = values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
        if values.shape != (count,):
            raise ScoringError(f"{name} has shape {values.shape}, but the distances or features need {(count,)}")
        if not np.issubdtype(values.dtype, np.integer):
            raise ScoringError(f"{name} must be integers, got {values.dtype}")
        return values.astype(np.int64)

    def no_valid_query(self) -> ScoringError:
        def some(values: np.ndarray) -> str:
            found = np.unique(values).tolist()
            return f"{', '.join(map(str, found[:10]))}{', ...' if len(found) > 10 else ''} ({len(found)})"

        return ScoringError(
            "no query has a match in the gallery under this protocol. "
            f"Queries: ids {some(self.query_ids)}, cameras {some(self.query_cameras)}; "
            f"gallery: ids {some(self.gallery_ids)}, cameras {some(self.gallery_cameras)}. "
            "Were ids relabelled for one of them, or is every image in one camera?"
        )


def check_features(query_features, gallery_features, metric: str = "euclidean") -> tuple[Tensor, Tensor]:
    """Both as tensors, (Q, D) and (G, D). ScoringError: wrong shapes, NaN, infinity, or an unknown metric."""
    if metric not in METRICS:
        raise ScoringError(f"unknown metric {metric!r}; known: {', '.join(METRICS)}")
    query, gallery = (
        values.detach() if isinstance(values, Tensor) else as_floats(np.asarray(values))
        for values in (query_features, gallery_features)
    )
    if query.ndim != 2 or gallery.ndim != 2 or query.shape[1] != gallery.shape[1]:
        raise ScoringError(
            "query_features and gallery_features must be (num_query, dim) and (num_gallery, dim), "
            f"got shapes {tuple(query.shape)} and {tuple(gallery.shape)}"
        )
    if not len(query) or not len(gallery):
        raise ScoringError(f"nothing to rank: {len(query)} queries and {len(gallery)} gallery images")
    for name, features in (("query_features", query), ("gallery_features", gallery)):
        refuse_non_finite(features, name)
    return query, gallery


def as_floats(values) -> Tensor:
    """Float64 for float64 and integers, else float32; no copy if the memory can be shared."""
    if isinstance(values, Tensor):
        values = values.detach()
        keep = values.dtype == torch.float64 or not values.is_floating_point()
        return values.to(torch.float64 if keep else torch.float32)
    keep = values.dtype == np.float64 or not np.issubdtype(values.dtype, np.floating)
    return torch.from_numpy(np.require(values, np.float64 if keep else np.float32, ["C", "W"]))


def refuse_non_finite(values: Tensor, name: str, first_row: int = 0) -> None:
    """values: (n, m), whose row 0 is row `first_row` of the caller's argument `name`."""
    if values.is_cpu and values.dtype in (torch.float32, torch.float64):  # one thread: blocks are checked in parallel
        with np.errstate(over="ignore", invalid="ignore"):
            sums = torch.from_numpy(values.numpy().sum(1))
    else:
        sums = values.sum(1, dtype=torch.promote_types(values.dtype, torch.float32))
    if sums.isfinite().all():  # a NaN or an infinity would be in the sum
        return
    for row in (~sums.isfinite()).nonzero().squeeze(1).tolist():
        if not values[row].isfinite().all():  # else finite values whose sum overflowed
            kind = "NaN" if values[row].isnan().any() else "infinity"
            raise ScoringError(f"{name}: {kind} in row {first_row + row}; is the model or its input broken?")
