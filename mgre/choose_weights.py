"""Choose the four lambda^F of eq. 6 on identities that a run held out of its training: RUN_DIR, `--help` for more.

The run needs `--set validation_identities=100` (Sec. 4.4). The paper searches a grid, which has 19 ** 4 points here.
Instead one weight after another takes its best value; since they "always interfere with each other", this goes in
rounds until none changes.
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


@command
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}.choose_weights")
    parser.add_argument("run_directory", type=Path)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    arguments = parser.parse_args(argv)
    loaded = load_run(arguments.run_directory, arguments.device)
    run, model, settings = loaded.run, loaded.model, loaded.run.settings
    _, search = run.dataset.hold_out(settings.validation_identities)
    if search is None:
        raise UserError(
            f"{arguments.run_directory} held out no identities to choose the weights on. Train a run that does:\n"
            f"       python -m {__package__}.train --set validation_identities=100"
        )
    if len(model.feature_stages) < 2:
        raise UserError("this variant has the feature of one stage only: there is nothing to weight")
    features = search_features(stage_embedder(model, run), run, search)
    chosen, mAP = climb(lambda weights: weighted_scores(search, features, weights)["mAP"], model.feature_weights)

    all_four = list(settings.feature_weights)
    for stage, weight in zip(model.feature_stages, chosen, strict=True):
        all_four[stage - 1] = weight
    content = {"feature_weights": all_four, "validation_mAP": mAP, "configured": list(settings.feature_weights)}
    file = arguments.run_directory / "feature_weights.json"
    write_text(file, json.dumps(content, indent=1) + "\n")
    numbers = " ".join(f"{weight:g}" for weight in all_four)
    print(
        f"mAP {mAP:.1%} on {settings.validation_identities} held-out identities with lambda^F = {numbers} ({file})\n"
        "The test scores with these weights:\n"
        f"python -m {__package__}.evaluate {arguments.run_directory} --feature-weights {numbers}"
    )


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
