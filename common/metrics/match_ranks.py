"""Ranks of the matches of many queries at once, without an argsort of the gallery.

A query needs only the ranks of its few matches. The distances of its non-matches are sorted (without indices), the
matches are looked up among them, and only queries with exact ties need a second sort.

Shapes: B queries of one block, G gallery images, M the most matches that any of the queries has.
"""

import numpy as np
import torch
from torch import Tensor

BYTES_PER_DISTANCE = 56  # masks, copies, sorts and the int64 keys of ties (measured)
BYTES_PER_MATCH = 64


def match_ranks(distances: Tensor, matches: Tensor, non_matches: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Ranks of the matches, from 1, among matches and non-matches; ties rank by gallery index.

    distances: (B, G); matches, non_matches: (B, G) bool. Returns the ranks of all queries in one array, ascending
    within each query, and (B,) the number of matches of each query.
    """
    counts = matches.sum(1)
    most = int(counts.max())
    row, column = matches.nonzero(as_tuple=True)
    place = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    near = distances.new_full((len(distances), most), torch.inf)
    index = column.new_zeros(near.shape)
    near[row, place], index[row, place] = distances[row, column], column
    near, order = near.sort(dim=1, stable=True)  # `nonzero` gives columns in order, so ties stay by index
    index = index.gather(1, order)
    position = torch.arange(most, device=row.device)
    real = position < counts[:, None]  # rows with fewer matches are padded with infinity

    sorted_non_matches = _sort_rows(distances.masked_fill(~non_matches, torch.inf))
    before = torch.searchsorted(sorted_non_matches, near)
    tied = ((torch.searchsorted(sorted_non_matches, near, right=True) > before) & real).any(1).nonzero().squeeze(1)
    if len(tied):
        before[tied] += _earlier_ties(distances[tied], non_matches[tied], near[tied], index[tied])
    return (before + position + 1)[real].cpu().numpy(), counts.cpu().numpy()


def identities_before_first_match(
    distances: Tensor, matches: Tensor, non_matches: Tensor, gallery_ids: Tensor
) -> np.ndarray:
    """How many distinct identities have an image before the first match; ties rank by gallery index.

    distances: (B, G); matches, non_matches: (B, G) bool, every row with a match; gallery_ids: (G,). Returns (B,) int64.
    """
    nearest = distances.masked_fill(~matches, torch.inf).amin(1, keepdim=True)
    column = torch.arange(distances.shape[1], device=distances.device)
    at_nearest = distances == nearest
    first = torch.where(at_nearest & matches, column, len(column)).amin(1, keepdim=True)
    earlier = non_matches & ((distances < nearest) | (at_nearest & (column < first)))
    identities, group = torch.unique(gallery_ids, return_inverse=True)
    images = torch.zeros(len(distances), len(identities), dtype=torch.int32, device=distances.device)
    images.index_add_(1, group, earlier.to(torch.int32))
    return (images > 0).sum(1).cpu().numpy()


def _earlier_ties(distances: Tensor, non_matches: Tensor, near: Tensor, index: Tensor) -> Tensor:
    """How many non-matches at exactly a match's distance come before it in the gallery: (B, M).

    distances: (B, G); non_matches: (B, G) bool; near, index: (B, M) distances (ascending) and columns of the matches.
    """
    num_gallery, most = distances.shape[1], near.shape[1]
    group = torch.searchsorted(near, distances)  # the first match that is not nearer
    tied = (near.gather(1, group.clamp(max=most - 1)) == distances) & non_matches
    keys = group.mul_(num_gallery).add_(torch.arange(num_gallery, device=group.device))  # by group, then by column
    keys = _sort_rows(keys.masked_fill_(~tied, torch.iinfo(keys.dtype).max))
    start = torch.searchsorted(near, near).mul_(num_gallery)
    return torch.searchsorted(keys, start + index) - torch.searchsorted(keys, start)


def _sort_rows(values: Tensor) -> Tensor:
    """(B, G) sorted along G. On CPUs NumPy's vectorised sort is about 20 times as fast as torch's (measured)."""
    if values.device.type != "cpu":
        return values.sort(dim=1).values
    values.numpy().sort(axis=1)
    return values
