"""The figures that need trained networks: Fig. 6, the heat maps of the body parts, and what each module carries."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from common import evaluation
from common.datasets import poses
from common.errors import UserError
from common.evaluation import carried as carrying
from common.evaluation import figures as drawing

from .model import FGSAM
from .pose_net import ChannelParseBlock
from .skeleton import NUM_ANNOTATED, PARTS, part_channels
from .train import prepared

SEEN = 2  # COCO's v


class PartMaps(nn.Module):
    """A part's channels of the pose resolve net, after the channel parse blocks: images -> (n, channels, h, w)."""

    def __init__(self, model: FGSAM, part: str):
        super().__init__()
        self.model, self.channels = model, part_channels(part)

    def forward(self, images: Tensor) -> Tensor:
        return self.model.pose_maps(images)[:, self.channels]


def fig6(runs: dict[str, evaluation.LoadedRun], file: Path) -> dict:
    """Query images of random identities under each body part's channels, of the last of the networks, with the joints
    that can be seen, where the data set has them."""
    loaded = _with_pose_net(list(runs.values())[-1])
    parts = {part.replace("_", " "): replace(loaded, model=PartMaps(loaded.model, part)) for part in PARTS}
    found = drawing.heat_map_figure(parts, file, lambda one, images: one.model(prepared(images)), show_joints=True)
    found["table"]["headers"][0] = "Body part"
    run = loaded.run
    if poses.pose_file(run.dataset).is_file():
        shown = drawing.random_images(run, run.dataset.query).positions
        joints = poses.read_joints(run.dataset, run.dataset.query)[shown]
        found["table"]["headers"].append("peak to the nearest joint")
        for part, row in zip(PARTS, found["table"]["rows"], strict=True):
            maps, aspect = torch.tensor(found["maps"][row[0]]), run.settings.width / run.settings.height
            row.append(f"{peak_distance(maps, joints, part, aspect):.1%}")
    return found


def peak_distance(maps: Tensor, joints: Tensor, part: str, aspect: float) -> float:
    """Mean distance from a map's highest cell to the nearest of the part's joints that can be seen, as a share of the
    image's height; NaN if none of the images shows one. maps: (n, h, w); joints: (n, 17, 3); aspect: width / height."""
    height, width = maps.shape[1:]
    highest = maps.flatten(1).argmax(1)
    peak = torch.stack([(highest % width + 0.5) / width, (highest // width + 0.5) / height], dim=1)
    own = joints[:, [channel for channel in part_channels(part) if channel < NUM_ANNOTATED]]
    apart = ((own[..., :2] - peak[:, None]) * torch.tensor([aspect, 1.0])).norm(dim=2)
    nearest = apart.masked_fill(own[..., 2] != SEEN, torch.inf).amin(1)
    return float(np.mean(nearest[nearest.isfinite()].tolist())) if nearest.isfinite().any() else float("nan")


def carried(runs: dict[str, evaluation.LoadedRun], file: Path) -> dict:
    """What each module of the trained network carries: scores with its output replaced."""
    (loaded,) = runs.values()
    return carrying.carried_figure(loaded, carriers_of(_with_pose_net(loaded).model), file)


def carriers_of(model: FGSAM) -> dict[str, list[str]]:
    """{row of `what each module carries`: its submodules}: eq. 6, eq. 7-8, the CPBs' weights, the branches."""
    rows = {"backbone's map": ["backbone_norm"], "maps and fields": ["maps_norm", "fields_norm"]}
    blocks = enumerate(model.pose_net.parse)
    gates = [f"pose_net.parse.{stage}.gates" for stage, block in blocks if isinstance(block, ChannelParseBlock)]
    rows |= {"CPBs": gates} if gates else {}
    return rows | {f"{name.replace('_', ' ')} branch": [f"branches.{name}"] for name in model.branches}


def _with_pose_net(loaded: evaluation.LoadedRun) -> evaluation.LoadedRun:
    if not isinstance(loaded.model, FGSAM):
        raise UserError(f"{loaded.run.directory} has no pose resolve net: draw a run of phase 2 or 3")
    return loaded
