"""What phase 0 learns from: images of people with their joints, from COCO keypoints or a data set with a poses.json.

Shapes: N images, M people in one, J = 18 joints, h x w cells of the maps; x and y are fractions of the image's width
and height.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common import datasets
from common.datasets import poses
from common.images import ImageStore

from .ground_truth import add_neck
from .pose_net import STRIDE
from .settings import PoseSettings

COCO = datasets.coco_keypoints

_MARGIN = 1.25  # of a crop around a person in COCO, over the person's box; ASSUMED


@dataclass(frozen=True)
class PoseBatch:
    """A short list of people is padded with people whose joints all have v = 0."""

    images: Tensor  # (B, 3, H, W) uint8
    joints: Tensor  # (B, M, 18, 3), x y v
    boxes: Tensor  # (B, M, 4), x_min y_min x_max y_max
    ignored: Tensor  # (B, h, w) bool, cells that show people without joints


class MarkedImages:
    """A subset's images, one person in each, with the joints of the data set's poses.json."""

    def __init__(self, dataset: datasets.DataSet, subset: datasets.Subset, settings: PoseSettings):
        height, width = settings.pose_image_height, settings.pose_image_width
        self.cells = height // STRIDE, width // STRIDE
        joints_of = poses.read_poses(dataset.folder / "poses.json", dataset)
        names = [sample.path.relative_to(dataset.folder).as_posix() for sample in subset.samples]
        found = [(s, joints_of[name]) for s, name in zip(subset.samples, names, strict=True) if name in joints_of]
        marked = replace(subset, samples=tuple(sample for sample, _ in found))
        self.store = ImageStore(marked, height, width, cache=settings.cache)
        with ThreadPoolExecutor() as pool:  # reads the header of each image
            sizes = pool.map(_image_size, self.store.paths)
        joints = np.stack([pose / (*size, 1) for (_, pose), size in zip(found, sizes, strict=True)])
        self.joints = add_neck(torch.from_numpy(joints).float())[:, None]

    def __len__(self) -> int:
        return len(self.store)

    def batch(self, indices: np.ndarray) -> PoseBatch:
        boxes = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(len(indices), 1, 4)
        ignored = torch.zeros(len(indices), *self.cells, dtype=torch.bool)
        return PoseBatch(self.store.gather(indices), self.joints[indices], boxes, ignored)


class PeopleInPhotographs:
    """A split of COCO keypoints: a crop around each person with joints, which may show others too.

    Images are decoded in every epoch: COCO's 150,000 people would take 15 GB at 256 x 128.
    """

    def __init__(self, folder: Path, split: str, settings: PoseSettings):
        self.height, self.width = settings.pose_image_height, settings.pose_image_width
        self.people = COCO.read_people(folder, split)
        self.in_photograph: dict[Path, list[COCO.PersonInstance]] = {}
        for person in self.people:
            self.in_photograph.setdefault(person.path, []).append(person)

    def __len__(self) -> int:
        return len(self.people)

    def batch(self, indices: np.ndarray) -> PoseBatch:
        with ThreadPoolExecutor() as pool:
            crops = list(pool.map(lambda index: self._crop(self.people[index]), indices))
        images, joints, boxes, ignored = zip(*crops, strict=True)
        padded = torch.nn.utils.rnn.pad_sequence
        return PoseBatch(
            torch.from_numpy(np.stack(images)),
            padded(joints, batch_first=True),
            padded(boxes, batch_first=True, padding_value=-1.0),
            torch.from_numpy(np.stack(ignored)),
        )

    def _crop(self, person: COCO.PersonInstance) -> tuple[np.ndarray, Tensor, Tensor, np.ndarray]:
        """The image, joints, boxes and ignored cells of a crop, as in a PoseBatch; the person is the first."""
        x, y, width, height = person.box
        crop_height = _MARGIN * max(height, width * self.height / self.width, 1.0)
        crop_width = crop_height * self.width / self.height
        left, top = x + width / 2 - crop_width / 2, y + height / 2 - crop_height / 2
        frame = tuple(round(value) for value in (left, top, left + crop_width, top + crop_height))
        with Image.open(person.path) as photograph:
            crop = photograph.convert("RGB").crop(frame).resize((self.width, self.height), Image.Resampling.BILINEAR)
        mask = Image.fromarray(np.uint8(255 * COCO.ignored_mask(person))).crop(frame)
        cells = self.width // STRIDE, self.height // STRIDE
        ignored = np.asarray(mask.resize(cells, Image.Resampling.BOX)) > 0
        corner, extent = np.array(frame[:2], np.float32), np.array([crop_width, crop_height], np.float32)
        others = [other for other in self.in_photograph[person.path] if other is not person]
        joints, boxes = [], []
        for shown in [person, *others]:
            places = (shown.joints[:, :2] - corner) / extent
            joints.append(np.concatenate([places, shown.joints[:, 2:]], axis=1))
            begin = (np.array(shown.box[:2], np.float32) - corner) / extent
            boxes.append(np.concatenate([begin, begin + np.array(shown.box[2:], np.float32) / extent]))
        return (
            np.asarray(crop).transpose(2, 0, 1),
            add_neck(torch.from_numpy(np.stack(joints)).float()),
            torch.from_numpy(np.stack(boxes)).float(),
            ignored,
        )


PoseImages = MarkedImages | PeopleInPhotographs


def open_pose_images(dataset: datasets.DataSet, settings: PoseSettings) -> tuple[PoseImages, PoseImages]:
    """The images to train on, and those of people whom the training does not see. UserError: there are no joints."""
    if dataset.name == COCO.NAME:
        return tuple(PeopleInPhotographs(dataset.folder, split, settings) for split in ("train", "val"))
    return tuple(MarkedImages(dataset, subset, settings) for subset in (dataset.train, dataset.query))


def _image_size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size
