"""The paper's figure that needs a trained network: Fig. 6, the heat maps of the body parts."""

from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from common.errors import UserError
from common.evaluation.figures import heat_map_figure
from common.evaluation.loaded_run import LoadedRun

from .model import FGSAM
from .skeleton import PARTS, part_channels
from .train import prepared


class PartMaps(nn.Module):
    """A part's channels of the pose resolve net, after the channel parse blocks: images -> (n, channels, h, w)."""

    def __init__(self, model: FGSAM, part: str):
        super().__init__()
        self.model, self.channels = model, part_channels(part)

    def forward(self, images: Tensor) -> Tensor:
        return self.model.pose_maps(images)[:, self.channels]


def fig6(runs: dict[str, LoadedRun], file: Path) -> dict:
    """Query images of random identities under each body part's channels, of the last of the networks."""
    loaded = list(runs.values())[-1]
    if not isinstance(loaded.model, FGSAM):
        raise UserError(f"{loaded.run.directory} has no pose resolve net: draw a run of phase 2 or 3")
    parts = {part.replace("_", " "): replace(loaded, model=PartMaps(loaded.model, part)) for part in PARTS}
    shown = heat_map_figure(parts, file, lambda one, images: one.model(prepared(images)))
    shown["table"]["headers"][0] = "Body part"
    return shown
