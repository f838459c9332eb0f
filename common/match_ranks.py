"""Ranks of the true matches in many rankings at once, without sorting a whole ranking.

A query needs the ranks of its few true matches only. Its wrong answers are sorted by distance alone (no indices), the
true matches are looked up among them, and only queries with exact ties take a second sort.

Shapes: B queries of one block, G gallery images, M true matches of the query that has most.
"""

import numpy as np
import torch
from torch import Tensor

BYTES_PER_DISTANCE = 56  # masks, copies, sorts and the int64 keys of ties (measured)
BYTES_PER_MATCH = 64


def match_ranks(distances: Tensor, matches: Tensor, wrong: Tensor) -> tuple[np.ndarray, np.ndarray]:
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


def identities_before_first_match(distances: Tensor, matches: Tensor, wrong: Tensor, gallery_ids: Tensor) -> np.ndarray:
    """How many distinct identities have an image before the first true match; ties rank by gallery index.

    distances: (B, G); matches, wrong: (B, G) bool, every row with a true match; gallery_ids: (G,). Returns (B,) int64.
    """
    nearest = distances.masked_fill(~matches, torch.inf).amin(1, keepdim=True)
    column = torch.arange(distances.shape[1], device=distances.device)
    at_nearest = distances == nearest
    first = torch.where(at_nearest & matches, column, len(column)).amin(1, keepdim=True)
    earlier = wrong & ((distances < nearest) | (at_nearest & (column < first)))
    identities, group = torch.unique(gallery_ids, return_inverse=True)
    images = torch.zeros(len(distances), len(identities), dtype=torch.int32, device=distances.device)
    images.index_add_(1, group, earlier.to(torch.int32))
    return (images > 0).sum(1).cpu().numpy()


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
