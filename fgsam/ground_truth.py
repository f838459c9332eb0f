"""Phase 0's targets and losses: confidence maps, part affinity fields, and eq. 3-4.

As in Cao et al., CVPR 2017, Sec. 2.2-2.3. Shapes: B images, M people (short lists are padded with joints of v = 0 and
boxes outside the image), J = 18 joints, L = 19 limbs, h x w cells of the maps; positions are in cells, and cell (row,
column) has its centre at y = row, x = column.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from common import devices

from .skeleton import BACKGROUND, NUM_MAPS, joint_index, limb_indices, mirrored_joints

_FLOOR = 0.02  # of a confidence map: the logarithm of a smaller value says nothing about a joint


def add_neck(joints: Tensor) -> Tensor:
    """(..., 17, 3) x y v -> (..., 18, 3): the neck is halfway between the shoulders, and labelled where both are."""
    left, right = (joints[..., joint_index(f"{side}_shoulder"), :] for side in ("left", "right"))
    middle = (left[..., :2] + right[..., :2]) / 2
    visibility = torch.minimum(left[..., 2:], right[..., 2:])
    return torch.cat([joints, torch.cat([middle, visibility], dim=-1)[..., None, :]], dim=-2)


def flip_joints(joints: Tensor, chosen: Tensor) -> Tensor:
    """Mirror the joints, (B, M, J, 3), of the chosen images, (B,) bool; x is a fraction of the width."""
    mirrored = joints[..., mirrored_joints(), :] * torch.tensor([-1.0, 1.0, 1.0]) + torch.tensor([1.0, 0.0, 0.0])
    return torch.where(chosen[:, None, None, None], mirrored, joints)


def to_cells(places: Tensor, height: int, width: int) -> Tensor:
    """x y, (..., 2), as fractions of the image -> in cells of an h x w map."""
    return places * devices.constant((float(width), float(height)), places.device) - 0.5


def confidence_maps(joints: Tensor, height: int, width: int, *, sigma: float) -> Tensor:
    """G_1: (B, M, J, 3) -> (B, 19, h, w) in [0, 1]. A Gaussian at each labelled joint, the maximum over people; the
    last channel is the background, one minus the maximum over joints. sigma: in cells."""
    rows, columns = _cell_centres(height, width, joints.device)
    x, y, v = joints[..., None, None].unbind(-3)  # (B, M, J, 1, 1)
    squares = (columns - x).square() + (rows - y).square()
    maps = (torch.exp(-squares / (2 * sigma**2)) * (v > 0)).amax(1)
    return torch.cat([maps, 1 - maps.amax(1, keepdim=True)], dim=1)


def affinity_fields(joints: Tensor, height: int, width: int, *, limb_width: float) -> Tensor:
    """G_2: (B, M, J, 3) -> (B, 38, h, w), x and y of each limb in turn. The limb's unit vector in the cells within
    `limb_width` cells of the line between its joints, 0 elsewhere; where limbs of several people meet, their mean."""
    rows, columns = _cell_centres(height, width, joints.device)
    begins, ends = (devices.constant(tuple(joints_of), joints.device) for joints_of in limb_indices())
    begin, end = joints[:, :, begins], joints[:, :, ends]  # (B, M, L, 3)
    known = (begin[..., 2] > 0) & (end[..., 2] > 0)
    vector = end[..., :2] - begin[..., :2]
    length = vector.norm(dim=-1)
    direction = vector / length.clamp(min=1e-6)[..., None]
    x, y = direction[..., None, None].unbind(-3)  # (B, M, L, 1, 1)
    from_x, from_y = columns - begin[..., 0, None, None], rows - begin[..., 1, None, None]
    along, aside = from_x * x + from_y * y, (from_x * y - from_y * x).abs()
    on_limb = (along >= 0) & (along <= length[..., None, None]) & (aside <= limb_width) & known[..., None, None]
    count = on_limb.sum(1).clamp(min=1)  # (B, L, h, w)
    fields = torch.stack([(on_limb * x).sum(1) / count, (on_limb * y).sum(1) / count], dim=2)
    return fields.flatten(1, 2)


def loss_weights(joints: Tensor, boxes: Tensor, ignored: Tensor) -> Tensor:
    """W of eq. 3-4 for each channel: (B, 57, h, w) of 0 and 1.

    0 where the truth is unknown: in all channels where the image shows people without joints, and, in the channels of a
    joint and of its limbs, within the box of a person whose joint is not labelled. (Not so the background: few people
    in COCO have all joints labelled.)

    joints: (B, M, J, 3); boxes: (B, M, 4), x_min y_min x_max y_max in cells; ignored: (B, h, w) bool.
    """
    rows, columns = _cell_centres(*ignored.shape[1:], joints.device)
    x_min, y_min, x_max, y_max = boxes[..., None, None].unbind(2)
    inside = (columns >= x_min) & (columns <= x_max) & (rows >= y_min) & (rows <= y_max)  # (B, M, h, w)
    begins, ends = (devices.constant(tuple(joints_of), joints.device) for joints_of in limb_indices())
    missing = joints[..., 2] <= 0
    missing_limb = (missing[:, :, begins] | missing[:, :, ends]).repeat_interleave(2, dim=2)
    never = torch.zeros_like(missing[:, :, :1])
    unknown = torch.cat([missing, never, missing_limb], dim=2)  # (B, M, 57)
    masked = (unknown[..., None, None] & inside[:, :, None]).any(1) | ignored[:, None]
    return (~masked).float()


def pose_losses(stages: Sequence[Tensor], targets: Tensor | Sequence[Tensor], weights: Tensor) -> dict[str, Tensor]:
    """`loss`, the sum of its terms: eq. 3 and eq. 4, each summed over channels, cells and stages, averaged over images.

    stages: of each stage (B, 57, h, w), maps and fields; targets: the same of each, or one for all stages; weights:
    (B, 57, h, w).
    """
    maps_loss = fields_loss = 0.0
    wanted = [targets] * len(stages) if isinstance(targets, Tensor) else targets
    for prediction, target in zip(stages, wanted, strict=True):
        errors = weights * (prediction.float() - target).square()
        maps_loss = maps_loss + errors[:, :NUM_MAPS].sum() / len(errors)
        fields_loss = fields_loss + errors[:, NUM_MAPS:].sum() / len(errors)
    return {"loss": maps_loss + fields_loss, "maps_loss": maps_loss, "fields_loss": fields_loss}


def find_joints(maps: Tensor) -> Tensor:
    """The maxima of the confidence maps (B, >=18, h, w): (B, 18, 3), x and y as fractions of the image, and the value.

    Finer than a cell: in each direction the peak of the Gaussian through the highest cell and its two neighbours.
    """
    maps = maps[:, :BACKGROUND].float()
    height, width = maps.shape[2:]
    best, position = maps.flatten(2).max(2)
    row, column = position // width, position % width
    logarithms = functional.pad(maps.clamp(min=_FLOOR).log(), (1, 1, 1, 1), mode="replicate").flatten(2)

    def around(down: int, right: int) -> Tensor:
        cell = (row + 1 + down) * (width + 2) + column + 1 + right
        return logarithms.gather(2, cell[..., None]).squeeze(2)

    middle = around(0, 0)
    y = row + 0.5 + _peak(around(-1, 0), middle, around(1, 0))
    x = column + 0.5 + _peak(around(0, -1), middle, around(0, 1))
    return torch.stack([x / width, y / height, best], dim=2)


def _peak(before: Tensor, middle: Tensor, after: Tensor) -> Tensor:
    """The position of the maximum of the parabola through values at -1, 0 and 1, of which the one at 0 is largest."""
    curvature = (2 * middle - before - after).clamp(min=1e-3)
    return ((after - before) / (2 * curvature)).clamp(-0.5, 0.5)


def _cell_centres(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """y of the rows, (h, 1), and x of the columns, (1, w)."""
    return torch.arange(height, device=device).float()[:, None], torch.arange(width, device=device).float()[None]
