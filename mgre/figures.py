"""The figures that need trained networks: the predicted regions, and Fig. 4 (class activation maps)."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from common.datasets.poses import read_joints
from common.evaluation import LoadedRun
from common.evaluation.figures import random_images

from .activation import activation_maps
from .regions import REGIONS, intersection_over_union, positions_of, prior_boxes, target_boxes
from .train import prepared

SIZE = (192, 96)  # of an image in the figures, height and width in pixels
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7")  # of a stage's regions, in Table 1's order


@torch.inference_mode()
def regions(runs: dict[str, LoadedRun], file: Path) -> dict:
    """Predicted regions of identities never trained on: Table 1's, where training begins, beside those of each stage.

    `boxes`: (n, 7, 4) in parts of the image; `mean_iou`: with the boxes around the joints, before and after training.
    """
    (loaded,) = runs.values()
    run = loaded.run
    shown = random_images(run, run.dataset.query)
    located = loaded.model.locate(prepared(run.to_device(shown.pixels)))
    priors = prior_boxes().expand(len(shown.pixels), -1, -1)
    predicted = priors.clone()
    for stage, boxes in located.items():
        predicted[:, positions_of(stage)] = boxes.float().cpu()
    own = [range(len(REGIONS))[positions_of(stage)] for stage in (1, 2, 3)]
    columns = [(boxes, positions) for boxes in (priors, predicted) for positions in own]
    _box_sheet(shown.pixels, columns).quantize(128).save(file, optimize=True)

    true, known = target_boxes(read_joints(run.dataset, shown.subset)[shown.positions])
    overlaps = {
        name: ((intersection_over_union(boxes, true) * known).sum(0) / known.sum(0)).tolist()
        for name, boxes in (("before", priors), ("after", predicted))
    }
    names = [region.name for region in REGIONS]
    rows = [
        [name, f"{before:.3f}", f"{after:.3f}"]
        for name, before, after in zip(names, overlaps["before"], overlaps["after"], strict=True)
    ]
    return {
        "images": shown.names,
        "regions": names,
        "boxes": np.round(predicted.numpy().astype(float), 3).tolist(),
        "mean_iou": {name: np.round(values, 3).tolist() for name, values in overlaps.items()},
        "table": {
            "headers": ["Region", "mean IoU with the boxes around the joints, before training", "after training"],
            "rows": rows,
        },
    }


@torch.inference_mode()
def fig4(runs: dict[str, LoadedRun], file: Path) -> dict:
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
