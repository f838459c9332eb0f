"""Choose the four lambda^F of eq. 6, and lambda of eq. 9, on identities held out of the training: RUN_DIR ..., `--help`
for more.

Each run needs `--set validation_identities=100` (Sec. 4.4). The paper searches a grid, which has 19 ** 4 points here.
Instead one weight after another takes its best value; since they "always interfere with each other", this goes in
rounds until none changes. lambda acts in training, so that each of its values is a run of its own, `--set
stage_loss_weight=...`; of several runs the one with the largest mAP is chosen, each with its own best lambda^F.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from common.errors import UserError, command
from common.files import write_text

from .evaluate import load_run
from .scores import search_features, weighted_scores
from .train import stage_embedder

GRID = tuple(step / 20 for step in range(2, 21))  # 0.1 to 1.0; 0.05 apart, as the paper's 0.35 needs
MAX_ROUNDS = 10
FILE = "feature_weights.json"


@command
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}.choose_weights")
    parser.add_argument("run_directories", type=Path, nargs="+", metavar="RUN_DIR")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    arguments = parser.parse_args(argv)
    found = {directory: chosen_weights(directory, arguments.device) for directory in arguments.run_directories}
    for directory, content in found.items():
        numbers = " ".join(f"{weight:g}" for weight in content["feature_weights"])
        print(
            f"mAP {content['validation_mAP']:.1%} on held-out identities with lambda = "
            f"{content['stage_loss_weight']:g} and lambda^F = {numbers} ({directory / FILE})"
        )
    best = max(found, key=lambda directory: found[directory]["validation_mAP"])
    numbers = " ".join(f"{weight:g}" for weight in found[best]["feature_weights"])
    print(f"The test scores with these weights:\npython -m {__package__}.evaluate {best} --feature-weights {numbers}")


def chosen_weights(directory: Path, device: str) -> dict:
    """What is written to FILE of a run's directory. UserError: the run held out no identities, or has one feature."""
    loaded = load_run(directory, device)
    run, model, settings = loaded.run, loaded.model, loaded.run.settings
    _, search = run.dataset.hold_out(settings.validation_identities)
    if search is None:
        raise UserError(
            f"{directory} held out no identities to choose the weights on. Train a run that does:\n"
            f"       python -m {__package__}.train --set validation_identities=100"
        )
    if len(model.feature_stages) < 2:
        raise UserError(f"{directory}: this variant has the feature of one stage only: there is nothing to weight")
    features = search_features(stage_embedder(model, run), run, search)
    chosen, mAP = climb(lambda weights: weighted_scores(search, features, weights)["mAP"], model.feature_weights)

    all_four = list(settings.feature_weights)
    for stage, weight in zip(model.feature_stages, chosen, strict=True):
        all_four[stage - 1] = weight
    content = {
        "feature_weights": all_four,
        "stage_loss_weight": settings.stage_loss_weight,
        "validation_mAP": mAP,
        "configured": list(settings.feature_weights),
    }
    write_text(directory / FILE, json.dumps(content, indent=1) + "\n")
    return content


def climb(score: Callable[[list[float]], float], start: list[float]) -> tuple[list[float], float]:
    """Coordinate-wise search over GRID for the largest score; of equal ones the first stays."""
    weights, best = list(start), score(list(start))
    for _ in range(MAX_ROUNDS):
        before = list(weights)
        for position in range(len(weights)):
            for value in GRID:
                candidate = [*weights[:position], value, *weights[position + 1 :]]
                found = score(candidate)
                if found > best:
                    weights, best = candidate, found
        if weights == before:
            break
    return weights, best


if __name__ == "__main__":
    main()
