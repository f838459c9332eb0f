"""Figures of trained networks that several papers have: heat maps over images, and retrieval lists.

Each returns what it shows as JSON values; `table` is printed above the figure (see common/paper.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.datasets.base import Subset
from common.images import ImageStore
from common.runs import Run
from common.visualize.sheets import activation_map, heat_map_sheet, retrieval_sheet

from .features import extract_searches
from .loaded_run import LoadedRun
from .retrieval import nearest_images, random_identities

NUM_IDENTITIES = 6  # rows of a figure
TOP = 10  # gallery images per query

FeatureMap = Callable[[LoadedRun, Tensor], Tensor]  # uint8 images (n, 3, H, W) on the device -> maps (n, C, h, w)


@dataclass(frozen=True)
class ShownImages:
    """The rows of a figure. positions: (n,), of the images in `subset`; pixels: (n, 3, H, W) uint8."""

    subset: Subset
    positions: np.ndarray
    pixels: Tensor

    @property
    def names(self) -> list[str]:
        return [self.subset.samples[index].path.name for index in self.positions]

    def draw_heat_maps(self, maps: Mapping[str, np.ndarray], file: Path, *, header: str = "Network") -> dict[str, Any]:
        """Draw the images under each column's maps, (n, h, w) in [0, 1]; `images` and as in `maps_as_json`."""
        heat_map_sheet(self.pixels, maps, file)
        return {"images": self.names, **maps_as_json(maps, header)}


def random_images(run: Run, subset: Subset) -> ShownImages:
    """One image of each of NUM_IDENTITIES random identities, at the run's image size; the same at every call."""
    positions = random_identities(subset, NUM_IDENTITIES)
    store = ImageStore(subset, run.settings.height, run.settings.width, cache=run.settings.cache)
    return ShownImages(subset, positions, store.gather(positions))


@torch.inference_mode()
def heat_map_figure(runs: Mapping[str, LoadedRun], file: Path, feature_map: FeatureMap) -> dict[str, Any]:
    """Query images of random identities under each network's feature map.

    `maps`: (n, h, w) in [0, 1], stretched image by image; `cover`: the mean share of cells above one half.
    """
    run = next(iter(runs.values())).run
    shown = random_images(run, run.dataset.query)
    maps = {}
    for method, loaded in runs.items():
        with loaded.run.autocast():
            maps[method] = activation_map(feature_map(loaded, shown.pixels.to(loaded.run.device)))
    return shown.draw_heat_maps(maps, file)


def maps_as_json(maps: Mapping[str, np.ndarray], header: str = "Network") -> dict[str, Any]:
    """`maps`, `cover` and `table` of {column: (n, h, w) in [0, 1]}. header: what the columns are."""
    cover = {column: round(float((values > 0.5).mean()), 3) for column, values in maps.items()}
    headers = [header, "part of the map above half of its range (mean over the images)"]
    return {
        "cover": cover,
        "maps": {column: np.round(values.astype(float), 2).tolist() for column, values in maps.items()},
        "table": {"headers": headers, "rows": [[column, f"{share:.0%}"] for column, share in cover.items()]},
    }


@torch.inference_mode()
def retrieval_figure(loaded: LoadedRun, file: Path, *, cosine: bool = True) -> dict[str, Any]:
    """The gallery images nearest to queries of random identities, under the first search's protocol.

    cosine: the numbers are similarities of unit features, else Euclidean distances. `queries`: {name, ranked, correct,
    similarity or distance}.
    """
    run, search = loaded.run, loaded.run.dataset.searches[0]
    query, gallery = search.query, search.gallery
    features = extract_searches(loaded.embed, (search,), run.settings)
    chosen = random_identities(query, NUM_IDENTITIES)
    ranked, distances = nearest_images(search, features[query.name], features[gallery.name], chosen, TOP)
    distances = distances.astype(float)
    numbers = 1 - distances**2 / 2 if cosine else distances
    correct = gallery.persons[ranked] == query.persons[chosen][:, None]
    retrieval_sheet(
        [query.samples[index].path for index in chosen],
        [[gallery.samples[position].path for position in row] for row in ranked],
        correct,
        file,
        scores=numbers,
    )
    queries = [
        {
            "name": query.samples[index].path.name,
            "ranked": [gallery.samples[position].path.name for position in ranked[row]],
            "correct": correct[row].tolist(),
            "similarity" if cosine else "distance": np.round(numbers[row], 5 if cosine else 3).tolist(),
        }
        for row, index in enumerate(chosen)
    ]
    rows = [[entry["name"], str(sum(entry["correct"]))] for entry in queries]
    table = {"headers": ["Query", f"correct in top {correct.shape[1]}"], "rows": rows}
    return {"queries": queries, "table": table}
