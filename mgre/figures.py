"""The figures that need trained networks: the predicted regions, and Fig. 4 (class activation maps)."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from common import evaluation
from common.datasets.poses import read_joints
from common.evaluation.carried import carried_figure
from common.evaluation.figures import random_images
from common.images import ImageStore
from common.runs import Run

from .activation import activation_maps
from .activity import carriers_of, predicted_boxes, region_overlaps
from .regions import REGIONS, margins_of, mean_boxes, positions_of, prior_boxes, target_boxes
from .train import prepared

SIZE = (192, 96)  # of an image in the figures, height and width in pixels
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7")  # of a stage's regions, in Table 1's order


@torch.inference_mode()
def regions(runs: dict[str, evaluation.LoadedRun], file: Path) -> dict:
    """The regions of each stage on images of identities never trained on: where the boxes start, and as predicted.

    `boxes`: (n, 7, 4) in parts of the image; `mean_iou`: of each region, over all query images, see `query_overlaps`.
    """
    (loaded,) = runs.values()
    run = loaded.run
    shown = random_images(run, run.dataset.query)
    mean = _training_mean(run)
    start = (mean if loaded.model.starts_at_mean else prior_boxes()).expand(len(shown.pixels), -1, -1)
    predicted = _all_boxes(loaded, shown.pixels)
    own = [range(len(REGIONS))[positions_of(stage)] for stage in (1, 2, 3)]
    columns = [(boxes, positions) for boxes in (start, predicted) for positions in own]
    _box_sheet(shown.pixels, columns).quantize(128).save(file, optimize=True)

    overlaps = query_overlaps(loaded, mean)
    names = [region.name for region in REGIONS]
    rows = [[name, *(f"{values[place]:.3f}" for values in overlaps.values())] for place, name in enumerate(names)]
    rows.append(["mean", *(f"{sum(values) / len(values):.3f}" for values in overlaps.values())])
    return {
        "images": shown.names,
        "regions": names,
        "boxes": np.round(predicted.numpy().astype(float), 3).tolist(),
        "mean_iou": {name: np.round(values, 3).tolist() for name, values in overlaps.items()},
        "table": {
            "headers": ["Region", "mean IoU of Table 1's boxes", "of the mean boxes", "after training"],
            "rows": rows,
        },
    }


def _training_mean(run: Run) -> Tensor:
    """The training images' mean boxes, (7, 4)."""
    subset, _ = run.dataset.hold_out(run.settings.validation_identities)
    return mean_boxes(*target_boxes(read_joints(run.dataset, subset), margins_of(run.settings)))


def query_overlaps(loaded: evaluation.LoadedRun, mean: Tensor) -> dict[str, list[float]]:
    """Mean IoU of each region with the boxes around the joints, over the query images: of Table 1's boxes (`table1`),
    of the training images' `mean` boxes (7, 4) and `after` training."""
    run, settings = loaded.run, loaded.run.settings
    query = run.dataset.query
    true, known = target_boxes(read_joints(run.dataset, query), margins_of(settings))
    store = ImageStore(query, settings.height, settings.width, cache=settings.cache)
    parts = np.array_split(np.arange(len(query)), -(-len(query) // 64))
    after = torch.cat([_all_boxes(loaded, store.gather(part)) for part in parts])
    compared = {"table1": prior_boxes().expand_as(true), "mean": mean.expand_as(true), "after": after}
    return {name: region_overlaps(boxes, true, known) for name, boxes in compared.items()}


def _all_boxes(loaded: evaluation.LoadedRun, images: Tensor) -> Tensor:
    """(n, 3, H, W) uint8 -> (n, 7, 4), predicted; Table 1's where a stage does not locate."""
    boxes = prior_boxes().repeat(len(images), 1, 1)
    for stage, found in predicted_boxes(loaded.model, prepared(loaded.run.to_device(images))).items():
        boxes[:, positions_of(stage)] = found
    return boxes


def carried(runs: dict[str, evaluation.LoadedRun], file: Path) -> dict:
    """What each stage carries: the test scores with its feature, or its boxes, replaced."""
    (loaded,) = runs.values()
    return carried_figure(loaded, carriers_of(loaded.model), file)


@torch.inference_mode()
def fig4(runs: dict[str, evaluation.LoadedRun], file: Path) -> dict:
    """Class activation maps of training images: MGRe's of each stage and of all together, and the base model's.

    The fused map is the mean of the four, each stretched to [0, 1] before. The maps, which are as large as the figure,
    are not among the JSON values.
    """
    columns: dict[str, Tensor] = {}
    for method, loaded in runs.items():
        run = loaded.run
        subset, _ = run.dataset.hold_out(run.settings.validation_identities)
        shown = random_images(run, subset)
        labels = torch.from_numpy(subset.labels[shown.positions]).to(run.device)
        with run.autocast():
            maps = activation_maps(loaded.model, prepared(run.to_device(shown.pixels)), labels, SIZE)
        maps = {stage: _stretched(x.float().cpu()) for stage, x in maps.items()}
        if len(maps) == 1:
            columns[method] = maps[4]
            continue
        columns |= {f"stage {stage}": x for stage, x in maps.items()}
        columns["fused"] = _stretched(torch.stack(list(maps.values())).mean(0))
    found = shown.draw_heat_maps({title: x.numpy() for title, x in columns.items()}, file, header="Map")
    return {name: found[name] for name in ("images", "cover", "table")}


def _stretched(maps: Tensor) -> Tensor:
    """(n, h, w) to [0, 1], map by map."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low).clamp(min=1e-12)


def _box_sheet(images: Tensor, columns: list[tuple[Tensor, range]]) -> Image.Image:
    """Rows are images; columns are stages 1 to 3 before training, then after it, each with its regions' frames."""
    height, width = SIZE
    gap, head = 4, 20
    step = width + gap
    sheet = Image.new("RGB", (len(columns) * step, head + len(images) * (height + gap)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, (boxes, positions) in enumerate(columns):
        when = "before" if column < len(columns) // 2 else "after"
        draw.text((column * step + 2, 4), f"{when}, stage {REGIONS[positions[0]].stage}", fill="black")
        for row, pixels in enumerate(images):
            image = Image.fromarray(pixels.permute(1, 2, 0).numpy()).resize((width, height))
            frames = ImageDraw.Draw(image)
            for position, colour in zip(positions, COLOURS, strict=False):
                corners = boxes[row, position].clamp(0, 1) * torch.tensor([width, height, width, height])
                x_min, y_min, x_max, y_max = (corners - torch.tensor([0, 0, 1, 1])).tolist()
                frames.rectangle((x_min, y_min, max(x_min, x_max), max(y_min, y_max)), outline=colour, width=2)
            sheet.paste(image, (column * step, head + row * (height + gap)))
    return sheet
