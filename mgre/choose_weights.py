"""Pick the four lambda^F of eq. 6 on held-out training identities: `python -m mgre.choose_weights RUN_DIR`.

The run must have held some out (`--set validation_identities=100`, Sec. 4.4). The paper searches a grid; its weights
"always interfere with each other", so here one weight after the other takes its best value, in rounds until none
changes.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from common.errors import UserError, command
from common.runs import write_text

from .data import split_training
from .evaluate import load_run
from .scores import search_features, weighted_scores

GRID = tuple(step / 20 for step in range(2, 21))  # 0.1 to 1.0; 0.05 apart, as the paper's 0.35 needs
MAX_ROUNDS = 10


@command
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}.choose_weights")
    parser.add_argument("run_directory", type=Path)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    arguments = parser.parse_args(argv)
    loaded = load_run(arguments.run_directory, arguments.device)
    run, model = loaded.run, loaded.model
    _, search = split_training(run.dataset, run.config.validation_identities)
    if search is None:
        raise UserError(
            f"{arguments.run_directory} held out no identities to choose on: train one that does, by\n"
            f"       python -m {__package__}.train --set validation_identities=100"
        )
    if len(model.feature_stages) < 2:
        raise UserError("this variant has one stage's feature only: there is nothing to weigh")
    features = search_features(model, run, search)
    chosen, mAP = climb(lambda weights: weighted_scores(search, features, weights)["mAP"], model.feature_weights)

    all_four = list(run.config.feature_weights)
    for stage, weight in zip(model.feature_stages, chosen, strict=True):
        all_four[stage - 1] = weight
    content = {"feature_weights": all_four, "validation_mAP": mAP, "configured": list(run.config.feature_weights)}
    write_text(arguments.run_directory / "feature_weights.json", json.dumps(content, indent=1) + "\n")
    words = " ".join(f"{weight:g}" for weight in all_four)
    print(
        f"mAP {mAP:.1%} on {run.config.validation_identities} held-out identities with lambda^F = {words}\n"
        f"{arguments.run_directory / 'feature_weights.json'}; the test scores with these:\n"
        f"python -m {__package__}.evaluate {arguments.run_directory} --feature-weights {words}"
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
    main(sys.argv[1:])
