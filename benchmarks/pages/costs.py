"""Costs at the paper's settings, of networks that nobody trained: what a paper's costs.py counts."""

import torch

from benchmarks.spec import RunSpec
from common.datasets import READERS
from common.paper import load_paper
from common.paths import package_folder
from common.runs.settings import load_settings, run_label

_known: dict[tuple, dict[str, int]] = {}


def cost(paper: str, run: RunSpec, dataset: str, path: str) -> int | None:
    """The number that a record of this run at the paper's settings has at `path`; None if the paper counts none."""
    key = (paper, run_label(run.variant, run.set), dataset)
    if key not in _known:
        _known[key] = _costs(paper, run, dataset)
    return _known[key].get(path.rpartition(".")[2])


def _costs(paper: str, run: RunSpec, dataset: str) -> dict[str, int]:
    folder = package_folder(paper)
    if folder is None or not (folder / "costs.py").is_file():
        return {}
    loaded = load_paper(paper)
    settings = load_settings(
        loaded.settings.Settings, folder, dataset=dataset, demo=False, variant=run.variant, overrides=run.set
    )
    counts = READERS[dataset].OFFICIAL_COUNTS[dataset]
    with torch.device("meta"):  # shapes only
        return loaded.module("costs").costs(settings, counts["train"][1])
