"""MGRe's pictures that need a trained network. Each function draws one document of benchmarks/specs/mgre.yaml.

`runs` is {method: LoadedRun}; the data behind the picture are returned, ready for JSON.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from common import augment
from common.datasets.base import Subset
from common.images import ImageStore
from common.visualize import heat_map_sheet

from .activation import activation_maps
from .data import split_training
from .evaluate import LoadedRun
from .poses import read_joints
from .regions import REGIONS, intersection_over_union, positions_of, prior_boxes, target_boxes

NUM_PEOPLE = 6
SIZE = (192, 96)  # of a person in the sheets, height and width in pixels
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7")  # of a stage's regions, in Table 1's order


@torch.inference_mode()
def regions(runs: Mapping[str, LoadedRun], file: Path) -> dict:
    """Predicted regions of people never trained on: Table 1's, where training begins, beside those of each stage.

    `boxes`: (n, 7, 4) in parts of the image; `mean_iou`: with the boxes around the joints, before and after training.
    """
    (loaded,) = runs.values()
    run, config = loaded.run, loaded.run.config
    subset = run.dataset.query
    chosen = _people(subset)
    images = ImageStore(subset, config.height, config.width, cache=config.cache).gather(chosen)
    located = loaded.model.locate(_inputs(images, loaded))
    priors = prior_boxes().expand(len(images), -1, -1)
    predicted = priors.clone()
    for stage, boxes in located.items():
        predicted[:, positions_of(stage)] = boxes.float().cpu()
    columns = [(boxes, positions_of(stage)) for boxes in (priors, predicted) for stage in (1, 2, 3)]
    sheet = _box_sheet(images, columns)
    sheet.quantize(128).save(file, optimize=True)
    true, known = target_boxes(read_joints(run.dataset, subset)[chosen])
    overlaps = {
        name: (intersection_over_union(boxes, true) * known).sum(0) / known.sum(0)
        for name, boxes in (("before", priors), ("after", predicted))
    }
    return {
        "images": _names(subset, chosen),
        "regions": [region.name for region in REGIONS],
        "boxes": np.round(predicted.numpy().astype(float), 3).tolist(),
        "mean_iou": {name: np.round(values.numpy().astype(float), 3).tolist() for name, values in overlaps.items()},
    }


@torch.inference_mode()
def fig4(runs: Mapping[str, LoadedRun], file: Path) -> dict:
    """Class activation maps of training people: MGRe's of each stage and all together, the base model's beside them.

    The fused map is the mean of the four, each stretched to [0, 1] before. `cover`: the mean share of a map above one
    half.
    """
    columns: dict[str, Tensor] = {}
    images, names = None, []
    for method, loaded in runs.items():
        run, config = loaded.run, loaded.run.config
        subset, _ = split_training(run.dataset, config.validation_identities)
        chosen = _people(subset)
        images = ImageStore(subset, config.height, config.width, cache=config.cache).gather(chosen)
        names = _names(subset, chosen)
        labels = torch.from_numpy(subset.labels[chosen]).to(run.device)
        with run.autocast():
            maps = activation_maps(loaded.model, _inputs(images, loaded), labels, SIZE)
        maps = {stage: _stretched(x.float().cpu()) for stage, x in maps.items()}
        if len(maps) == 1:
            columns[method] = maps[4]
            continue
        columns |= {f"stage {stage}": x for stage, x in maps.items()}
        columns["fused"] = torch.stack(list(maps.values())).mean(0)
    heat_map_sheet(images, columns, file, height=SIZE[0])
    return {
        "images": names,
        "cover": {title: round(float((_stretched(x) > 0.5).float().mean()), 3) for title, x in columns.items()},
    }


def _people(subset: Subset) -> np.ndarray:
    """One image of each of some random persons: the same in every run of the same data."""
    generator = np.random.default_rng(0)
    persons = np.unique(subset.persons[subset.persons > 0])
    shown = generator.choice(persons, min(NUM_PEOPLE, len(persons)), replace=False)
    return np.array([generator.choice(np.flatnonzero(subset.persons == person)) for person in sorted(shown)])


def _names(subset: Subset, chosen: np.ndarray) -> list[str]:
    return [subset.samples[index].path.name for index in chosen]


def _inputs(images: Tensor, loaded: LoadedRun) -> Tensor:
    return augment.normalise(images.to(loaded.run.device)).contiguous(memory_format=torch.channels_last)


def _stretched(maps: Tensor) -> Tensor:
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low).clamp(min=1e-12)


def _box_sheet(images: Tensor, columns: list[tuple[Tensor, list[int]]]) -> Image.Image:
    """Rows are people; columns: "before" of stages 1 to 3, then "after", each with its regions' frames."""
    height, width = SIZE
    gap, head = 4, 20
    step = width + gap
    sheet = Image.new("RGB", (len(columns) * step, head + len(images) * (height + gap)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, (boxes, positions) in enumerate(columns):
        word = "before" if column < len(columns) // 2 else "after"
        draw.text((column * step + 2, 4), f"{word}, stage {REGIONS[positions[0]].stage}", fill="black")
        for row, image in enumerate(images):
            picture = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((width, height))
            frames = ImageDraw.Draw(picture)
            for position, colour in zip(positions, COLOURS, strict=False):
                corners = boxes[row, position].clamp(0, 1) * torch.tensor([width, height, width, height])
                x_min, y_min, x_max, y_max = (corners - torch.tensor([0, 0, 1, 1])).tolist()
                frames.rectangle((x_min, y_min, max(x_min, x_max), max(y_min, y_max)), outline=colour, width=2)
            sheet.paste(picture, (column * step, head + row * (height + gap)))
    return sheet
