"""What a pose resolve net has learned in phase 0: distances between its joints and the true ones, and a figure of both.

Shapes: N images, the 17 joints that are annotated; x and y are fractions of the image's width and height.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from common import augment
from common.runs import Run

from .ground_truth import find_joints
from .pose_data import PoseImages
from .pose_net import PoseNet
from .settings import PoseSettings
from .skeleton import LIMBS, NUM_ANNOTATED, joint_index

VISIBLE = 2  # COCO's v of a joint that can be seen
SCALE = 3  # of an image in joints_sheet
TRUE, PREDICTED = (0, 170, 70), (230, 30, 40)


def prepared(images: Tensor) -> Tensor:
    """The pose resolve net's input. (B, 3, H, W) uint8 -> float32, channels last."""
    return augment.normalise(images).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def predict_joints(
    model: PoseNet, people: PoseImages, run: Run, chosen: np.ndarray | None = None
) -> tuple[Tensor, Tensor]:
    """The predicted joints (N, 17, 2) of each image's person, and the true ones (N, 17, 3). chosen: positions of the
    images, by default all."""
    predicted, true = [], []
    chosen = np.arange(len(people)) if chosen is None else chosen
    for indices in np.array_split(chosen, -(-len(chosen) // 128)):
        batch = people.batch(indices)
        with run.autocast():
            maps = model(prepared(run.to_device(batch.images)))[-1]
        predicted.append(find_joints(maps)[:, :NUM_ANNOTATED, :2].cpu())
        true.append(batch.joints[:, 0, :NUM_ANNOTATED])
    return torch.cat(predicted), torch.cat(true)


def mean_joints(people: PoseImages) -> Tensor:
    """(17, 2), the mean position of each joint over the images that show it, at most 5,000 images."""
    drawn = np.random.default_rng(0).permutation(len(people))[:5000]
    chunks = np.array_split(drawn, -(-len(drawn) // 500))
    joints = torch.cat([people.batch(indices).joints[:, 0, :NUM_ANNOTATED] for indices in chunks])
    visible = (joints[..., 2:] == VISIBLE).float()
    return (joints[..., :2] * visible).sum(0) / visible.sum(0).clamp(min=1)


def joint_scores(predicted: Tensor, true: Tensor, mean: Tensor, settings: PoseSettings) -> dict[str, float]:
    """Mean distances to the visible true joints, as fractions of the image's height: `joint_distance` of the predicted
    joints, `mean_joints_distance` of `mean`, (17, 2), as the prediction for every image."""
    size = torch.tensor([settings.pose_image_width / settings.pose_image_height, 1.0])
    visible = true[..., 2] == VISIBLE

    def distance(places: Tensor) -> float:
        return ((places - true[..., :2]) * size).norm(dim=-1)[visible].mean().item()

    return {"joint_distance": distance(predicted), "mean_joints_distance": distance(mean.expand_as(predicted))}


def joints_sheet(images: Tensor, predicted: Tensor, true: Tensor, file: Path) -> None:
    """Each image twice, with its true joints (green) and the predicted ones (red), joined by the limbs.

    images: (N, 3, H, W) uint8; predicted: (N, 17, 2); true: (N, 17, 3).
    """
    height, width = (SCALE * size for size in images.shape[2:])
    sheet = Image.new("RGB", (2 * len(images) * (width + 4), height), "white")
    for position, image in enumerate(images):
        pixels = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((width, height), Image.Resampling.BILINEAR)
        labelled = true[position, :, 2] > 0
        for side, (places, colour) in enumerate([(true[position], TRUE), (predicted[position], PREDICTED)]):
            drawn = pixels.copy()
            _draw_skeleton(drawn, places[:, :2] * torch.tensor([width, height]), labelled, colour)
            sheet.paste(drawn, ((2 * position + side) * (width + 4), 0))
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(128).save(file, optimize=True)


def _draw_skeleton(image: Image.Image, places: Tensor, labelled: Tensor, colour: tuple[int, int, int]) -> None:
    draw = ImageDraw.Draw(image)
    for begin, end in LIMBS:
        if "neck" in (begin, end):  # not annotated
            continue
        ends = [joint_index(begin), joint_index(end)]
        if labelled[ends].all():
            draw.line([tuple(places[joint].tolist()) for joint in ends], fill=colour, width=2)
    for x, y in places[labelled].tolist():
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)
