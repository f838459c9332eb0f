"""Figures of trained networks that several papers have: heat maps over images, and retrieval lists.

Each returns what it shows as JSON values; `table` is printed above the figure (see common/paper.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from common.datasets.base import Subset
from common.datasets.poses import pose_file, read_joints
from common.images import ImageStore
from common.runs import Run
from common.visualize.sheets import heat_map_sheet, retrieval_sheet, stretched

from .features import extract_searches
from .loaded_run import LoadedRun
from .retrieval import nearest_images, random_identities, rankable

NUM_IDENTITIES = 6  # rows of a figure
NUM_MEASURED = 256  # images of different people on which `energy_on_person` is measured, at most
MARGIN = 0.1  # of the joints' box, in parts of its height: joints lie inside the body
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
def heat_map_figure(
    runs: Mapping[str, LoadedRun],
    file: Path,
    feature_map: FeatureMap,
    *,
    less_mean: bool = False,
    show_joints: bool = False,
) -> dict[str, Any]:
    """Query images of random identities under each network's feature map.

    A map is the energy over channels, see `activation_map`. less_mean: a second column for each network, less the mean
    map of the measured images, which is what the network puts into every image whatever it shows.

    `maps`: (n, h, w) in [0, 1], stretched image by image; `cover`: the mean share of cells above one half. Where the
    data set has joints, `on_person`: {network: as `energy_on_person`}. show_joints: draw those that can be seen.
    """
    run = next(iter(runs.values())).run
    shown, query = random_images(run, run.dataset.query), run.dataset.query
    joints = read_joints(run.dataset, query) if pose_file(run.dataset).is_file() else None
    seen = None if joints is None else (joints[:, :, 2] == 2).sum(1).numpy() > 1
    measured = random_identities(query, NUM_MEASURED, among=seen)
    boxes = None if joints is None else person_boxes(joints[measured])
    maps, on_person = {}, {}
    for method, loaded in runs.items():
        energy = energy_maps(loaded, feature_map, shown.positions)
        others = energy_maps(loaded, feature_map, measured) if less_mean or boxes is not None else None
        maps[method] = stretched(energy).numpy()
        if less_mean:
            maps[f"{method}, less the mean"] = stretched(energy - others.mean(0)).numpy()
        if boxes is not None:
            on_person[method] = energy_on_person(others, in_box(boxes, *others.shape[1:]))
    if show_joints and joints is not None:
        shown = replace(shown, pixels=with_joints(shown.pixels, joints[shown.positions]))
    found = shown.draw_heat_maps(maps, file)
    if on_person:
        found["table"]["headers"] += ["energy on the person's box", "the box's part of the image", "follows the box"]
        for row in found["table"]["rows"]:
            numbers = on_person.get(row[0])
            row += (
                [f"{numbers['energy']:.0%}", f"{numbers['area']:.0%}", f"{numbers['follows']:.2f}"]
                if numbers
                else [""] * 3
            )
        found["on_person"] = on_person
    return found


def energy_maps(loaded: LoadedRun, feature_map: FeatureMap, positions: np.ndarray) -> Tensor:
    """(n, h, w) float32: the root of the sum of squared channels of the maps of the query images at `positions`."""
    run, query = loaded.run, loaded.run.dataset.query
    store = ImageStore(query, run.settings.height, run.settings.width, cache=run.settings.cache)
    energies = []
    for part in np.array_split(positions, -(-len(positions) // 64)):
        with run.autocast():
            maps = feature_map(loaded, run.to_device(store.gather(part)))
        energies.append(torch.linalg.vector_norm(maps.float(), dim=1).cpu())
    return torch.cat(energies)


def energy_on_person(energy: Tensor, inside: Tensor) -> dict[str, float]:
    """How much of the maps lies on the person. energy, inside: (n, h, w), inside the part of each cell in its box.

    energy: the mean part of a map's energy that lies in its box; area: the box's mean part of the image, which a
    constant map would have; follows: the correlation, over images and cells, of map and box, both less their means over
    the images: 0 if where the network looks does not depend on where the person stands, or if neither ever changes.
    """
    on_person = (energy * inside).sum((1, 2)) / energy.sum((1, 2))
    own = [maps - maps.mean(0) for maps in (energy, inside)]
    follows = F.cosine_similarity(own[0].flatten(), own[1].flatten(), dim=0)
    shares = {"energy": on_person.mean(), "area": inside.mean(), "follows": follows}
    return {name: round(value.item(), 4) for name, value in shares.items()}


def with_joints(pixels: Tensor, joints: Tensor) -> Tensor:
    """(n, 3, H, W) uint8 with a white dot of 3 x 3 pixels at each joint, (n, 17, 3), that can be seen."""
    drawn = pixels.clone()
    height, width = pixels.shape[2:]
    for image, own in zip(drawn, joints, strict=True):
        for x, y, _ in own[own[:, 2] == 2].tolist():
            row, column = min(max(round(y * height), 1), height - 2), min(max(round(x * width), 1), width - 2)
            image[:, row - 1 : row + 2, column - 1 : column + 2] = 255
    return drawn


def person_boxes(joints: Tensor) -> Tensor:
    """(n, 17, 3) joints in parts of the image, each image with a visible one -> (n, 4) left, top, right, bottom, cut to
    the image. Widths are measured in parts of the width, as MARGIN is of a height in parts of the height."""
    visible = joints[:, :, 2:] == 2
    low = joints[:, :, :2].masked_fill(~visible, torch.inf).amin(1)
    high = joints[:, :, :2].masked_fill(~visible, -torch.inf).amax(1)
    margin = MARGIN * (high - low)[:, 1:]
    return torch.cat([low - margin, high + margin], dim=1).clamp(0, 1)


def in_box(boxes: Tensor, height: int, width: int) -> Tensor:
    """(n, 4) boxes -> (n, height, width): the part of each cell that lies in the box."""

    def covered(start: Tensor, end: Tensor, cells: int) -> Tensor:
        edges = torch.arange(cells + 1) / cells
        return (torch.minimum(end, edges[1:]) - torch.maximum(start, edges[:-1])).clamp(min=0) * cells

    left, top, right, bottom = boxes.split(1, dim=1)
    return covered(top, bottom, height)[:, :, None] * covered(left, right, width)[:, None, :]


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
    possible: matches that the protocol admits, similarity or distance}.
    """
    run, search = loaded.run, loaded.run.dataset.searches[0]
    query, gallery = search.query, search.gallery
    features = extract_searches(loaded.embed, (search,), run.settings)
    chosen = random_identities(query, NUM_IDENTITIES)
    ranked, distances = nearest_images(search, features[query.name], features[gallery.name], chosen, TOP)
    distances = distances.astype(float)
    numbers = 1 - distances**2 / 2 if cosine else distances
    same_person = gallery.persons == query.persons[chosen][:, None]
    correct = np.take_along_axis(same_person, ranked, axis=1)
    possible = (same_person & rankable(search, chosen)).sum(1)
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
            "possible": int(possible[row]),
            "similarity" if cosine else "distance": np.round(numbers[row], 5 if cosine else 3).tolist(),
        }
        for row, index in enumerate(chosen)
    ]
    rows = [[entry["name"], str(sum(entry["correct"])), str(entry["possible"])] for entry in queries]
    table = {"headers": ["Query", f"matches in top {correct.shape[1]}", "matches in the gallery"], "rows": rows}
    return {"queries": queries, "table": table}
