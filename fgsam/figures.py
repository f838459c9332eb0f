"""The figures that need trained networks: Fig. 6, the heat maps of the body parts, and what each module carries."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from common.datasets.poses import pose_file, read_joints
from common.errors import UserError
from common.evaluation.carried import carried_figure
from common.evaluation.figures import energy_on_person, random_images
from common.evaluation.loaded_run import LoadedRun
from common.visualize.sheets import activation_map

from .model import FGSAM
from .pose_net import ChannelParseBlock
from .skeleton import NUM_ANNOTATED, PARTS, part_channels
from .train import prepared

DOT = (255, 255, 255)  # a true joint in Fig. 6
SEEN = 2  # COCO's v


class PartMaps(nn.Module):
    """A part's channels of the pose resolve net, after the channel parse blocks: images -> (n, channels, h, w)."""

    def __init__(self, model: FGSAM, part: str):
        super().__init__()
        self.model, self.channels = model, part_channels(part)

    def forward(self, images: Tensor) -> Tensor:
        return self.model.pose_maps(images)[:, self.channels]


def fig6(runs: dict[str, LoadedRun], file: Path) -> dict:
    """Query images of random identities under each body part's channels, of the last of the networks; dots are the
    joints that can be seen, where the data set has them."""
    loaded = _with_pose_net(list(runs.values())[-1])
    run, query = loaded.run, loaded.run.dataset.query
    shown = random_images(run, query)
    with torch.inference_mode(), run.autocast():
        all_maps = loaded.model.pose_maps(prepared(run.to_device(shown.pixels)))
    maps = {part.replace("_", " "): activation_map(all_maps[:, part_channels(part)]) for part in PARTS}
    if not pose_file(run.dataset).is_file():
        return shown.draw_heat_maps(maps, file, header="Body part")
    joints = read_joints(run.dataset, query)[shown.positions]
    found = replace(shown, pixels=with_dots(shown.pixels, joints)).draw_heat_maps(maps, file, header="Body part")
    aspect = run.settings.width / run.settings.height
    found["table"]["headers"] += ["energy on the person's box", "the box's part of the image", "peak to nearest joint"]
    for part, row in zip(PARTS, found["table"]["rows"], strict=True):
        one = replace(loaded, model=PartMaps(loaded.model, part))
        on_person = energy_on_person(one, lambda network, images: network.model(prepared(images)))
        distance = peak_distance(torch.from_numpy(maps[row[0]]), joints, part, aspect)
        row += [f"{on_person['energy']:.0%}", f"{on_person['area']:.0%}", f"{distance:.0%}"]
        found.setdefault("on_person", {})[row[0]] = on_person | {"peak_distance": round(distance, 4)}
    return found


def with_dots(pixels: Tensor, joints: Tensor) -> Tensor:
    """(n, 3, H, W) uint8 with a dot of 3 x 3 pixels at each joint, (n, 17, 3), that can be seen."""
    drawn = pixels.clone()
    height, width = pixels.shape[2:]
    for image, own in zip(drawn, joints, strict=True):
        for x, y, _ in own[own[:, 2] == SEEN].tolist():
            row, column = min(max(round(y * height), 1), height - 2), min(max(round(x * width), 1), width - 2)
            image[:, row - 1 : row + 2, column - 1 : column + 2] = torch.tensor(DOT, dtype=torch.uint8)[:, None, None]
    return drawn


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


def carried(runs: dict[str, LoadedRun], file: Path) -> dict:
    """What each module of the trained network carries: scores with its output replaced."""
    (loaded,) = runs.values()
    return carried_figure(loaded, carriers_of(_with_pose_net(loaded).model), file)


def carriers_of(model: FGSAM) -> dict[str, list[str]]:
    """{row of `what each module carries`: its submodules}: eq. 6, eq. 7-8, the CPBs' weights, the branches."""
    rows = {"backbone's map": ["backbone_norm"], "maps and fields": ["maps_norm", "fields_norm"]}
    blocks = enumerate(model.pose_net.parse)
    gates = [f"pose_net.parse.{stage}.gates" for stage, block in blocks if isinstance(block, ChannelParseBlock)]
    rows |= {"CPBs": gates} if gates else {}
    return rows | {f"{name.replace('_', ' ')} branch": [f"branches.{name}"] for name in model.branches}


def _with_pose_net(loaded: LoadedRun) -> LoadedRun:
    if not isinstance(loaded.model, FGSAM):
        raise UserError(f"{loaded.run.directory} has no pose resolve net: draw a run of phase 2 or 3")
    return loaded
