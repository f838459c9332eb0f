"""The sampling module: a box of a map, resampled to a fixed size, differentiable in map and box (eq. 4-5)."""

import torch
from torch import Tensor
from torch.nn import functional


def sample(x: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear samples at the centres of N x M equal cells of each box; 0 outside the map.

    Eq. 4 with pixel centres: x_s = (c_x + dc_x) W + (x_t + 1/2 - M/2) l_1 / M - 1/2 for x_t = 0 ... M-1, the map's
    pixels being at 0 ... W-1. Taken literally, with 1-based coordinates and no halves, eq. 4 shifts the samples by
    (l_1 / M - 1) / 2 pixels.

    x: (B, C, H, W); boxes: (B, 4), x_min y_min x_max y_max in parts of W and H; size: (N, M). Returns (B, C, N, M).
    """
    N, M = size
    cells_x = (torch.arange(M, device=x.device) + 0.5) / M
    cells_y = (torch.arange(N, device=x.device) + 0.5) / N
    x_min, y_min, x_max, y_max = boxes.float().unbind(1)
    columns = x_min[:, None] + (x_max - x_min)[:, None] * cells_x  # (B, M), (x_s + 1/2) / W
    rows = y_min[:, None] + (y_max - y_min)[:, None] * cells_y
    grid = torch.stack(
        [columns[:, None, :].expand(-1, N, -1), rows[:, :, None].expand(-1, -1, M)], dim=-1
    )  # (B, N, M, 2)
    # grid_sample's coordinates run from -1 to 1 over the map's edges, not over its outer pixels' centres.
    dtype = torch.promote_types(x.dtype, torch.float32)  # bf16 would round coordinates to a tenth of a pixel
    return functional.grid_sample(x.to(dtype), (2 * grid - 1).to(dtype), padding_mode="zeros", align_corners=False)
