"""Score a finished run again: `python -m mgre.evaluate RUN_DIR [--dataset NAME] [--rerank] [--multi-query]
[--feature-weights W1 W2 W3 W4]`.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from common.errors import UserError, command
from common.evaluation_report import evaluation_command_line, find_dataset, report
from common.runs import Run

from .data import split_training
from .model import MGRe, weighted
from .scores import stage_embedder
from .train import Config, build_model


@dataclass(frozen=True)
class LoadedRun:
    """A trained network in evaluation mode; `embed` takes images (B, 3, H, W) uint8 to test features (B, S * D)."""

    run: Run
    model: MGRe
    embed: Callable[[Tensor], Tensor]


def load_run(directory: Path, device: str = "auto", feature_weights: list[float] | None = None) -> LoadedRun:
    """The network of a run directory's last checkpoint, by its own lambda^F or these four.

    Raises UserError where there is no checkpoint.
    """
    run = Run.from_directory(__package__, Config, Path(directory), device)
    config = replace(run.config, pretrained="none", feature_weights=feature_weights or run.config.feature_weights)
    subset, _ = split_training(run.dataset, config.validation_identities)
    model = build_model(config, subset.num_identities)
    run.restore_trained(model=model)
    model = model.to(run.device, memory_format=torch.channels_last).eval()
    embed = stage_embedder(model, run)
    return LoadedRun(run, model, lambda images: weighted(embed(images), model.feature_weights))


@command
def main(argv: list[str] | None = None) -> None:
    parser = evaluation_command_line(__package__)
    parser.add_argument("--feature-weights", nargs=4, type=float, metavar="W", help="lambda^F of eq. 6, as chosen")
    arguments = parser.parse_args(argv)
    loaded = load_run(arguments.run_directory, arguments.device, arguments.feature_weights)
    if loaded.run.config.pose_boxes:
        raise UserError(
            "this variant takes its boxes from the file of poses, which evaluate does not read; "
            f"its scores are in {loaded.run.directory / 'result.json'}"
        )
    dataset = find_dataset(loaded.run, arguments.dataset, arguments.data_root)
    report(loaded.run, dataset, loaded.embed, rerank=arguments.rerank, multi_query=arguments.multi_query)


if __name__ == "__main__":
    main(sys.argv[1:])
