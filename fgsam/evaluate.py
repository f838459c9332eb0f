"""Score a finished run again: `python -m fgsam.evaluate RUN_DIR [--dataset NAME] [--rerank] [--multi-query]`."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from common.errors import command
from common.evaluation_report import evaluation_command_line, find_dataset, report
from common.runs import Run

from .attribute_tasks import AttributeTable
from .model import FGSAM, Baseline
from .train import Config, build_model, embedder, read_table


@dataclass(frozen=True)
class LoadedRun:
    """A trained network in evaluation mode, of the phase that its last checkpoint is of; `embed` takes images
    (B, 3, H, W) uint8 to test features (B, D). table: the attributes that it predicts, if any."""

    run: Run
    model: Baseline | FGSAM
    embed: Callable[[Tensor], Tensor]
    table: AttributeTable | None


def load_run(directory: Path, device: str = "auto") -> LoadedRun:
    """The network of a run directory's last checkpoint. Raises UserError where there is none."""
    run = Run.from_directory(__package__, Config, Path(directory), device)
    epoch = run.restore_trained()
    phase, table = run.config.phase_of(epoch), read_table(run)
    config, num_values = replace(run.config, pretrained="none"), table.num_values if table else {}
    model = build_model(config, phase, run.dataset.train.num_identities, num_values)
    run.restore(model=model)
    model = model.to(run.device, memory_format=torch.channels_last).eval()
    return LoadedRun(run, model, embedder(model, run), table if phase > 1 else None)


@command
def main(argv: list[str] | None = None) -> None:
    arguments = evaluation_command_line(__package__).parse_args(argv)
    loaded = load_run(arguments.run_directory, arguments.device)
    dataset = find_dataset(loaded.run, arguments.dataset, arguments.data_root)
    report(loaded.run, dataset, loaded.embed, rerank=arguments.rerank, multi_query=arguments.multi_query)


if __name__ == "__main__":
    main(sys.argv[1:])
