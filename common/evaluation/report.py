"""`python -m <paper>.evaluate RUN_DIR`: score a finished run on its own or another data set.

Writes a table, JSON, a CMC curve and a retrieval sheet to `RUN_DIR/evaluation/<dataset>-<kind>/`.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

from common.datasets import open_dataset
from common.datasets.base import DataSet, Search
from common.errors import command
from common.files import write_text
from common.runs import Run
from common.visualize.curves import line_figure
from common.visualize.sheets import retrieval_sheet

from .features import extract_searches
from .loaded_run import LoadedRun
from .retrieval import nearest_images, random_identities
from .searches import RANKS, evaluate

NUM_QUERIES, TOP = 6, 10  # of the retrieval sheet


def evaluation_command_line(paper: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m {paper}.evaluate", description="Score a finished run again.")
    parser.add_argument("run_directory", type=Path)
    parser.add_argument("--dataset", help="a data set other than the run's own")
    parser.add_argument("--data-root", type=Path, help="folder of the data sets (default: DATA_ROOT, or the run's)")
    parser.add_argument("--rerank", action="store_true", help="also score k-reciprocal re-ranking")
    parser.add_argument("--multi-query", action="store_true", help="also score Market-1501's multi-query protocol")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    return parser


@command
def evaluate_main(
    paper: str,
    load_run: Callable[..., LoadedRun],
    argv: list[str] | None = None,
    *,
    options: Mapping[str, Mapping[str, Any]] = {},
) -> dict[str, dict[str, float]]:
    """The `main` of a paper's evaluate.py.

    options: of this paper only, {name: arguments of `add_argument`}, such as {"feature_weights": {"nargs": 4, "type":
    float}} for `--feature-weights`. Their values are passed to `load_run` by name.
    """
    parser = evaluation_command_line(paper)
    for name, description in options.items():
        parser.add_argument("--" + name.replace("_", "-"), **description)
    arguments = parser.parse_args(sys.argv[1:] if argv is None else argv)
    own = {name: getattr(arguments, name) for name in options}
    return report(load_run(arguments.run_directory, arguments.device, **own), arguments)


def report(loaded: LoadedRun, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Score, print and write what the arguments of `evaluation_command_line` ask for.

    Returns {search name: scores}.
    """
    run = loaded.run
    dataset = find_dataset(run, arguments.dataset, arguments.data_root)
    searches = dataset.searches
    scores = evaluate(loaded.embed, dataset, run.settings, rerank=arguments.rerank, multi_query=arguments.multi_query)
    folder = run.directory / "evaluation" / f"{dataset.name}-{dataset.kind}"
    folder.mkdir(parents=True, exist_ok=True)
    table = _table(scores)
    title = f"{run.directory.name}, evaluated on {dataset.name} ({dataset.kind})"
    heading = [f"# {title}", "", *(f"{note}." for note in dataset.notes)]
    content = {
        "run": run.directory.name,
        "source_hash": run.identity()["source_hash"],
        "dataset": dataset.name,
        "kind": dataset.kind,
        "fingerprint": dataset.fingerprint,
        "notes": list(dataset.notes),
        "scores": scores,
    }
    write_text(folder / "scores.json", json.dumps(content, indent=1) + "\n")
    write_text(folder / "table.md", "\n".join([*heading, "", table, "", _legend(searches), ""]))
    _draw_cmc(scores, folder / "cmc.png", f"{dataset.name} ({dataset.kind})")
    features = extract_searches(loaded.embed, searches[:1], run.settings)
    _draw_retrieval(searches[0], features, folder / "retrieval.png")
    print(f"{title}\n\n{table}\n\n{_legend(searches)}\n{folder}")
    return scores


def find_dataset(run: Run, name: str | None, root: Path | None) -> DataSet:
    """The run's own data set, or the one called `name`: in `root`, in DATA_ROOT, or beside the run's own.

    A run on synthetic data uses synthetic data of the same size unless a root is given.
    """
    if name is None and root is None:
        return run.dataset
    name = name or run.dataset.name
    if root is None and run.dataset.kind != "real":
        return open_dataset(name, size=run.dataset.kind)
    return open_dataset(name, root or os.environ.get("DATA_ROOT") or run.dataset.folder.parent)


def _table(scores: dict[str, dict[str, float]]) -> str:
    columns = {
        "mAP": "mAP",
        "mAP_trapezoid": "mAP (trapezoid)",
        "mAP_interpolated": "mAP (interpolated)",
        "mINP": "mINP",
    }
    columns |= {f"rank{rank}": f"Rank-{rank}" for rank in RANKS}

    def cell(row: dict[str, float], name: str) -> str:
        spread = f" ± {row[f'{name}_std']:.1%}".rstrip("%") if f"{name}_std" in row else ""
        error = f" (se {row[f'{name}_error']:.1%}".rstrip("%") + ")"
        return f"{row[name]:.1%}".rstrip("%") + spread + error

    rows = [
        [name.replace("_", " "), *(cell(row, key) for key in columns), str(row["num_valid_queries"])]
        for name, row in scores.items()
    ]
    return tabulate(rows, ["search (%)", *columns.values(), "queries"], tablefmt="github", disable_numparse=True)


def _legend(searches: tuple[Search, ...]) -> str:
    protocols = ", ".join(dict.fromkeys(search.protocol for search in searches))
    trials = max(len(search.trials) for search in searches)
    means = f" Means and standard deviations over {trials} trials." if trials else ""
    estimators = (
        "mAP averages the precision at each match; (trapezoid) is compute_AP.m's, (interpolated) takes the highest "
        "precision at each recall or beyond."
    )
    return f"Protocol: {protocols}. {estimators} se: standard error over the test people.{means}"


def _draw_cmc(scores: dict[str, dict[str, float]], path: Path, title: str) -> None:
    series = {name.replace("_", " "): [100 * share for share in row["cmc"]] for name, row in scores.items()}
    ranks = list(range(1, 1 + len(next(iter(series.values())))))
    line_figure(path, x=ranks, series=series, x_label="rank", y_label="matched queries (%)", title=title)


def _draw_retrieval(search: Search, features: dict, path: Path) -> None:
    chosen = random_identities(search.query, NUM_QUERIES)
    order, distances = nearest_images(search, features[search.query.name], features[search.gallery.name], chosen, TOP)
    retrieval_sheet(
        [search.query.samples[index].path for index in chosen],
        [[search.gallery.samples[position].path for position in row] for row in order],
        search.gallery.persons[order] == search.query.persons[chosen][:, None],
        path,
        scores=distances,
    )
