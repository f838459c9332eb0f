"""Score a finished run again: `python -m dfw_crossmodal.evaluate RUN_DIR [--dataset NAME] [--rerank]`."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from common.errors import command
from common.evaluation_report import evaluation_command_line, find_dataset, report
from common.runs import Run

from .model import CrossModalityNet
from .train import Config, build_model, embedders


@dataclass(frozen=True)
class LoadedRun:
    """A trained network in evaluation mode; `embed` has for each modality a function from images (B, 3, H, W) uint8 to
    test features (B, D)."""

    run: Run
    model: CrossModalityNet
    embed: dict[str, Callable[[Tensor], Tensor]]


def load_run(directory: Path, device: str = "auto") -> LoadedRun:
    """The network of a run directory's last checkpoint. Raises UserError where there is none."""
    run = Run.from_directory(__package__, Config, Path(directory), device)
    model = build_model(replace(run.config, pretrained="none"), run.dataset.train.num_identities)
    run.restore_trained(model=model)
    model = model.to(run.device, memory_format=torch.channels_last).eval()
    return LoadedRun(run, model, embedders(model, run))


@command
def main(argv: list[str] | None = None) -> None:
    arguments = evaluation_command_line(__package__).parse_args(argv)
    loaded = load_run(arguments.run_directory, arguments.device)
    dataset = find_dataset(loaded.run, arguments.dataset, arguments.data_root)
    report(loaded.run, dataset, loaded.embed, rerank=arguments.rerank, multi_query=arguments.multi_query)


if __name__ == "__main__":
    main(sys.argv[1:])
