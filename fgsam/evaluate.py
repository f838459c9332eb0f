"""Score a finished run again: RUN_DIR [--dataset NAME] [--rerank] [--multi-query], with `--help` for more."""

from dataclasses import replace
from pathlib import Path

from common import evaluation
from common.evaluation.report import evaluate_main
from common.runs import Run, reopen_run

from .attribute_tasks import read_table
from .model import network_of_phase
from .settings import Settings
from .train import embedder


def network_of(run: Run) -> evaluation.LoadedRun:
    """The network of a run as it is built, from no pretrained weights.

    It is of the phase of the run's last checkpoint, or of its last phase where there is no checkpoint.
    """
    epoch, settings = run.restore(), run.settings
    phase = settings.phase_of(epoch) if epoch else settings.phases[-1]
    num_identities, num_values = run.dataset.train.num_identities, read_table(run).num_values
    model = network_of_phase(phase, num_identities, num_values, replace(settings, pretrained="none"))
    return evaluation.LoadedRun(run, model, embedder(model, run))


def load_run(directory: Path, device: str = "auto") -> evaluation.LoadedRun:
    """The network of a run directory's last checkpoint. Raises UserError where there is none."""
    return network_of(reopen_run(__package__, Settings, directory, device)).restored()


if __name__ == "__main__":
    evaluate_main(__package__, load_run)
