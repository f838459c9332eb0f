"""The overlap penalty of the segmented learning network (SLN), eq. 4-5, in its readings.

Literally it compares the positions of the maxima of eq. 4's maps: `overlap_map: pooled`, `overlap_centre: hard`,
`overlap_divided: false`. That has no gradient; what the other readings change is in the README.

Shapes: B images, h x w cells of a map.
"""

import torch
from torch import Tensor
from torch.nn import functional

from .settings import Settings

EPSILON = 1e-6  # squares of S's unit under the root, so that its gradient is finite where two centres coincide
FLAT = 1e-6  # a map's standard deviation below which it counts as constant


def overlap_penalty(first: Tensor, second: Tensor, visible: Tensor, settings: Settings) -> Tensor:
    """L_op, eq. 5: the mean over images of max(0, S - d), d between the centres of the two sub-networks.

    With `overlap_divided` it is divided by S, which brings it to the size of the other losses.
    first, second: (B, h, w), the two sub-networks' channel-pooled maps of eq. 4; visible: (B,) bool.
    """
    first, second = (centres(read_map(maps, visible, settings), settings) for maps in (first, second))
    distance = ((first - second).square().sum(1) + EPSILON).sqrt()
    penalty = (settings.separation - distance).clamp(min=0).mean()
    return penalty / settings.separation if settings.overlap_divided else penalty


def read_map(maps: Tensor, visible: Tensor, settings: Settings) -> Tensor:
    """(B, h, w) of eq. 4 -> the map whose centre counts, as `overlap_map` says."""
    return deviation(maps, visible) if settings.overlap_map == "deviation" else maps


def deviation(maps: Tensor, visible: Tensor) -> Tensor:
    """(B, h, w) minus the batch's mean map of the same modality: what is the same in every image drops out, and so do
    corners where a sub-network is always active.

    Against one mean of both modalities two corners that change places with the modality would still pass as centres.
    """
    members = torch.stack([visible, ~visible]).to(maps.dtype)  # (2, B)
    means = (members @ maps.flatten(1)) / members.sum(1, keepdim=True).clamp(min=1)
    return maps - (members.T @ means).view_as(maps)


def centres(maps: Tensor, settings: Settings) -> Tensor:
    """Where each map is highest: (B, h, w) -> (B, 2), y and x in the unit of S.

    overlap_centre `hard`: the cell of the maximum, as the paper says; it has no gradient, so that its loss is constant.
    `soft`: the mean position under a softmax of the map, standardised and divided by `overlap_temperature`.
    `straight`: the cell of the maximum, with the gradient of `soft`.
    """
    rows, columns = maps.shape[1:]
    height, width = settings.separation_height, settings.separation_height * settings.width / settings.height
    if settings.separation_unit == "cells":
        height, width = rows, columns
    y = (torch.arange(rows, device=maps.device) + 0.5) * (height / rows)
    x = (torch.arange(columns, device=maps.device) + 0.5) * (width / columns)
    cells, flat = torch.cartesian_prod(y, x), maps.float().flatten(1)
    maximum = cells[flat.argmax(1)]
    if settings.overlap_centre == "hard":
        return maximum
    spread = flat.std(1, keepdim=True, correction=0).clamp(min=FLAT)
    standardised = (flat - flat.mean(1, keepdim=True)) / spread
    soft = functional.softmax(standardised / settings.overlap_temperature, dim=1) @ cells
    return soft if settings.overlap_centre == "soft" else maximum + (soft - soft.detach())
