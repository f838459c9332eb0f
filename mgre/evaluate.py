"""Score a finished run again: RUN_DIR [--dataset NAME] [--rerank] [--multi-query] [--feature-weights W1 W2 W3 W4], with
`--help` for more."""

from dataclasses import replace
from pathlib import Path

from common import evaluation
from common.errors import UserError
from common.evaluation.report import evaluate_main
from common.runs import Run, reopen_run

from .model import MGRe
from .settings import Settings
from .train import embedder


def network_of(run: Run, feature_weights: list[float] | None = None) -> evaluation.LoadedRun:
    """The network of a run as it is built, from no pretrained weights, with its own lambda^F or these four.

    UserError: a weight is negative.
    """
    if feature_weights and min(feature_weights) < 0:
        raise UserError(f"--feature-weights: weights of 0 or more, got {feature_weights}")
    settings = replace(run.settings, pretrained="none", feature_weights=feature_weights or run.settings.feature_weights)
    subset, _ = run.dataset.hold_out(settings.validation_identities)
    model = MGRe(subset.num_identities, settings)
    return evaluation.LoadedRun(run, model, embedder(model, run))


def load_run(directory: Path, device: str = "auto", feature_weights: list[float] | None = None) -> evaluation.LoadedRun:
    """The network of a run directory's last checkpoint. Raises UserError where there is none."""
    return network_of(reopen_run(__package__, Settings, directory, device), feature_weights).restored()


if __name__ == "__main__":
    own_option = {"nargs": 4, "type": float, "metavar": "W", "help": "lambda^F of eq. 6"}
    evaluate_main(__package__, load_run, options={"feature_weights": own_option})
