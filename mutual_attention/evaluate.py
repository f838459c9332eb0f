"""Score a finished run again: RUN_DIR [--dataset NAME] [--rerank] [--multi-query], with `--help` for more."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from common.evaluation.loaded_run import LoadedRun
from common.evaluation.report import evaluate_main
from common.runs import Run, reopen_run

from .mean_image import mean_image_of
from .model import MutualAttentionNet
from .settings import Settings
from .train import embedder


def network_of(run: Run, mean: Tensor | None = None) -> LoadedRun:
    """The network of a run as it is built, from no pretrained weights.

    mean: the training set's mean image, (3, H, W). Without it zero is subtracted: nothing is read from disk, as when
    the time of a run that has not begun is estimated.
    """
    model = MutualAttentionNet(run.dataset.train.num_identities, replace(run.settings, pretrained="none"))
    mean = torch.zeros(3, 1, 1, device=run.device) if mean is None else mean
    return LoadedRun(run, model, embedder(model, run, mean))


def load_run(directory: Path, device: str = "auto") -> LoadedRun:
    """The network of a run directory's last checkpoint. Raises UserError where there is none."""
    run = reopen_run(__package__, Settings, directory, device)
    return network_of(run, mean_image_of(run)).restored()


if __name__ == "__main__":
    evaluate_main(__package__, load_run)
