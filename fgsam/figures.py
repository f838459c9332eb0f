"""Pictures that only FGSAM has: Fig. 6, and the joints that the pose resolve net finds."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from common import augment
from common.datasets.base import DataSet
from common.errors import UserError
from common.images import ImageStore
from common.visualize import activation_map, heat_map_sheet

from .skeleton import LIMBS, PARTS, joint_index, part_channels

NUM_PEOPLE = 6
SCALE = 3  # of an image in joints_sheet
TRUE, PREDICTED = (0, 170, 70), (230, 30, 40)


@torch.inference_mode()
def fig6(runs: Mapping, file: Path) -> dict:
    """Where each part's channels are active, after the channel parse blocks, on query images of random people.

    runs: row -> LoadedRun (evaluate.py), of which the last is drawn; file: the PNG. Returns what was drawn: `images`,
    names; `maps`: part -> (n, h, w) in [0, 1], stretched image by image, the root of the channels' sum of squares.
    """
    loaded = list(runs.values())[-1]
    run = loaded.run
    if not hasattr(loaded.model, "pose_maps"):
        raise UserError(f"{run.directory} has no pose resolve net: draw a run of phase 2 or 3")
    query, chosen = run.dataset.query, random_people(run.dataset)
    images = ImageStore(query, run.config.height, run.config.width, cache=run.config.cache).gather(chosen)
    inputs = augment.normalise(images.to(run.device)).contiguous(memory_format=torch.channels_last)
    with run.autocast():
        pose = loaded.model.pose_maps(inputs)
    maps = {part.replace("_", " "): activation_map(pose[:, part_channels(part)]) for part in PARTS}
    heat_map_sheet(images, maps, file)
    return {
        "images": [query.samples[index].path.name for index in chosen],
        "maps": {part: np.round(values.astype(float), 2).tolist() for part, values in maps.items()},
    }


def random_people(dataset: DataSet) -> np.ndarray:
    """Positions in `query` of one image each of NUM_PEOPLE random people."""
    generator = np.random.default_rng(0)
    persons = np.unique(dataset.query.persons)
    chosen = generator.choice(persons, min(NUM_PEOPLE, len(persons)), replace=False)
    return np.array([generator.choice(np.flatnonzero(dataset.query.persons == person)) for person in sorted(chosen)])


def joints_sheet(images: Tensor, predicted: Tensor, true: Tensor, file: Path) -> None:
    """People with their true joints (green) beside the predicted ones (red), joined by the limbs.

    images: (n, 3, H, W) uint8; predicted: (n, 17, 2), true: (n, 17, 3), x and y in parts of the image.
    """
    height, width = (SCALE * size for size in images.shape[2:])
    sheet = Image.new("RGB", (2 * len(images) * (width + 4), height), "white")
    for position, image in enumerate(images):
        pixels = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((width, height), Image.Resampling.BILINEAR)
        visible = true[position, :, 2] > 0
        for side, (places, colour) in enumerate([(true[position], TRUE), (predicted[position], PREDICTED)]):
            drawn = pixels.copy()
            _draw_skeleton(drawn, places[:, :2] * torch.tensor([width, height]), visible, colour)
            sheet.paste(drawn, ((2 * position + side) * (width + 4), 0))
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(128).save(file, optimize=True)


def _draw_skeleton(image: Image.Image, places: Tensor, visible: Tensor, colour: tuple[int, int, int]) -> None:
    draw = ImageDraw.Draw(image)
    for begin, end in LIMBS:
        if "neck" in (begin, end):  # not among COCO's joints
            continue
        ends = [joint_index(begin), joint_index(end)]
        if visible[ends].all():
            draw.line([tuple(places[joint].tolist()) for joint in ends], fill=colour, width=2)
    for x, y in places[visible].tolist():
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)
