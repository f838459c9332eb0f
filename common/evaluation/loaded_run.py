"""A run's network with its embedding, as scoring, figures and a paper's other programs use it."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from common.runs import Run

from .features import Embed


@dataclass(frozen=True)
class LoadedRun:
    """embed: images (B, 3, H, W) uint8 on the CPU -> test features (B, D) on the run's device, L2-normalised if the
    paper compares them so; or one such function per modality, {modality: embed}."""

    run: Run
    model: nn.Module
    embed: Embed | Mapping[str, Embed]

    def ready(self) -> "LoadedRun":
        """Move the network to the run's device, in evaluation mode."""
        self.model.to(self.run.device, memory_format=torch.channels_last).eval()
        return self

    def restored(self) -> "LoadedRun":
        """Load the run's last checkpoint, then as `ready`. UserError: there is none."""
        self.run.restore_trained(model=self.model)
        return self.ready()
