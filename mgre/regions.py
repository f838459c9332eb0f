"""The seven body regions of Table 1, the joints of each, and the boxes around them (eq. 3's targets).

Shapes: B images, R regions. joints: (B, 17, 3), in COCO's order, x and y in (0, 1) of the image, v = 0 where a joint is
not in the image. boxes: (B, R, 4), x_min y_min x_max y_max in parts of the image's width and height.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from common.datasets.poses import COCO_JOINTS

from .settings import Settings

MARGIN = 0.05  # eq. 3, in the units that `margin_units` says
STAGE_MAPS = {1: (64, 32), 2: (32, 16), 3: (16, 8)}  # height and width of the maps at 256x128, to which N and M refer


@dataclass(frozen=True)
class Region:
    """A row of Table 1, with its joints (I_p of Sec. 3.1; ASSUMED: the paper does not list them)."""

    name: str
    stage: int
    centre: tuple[float, float]  # C_x, C_y
    N: int  # height of the sampled map at 256x128
    M: int  # width
    joints: tuple[str, ...]

    @property
    def extent(self) -> tuple[float, float]:
        """(width, height) in parts of the stage's map, so that Table 1 applies to any input size."""
        height, width = STAGE_MAPS[self.stage]
        return self.M / width, self.N / height

    def sampled_size(self, height: int, width: int) -> tuple[int, int]:
        """(N, M) for a map of this height and width."""
        return max(1, round(self.extent[1] * height)), max(1, round(self.extent[0] * width))

    @property
    def prior(self) -> tuple[float, float, float, float]:
        """The box that the predefined centre and the sampled size give."""
        (x, y), (width, height) = self.centre, self.extent
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _sides(*parts: str) -> tuple[str, ...]:
    return tuple(f"{side}_{part}" for part in parts for side in ("left", "right"))


_TORSO = ("shoulder", "elbow", "wrist", "hip")
_HEAD = ("nose", *_sides("eye", "ear"))

REGIONS = (
    Region("head", 1, (1 / 2, 1 / 12), 8, 8, _HEAD),
    Region("half left torso", 1, (1 / 2, 1 / 3), 32, 16, tuple(f"left_{part}" for part in _TORSO)),
    Region("half right torso", 1, (1 / 2, 1 / 3), 32, 16, tuple(f"right_{part}" for part in _TORSO)),
    Region("legs", 1, (1 / 2, 3 / 4), 24, 32, _sides("hip", "knee", "ankle")),
    Region("upper body", 2, (1 / 2, 1 / 3), 16, 16, (*_HEAD, *_sides(*_TORSO))),
    Region("lower body", 2, (1 / 2, 3 / 4), 16, 16, _sides("hip", "knee", "ankle")),
    Region("whole body", 3, (1 / 2, 1 / 2), 16, 8, COCO_JOINTS),
)

_OTHER_SIDE = {"left": "right", "right": "left"}
_MIRRORED = [
    COCO_JOINTS.index("_".join(_OTHER_SIDE.get(word, word) for word in name.split("_"))) for name in COCO_JOINTS
]


def regions_of(stage: int) -> tuple[Region, ...]:
    return tuple(region for region in REGIONS if region.stage == stage)


def positions_of(stage: int) -> slice:
    """Where the stage's regions stand in REGIONS, side by side; nowhere for stage 4."""
    first = sum(region.stage < stage for region in REGIONS)
    return slice(first, first + len(regions_of(stage)))


def prior_boxes(regions: Sequence[Region] = REGIONS) -> Tensor:
    """(R, 4)."""
    return torch.tensor([region.prior for region in regions])


def map_sizes(settings: Settings) -> dict[int, tuple[int, int]]:
    """{stage: (height, width)} of the map that the stage's modules read."""
    strides = {1: 4, 2: 8, 3: 16, 4: 16 * settings.last_stride}
    if settings.single_grained_features:
        strides = dict.fromkeys(strides, strides[4])
    return {stage: (-(-settings.height // stride), -(-settings.width // stride)) for stage, stride in strides.items()}


def margins_of(settings: Settings) -> Tensor:
    """Eq. 3's margin of each of REGIONS in parts of the image's width and height, (7, 2)."""
    if settings.margin_units == "image":
        return torch.full((len(REGIONS), 2), MARGIN)
    sizes = map_sizes(settings)
    return MARGIN / torch.tensor([sizes[region.stage][::-1] for region in REGIONS])


def target_boxes(joints: Tensor, margins: Tensor) -> tuple[Tensor, Tensor]:
    """The boxes around each region's joints with eq. 3's margin, (B, 7, 4), and which are known, (B, 7) bool.

    margins: (7, 2), as `margins_of` gives them. A region is unknown, its box all zeros, where none of its joints is in
    the image or the image has no pose.
    """
    member = torch.tensor([[name in region.joints for name in COCO_JOINTS] for region in REGIONS], device=joints.device)
    absent = ~((joints[:, None, :, 2] > 0) & member)[..., None]  # (B, R, 17, 1)
    points = joints[:, None, :, :2]
    margins = margins.to(joints)
    low = points.masked_fill(absent, torch.inf).amin(2) - margins
    high = points.masked_fill(absent, -torch.inf).amax(2) + margins
    known = ~absent.squeeze(-1).all(2)
    return torch.cat([low, high], dim=2).masked_fill(~known[..., None], 0.0), known


def boxes_from_poses(targets: Tensor, known: Tensor) -> Tensor:
    """`target_boxes` for a network without location modules: (B, 7, 4), Table 1's box where a region has no joints."""
    return torch.where(known[..., None], targets, prior_boxes().to(targets))


def mean_boxes(targets: Tensor, known: Tensor) -> Tensor:
    """The mean over images of the boxes that are known, (7, 4); Table 1's box where none is."""
    count = known.sum(0)[:, None]
    mean = (targets * known[..., None]).sum(0) / count.clamp(min=1)
    return torch.where(count > 0, mean, prior_boxes().to(targets))


def flip_joints(joints: Tensor, chosen: Tensor) -> Tensor:
    """Mirror the joints of the chosen images, (B,) bool: x becomes 1 - x, and left and right joints are swapped."""
    mirrored = joints[:, _MIRRORED] * joints.new_tensor([-1, 1, 1]) + joints.new_tensor([1, 0, 0])
    return torch.where(chosen.to(joints.device)[:, None, None], mirrored, joints)


def intersection_over_union(boxes: Tensor, others: Tensor) -> Tensor:
    """(..., 4) and (..., 4) -> (...), 0 where they do not overlap."""
    low, high = torch.maximum(boxes[..., :2], others[..., :2]), torch.minimum(boxes[..., 2:], others[..., 2:])
    intersection = (high - low).clamp(min=0).prod(-1)
    areas = [(b[..., 2:] - b[..., :2]).prod(-1) for b in (boxes, others)]
    return intersection / (areas[0] + areas[1] - intersection)
