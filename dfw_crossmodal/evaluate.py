"""Score a finished run again: RUN_DIR [--dataset NAME] [--rerank], with `--help` for more."""

from dataclasses import replace
from pathlib import Path

from common.evaluation import LoadedRun
from common.evaluation.report import evaluate_main
from common.runs import Run, reopen_run

from .model import CrossModalityNet
from .settings import Settings
from .train import embedders


def network_of(run: Run) -> LoadedRun:
    """The network of a run as it is built, from no pretrained weights."""
    model = CrossModalityNet(run.dataset.train.num_identities, replace(run.settings, pretrained="none"))
    return LoadedRun(run, model, embedders(model, run))


def load_run(directory: Path, device: str = "auto") -> LoadedRun:
    """The network of a run directory's last checkpoint. Raises UserError where there is none."""
    return network_of(reopen_run(__package__, Settings, directory, device)).restored()


if __name__ == "__main__":
    evaluate_main(__package__, load_run)
