"""What each module of a trained network carries: the scores with its output frozen to the training images' mean, and
with the outputs of other images.

A module that learned nothing changes no score in either way. Frozen, it may still give every image the same useful
constant; shuffled, it misleads as far as the network listens to it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.images import ImageStore
from common.probes import frozen_to, outputs_of, replaced_outputs, shuffled
from common.visualize.panels import bar_figure

from .loaded_run import LoadedRun
from .searches import evaluate_first_search

BATCH = 64
WHOLE = "nothing"
WAYS = ("frozen", "shuffled")
SCORES = {"mAP": "mAP", "rank1": "Rank-1"}


@torch.inference_mode()
def mean_outputs(loaded: LoadedRun, names: Sequence[str]) -> dict[str, Tensor]:
    """{submodule: its mean output over the training images}, without the dimension of the images."""
    run, totals = loaded.run, dict.fromkeys(names, 0.0)
    subset = run.dataset.train
    store = ImageStore(subset, run.settings.height, run.settings.width, cache=run.settings.cache)
    modalities = np.array([sample.modality for sample in subset.samples])
    for modality in dict.fromkeys(modalities.tolist()):
        embed = loaded.embed[modality] if isinstance(loaded.embed, Mapping) else loaded.embed
        positions = np.flatnonzero(modalities == modality)
        for part in np.array_split(positions, -(-len(positions) // BATCH)):
            with outputs_of(loaded.model, names) as found:
                embed(store.gather(part))
            for name, output in found.items():
                totals[name] = totals[name] + output.double().sum(0)
    return {name: (total / len(subset)).float() for name, total in totals.items()}


def carried_scores(loaded: LoadedRun, modules: Mapping[str, Sequence[str]]) -> dict[str, dict[str, dict[str, float]]]:
    """{WHOLE or a row of `modules`: {frozen | shuffled: scores of the first search}}.

    modules: {what a row is called: the submodules whose outputs are replaced}; see common/probes.py. With WHOLE,
    nothing is replaced.
    """
    means = mean_outputs(loaded, sorted({name for names in modules.values() for name in names}))

    def scores(replace: Mapping) -> dict[str, float]:
        with replaced_outputs(loaded.model, replace):
            return evaluate_first_search(loaded.embed, loaded.run.dataset, loaded.run.settings)

    whole = scores({})
    found = {WHOLE: {"frozen": whole, "shuffled": whole}}
    for row, names in modules.items():
        found[row] = {
            "frozen": scores({name: frozen_to(means[name]) for name in names}),
            "shuffled": scores(dict.fromkeys(names, shuffled)),
        }
    return found


def carried_figure(loaded: LoadedRun, modules: Mapping[str, Sequence[str]], file: Path) -> dict[str, Any]:
    """Bars of mAP for each row of `carried_scores`; returns the scores, and `table` with their changes in points."""
    found = carried_scores(loaded, modules)
    bar_figure(
        file,
        x=list(found),
        series={way: [100 * scores[way]["mAP"] for scores in found.values()] for way in WAYS},
        x_label="module whose output is replaced",
        y_label="mAP (%)",
    )
    headers = ["replaced"] + [f"{title} (%), {way}" for way in WAYS for title in SCORES.values()]
    kept = {row: {way: {key: s[way][key] for key in SCORES} for way in WAYS} for row, s in found.items()}
    return {"scores": kept, "table": {"headers": headers, "rows": carried_rows(kept)}}


def carried_rows(scores: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[list[str]]:
    """Cells: what is replaced, then for each of WAYS and SCORES the score in per cent and its change from WHOLE's.
    scores: as in `carried_scores`."""
    rows = []
    for row, by_way in scores.items():
        cells = [row]
        for way in WAYS:
            for key in SCORES:
                value, change = by_way[way][key], by_way[way][key] - scores[WHOLE][way][key]
                cells.append(f"{100 * value:.1f}" + (f" ({100 * change:+.1f})" if row != WHOLE else ""))
        rows.append(cells)
    return rows
