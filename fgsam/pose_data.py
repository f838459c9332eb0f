"""What phase 0 learns from: images of people with their joints, of COCO keypoints or of a data set with a poses.json.

Shapes: N images, M people in one, J = 18 joints; x and y are in parts of the image's width and height.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.datasets.base import DataSet, Subset
from common.datasets.coco_keypoints import NAME as COCO
from common.datasets.coco_keypoints import PersonInstance, ignored_mask, read_people
from common.datasets.poses import read_poses
from common.images import ImageStore

from .ground_truth import add_neck

_MARGIN = 1.25  # of a crop around a person in COCO, over the person's box; ASSUMED


@dataclass(frozen=True)
class PoseBatch:
    """images: (B, 3, H, W) uint8; joints: (B, M, 18, 3) x y v; boxes: (B, M, 4), x_min y_min x_max y_max; ignored:
    (B, h, w) bool, where a map's cells show people without joints. Lists of fewer than M people end with v = 0."""

    images: Tensor
    joints: Tensor
    boxes: Tensor
    ignored: Tensor


class MarkedImages:
    """A subset's images, one person in each, with the joints of the data set's poses.json."""

    def __init__(self, dataset: DataSet, subset: Subset, height: int, width: int, *, cache: bool):
        poses = read_poses(dataset.folder / "poses.json", dataset)
        names = [sample.path.relative_to(dataset.folder).as_posix() for sample in subset.samples]
        found = [(s, poses[name]) for s, name in zip(subset.samples, names, strict=True) if name in poses]
        self.store = ImageStore(Subset(subset.name, tuple(s for s, _ in found)), height, width, cache=cache)
        with ThreadPoolExecutor() as pool:  # the header of each image
            sizes = pool.map(_image_size, self.store.paths)
        joints = np.stack([pose / (*size, 1) for (_, pose), size in zip(found, sizes, strict=True)])
        self.joints = add_neck(torch.from_numpy(joints).float())[:, None]

    def __len__(self) -> int:
        return len(self.store)

    def batch(self, indices: np.ndarray, rows: int, columns: int) -> PoseBatch:
        """rows, columns: of the maps."""
        boxes = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(len(indices), 1, 4)
        ignored = torch.zeros(len(indices), rows, columns, dtype=torch.bool)
        return PoseBatch(self.store.gather(indices), self.joints[indices], boxes, ignored)


class PeopleInPhotographs:
    """A split of COCO keypoints, a crop around each person with joints; others may be in it. Decoded anew each time:
    COCO's 150,000 people would take 15 GB at 256 x 128."""

    def __init__(self, folder: Path, split: str, height: int, width: int):
        self.height, self.width = height, width
        self.people = read_people(folder, split)
        self.in_photograph: dict[Path, list[PersonInstance]] = {}
        for person in self.people:
            self.in_photograph.setdefault(person.path, []).append(person)

    def __len__(self) -> int:
        return len(self.people)

    def batch(self, indices: np.ndarray, rows: int, columns: int) -> PoseBatch:
        with ThreadPoolExecutor() as pool:
            crops = list(pool.map(lambda index: self._crop(self.people[index], rows, columns), indices))
        images, joints, boxes, ignored = zip(*crops, strict=True)
        padded = torch.nn.utils.rnn.pad_sequence
        return PoseBatch(
            torch.from_numpy(np.stack(images)),
            padded(joints, batch_first=True),
            padded(boxes, batch_first=True, padding_value=-1.0),
            torch.from_numpy(np.stack(ignored)),
        )

    def _crop(self, person: PersonInstance, rows: int, columns: int) -> tuple[np.ndarray, Tensor, Tensor, np.ndarray]:
        x, y, width, height = person.box
        crop_height = _MARGIN * max(height, width * self.height / self.width, 1.0)
        crop_width = crop_height * self.width / self.height
        left, top = x + width / 2 - crop_width / 2, y + height / 2 - crop_height / 2
        frame = tuple(round(value) for value in (left, top, left + crop_width, top + crop_height))
        with Image.open(person.path) as photograph:
            crop = photograph.convert("RGB").crop(frame).resize((self.width, self.height), Image.Resampling.BILINEAR)
        mask = Image.fromarray(np.uint8(255 * ignored_mask(person))).crop(frame)
        ignored = np.asarray(mask.resize((columns, rows), Image.Resampling.BOX)) > 0
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


def open_pose_images(dataset: DataSet, height: int, width: int, *, cache: bool) -> tuple[PoseImages, PoseImages]:
    """Images to train on, and of people whom the training has not seen. UserError: no joints there."""
    if dataset.name == COCO:
        return tuple(PeopleInPhotographs(dataset.folder, split, height, width) for split in ("train", "val"))
    return tuple(MarkedImages(dataset, subset, height, width, cache=cache) for subset in (dataset.train, dataset.query))


def _image_size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size
