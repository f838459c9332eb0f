"""`python -m <paper>.evaluate RUN_DIR`: a finished run scored on its own or another data set, as table, JSON, CMC curve
and retrieval sheet in `RUN_DIR/evaluation/<dataset>-<kind>/`.
"""

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tabulate import tabulate

from common.datasets import open_dataset
from common.datasets.base import DataSet, Search
from common.evaluation import RANKS, Embed, evaluate, extract_searches, nearest_answers
from common.runs import Run, write_text
from common.visualize import line_figure, retrieval_sheet

NUM_QUERIES, TOP = 6, 10  # of the retrieval sheet


def evaluation_command_line(paper: str) -> argparse.ArgumentParser:
    """RUN_DIR, --dataset, --data-root, --rerank, --multi-query, --device."""
    parser = argparse.ArgumentParser(prog=f"python -m {paper}.evaluate", description="Score a finished run again.")
    parser.add_argument("run_directory", type=Path)
    parser.add_argument("--dataset", help="another data set than the run's own")
    parser.add_argument("--data-root", type=Path, help="where it is (default: DATA_ROOT, or beside the run's own)")
    parser.add_argument("--rerank", action="store_true", help="k-reciprocal re-ranking too")
    parser.add_argument("--multi-query", action="store_true", help="Market-1501's multi-query protocol too")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    return parser


def find_dataset(run: Run, name: str | None, root: Path | None) -> DataSet:
    """The run's own data set, or the one called `name`: in `root`, in DATA_ROOT, or where the run's own is.

    A run on synthetic data stays with synthetic data of its size unless a root is given.
    """
    if name is None and root is None:
        return run.dataset
    name = name or run.dataset.name
    if root is None and run.dataset.kind != "real":
        return open_dataset(name, size=run.dataset.kind)
    return open_dataset(name, root or os.environ.get("DATA_ROOT") or run.dataset.folder.parent)


def report(
    run: Run, dataset: DataSet, embed: Embed | Mapping[str, Embed], *, rerank: bool = False, multi_query: bool = False
) -> dict[str, dict[str, float]]:
    """Score, print and write everything; returns {search name: scores}."""
    config = run.config
    searches = dataset.searches
    scores = evaluate(
        embed, dataset, config.height, config.width, rerank=rerank, multi_query=multi_query, cache=config.cache
    )
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
    features = extract_searches(embed, searches[:1], config.height, config.width, cache=config.cache)
    _draw_retrieval(searches[0], features, folder / "retrieval.png")
    print(f"{title}\n\n{table}\n\n{_legend(searches)}\n{folder}")
    return scores


def _table(scores: dict[str, dict[str, float]]) -> str:
    columns = {"mAP": "mAP", "mAP_trapezoid": "mAP (trapezoid)", "mINP": "mINP"}
    columns |= {f"rank{rank}": f"Rank-{rank}" for rank in RANKS}

    def cell(row: dict[str, float], name: str) -> str:
        spread = f" ± {row[f'{name}_std']:.1%}".rstrip("%") if f"{name}_std" in row else ""
        return f"{row[name]:.1%}".rstrip("%") + spread

    rows = [
        [name.replace("_", " "), *(cell(row, key) for key in columns), str(row["num_valid_queries"])]
        for name, row in scores.items()
    ]
    return tabulate(rows, ["search (%)", *columns.values(), "queries"], tablefmt="github", disable_numparse=True)


def _legend(searches: tuple[Search, ...]) -> str:
    protocols = ", ".join(dict.fromkeys(search.protocol for search in searches))
    trials = max(len(search.trials) for search in searches)
    means = f" Means and standard deviations over {trials} trials." if trials else ""
    return f"Protocol: {protocols}. mAP takes the precision at each true match; (trapezoid) is compute_AP.m's.{means}"


def _draw_cmc(scores: dict[str, dict[str, float]], path: Path, title: str) -> None:
    series = {name.replace("_", " "): [100 * share for share in row["cmc"]] for name, row in scores.items()}
    ranks = list(range(1, 1 + len(next(iter(series.values())))))
    line_figure(path, x=ranks, series=series, x_label="rank", y_label="matched queries (%)", title=title)


def _draw_retrieval(search: Search, features: dict, path: Path) -> None:
    persons = np.unique(search.query.persons)
    generator = np.random.default_rng(0)
    shown = generator.choice(persons, min(NUM_QUERIES, len(persons)), replace=False)
    chosen = np.array([generator.choice(np.flatnonzero(search.query.persons == person)) for person in sorted(shown)])
    order, distances = nearest_answers(search, features[search.query.name], features[search.gallery.name], chosen, TOP)
    retrieval_sheet(
        [search.query.samples[index].path for index in chosen],
        [[search.gallery.samples[answer].path for answer in row] for row in order],
        search.gallery.persons[order] == search.query.persons[chosen][:, None],
        path,
        scores=distances,
    )
