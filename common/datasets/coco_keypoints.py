"""COCO keypoints 2017 (Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014): photographs of people
with 17 joints each, for training pose networks. It has no searches.

`read` returns every image that the annotations list, with or without people, as a sample: person = COCO's image id,
camera = 0. `read_people` returns the annotated people, each with the regions of its image that a loss must ignore.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.datasets.base import DataSet, Sample, Subset, data_kind
from common.datasets.list_files import refuse_missing
from common.datasets.poses import COCO_JOINTS
from common.errors import UserError

NAME = "coco_keypoints"
FOLDER_NAMES = ("coco_keypoints", "coco", "COCO", "coco2017")
LANDMARKS = ("train2017", "val2017")

LAYOUT = """\
coco_keypoints/                          (or coco/, COCO/, coco2017/)
  annotations/
    person_keypoints_train2017.json
    person_keypoints_val2017.json
  train2017/                             000000000009.jpg
  val2017/"""

# Images; people are not identified across images, and cameras are unknown.
OFFICIAL_COUNTS = {NAME: {"train": (118_287, None, None), "val": (5_000, None, None)}}

SPLITS = ("train", "val")


@dataclass(frozen=True)
class IgnoredRegion:
    """A region with people but without joints: a crowd, or a person whose joints are not labelled.

    box: x, y, width, height in pixels. runs: the mask of a crowd as lengths of alternating runs of 0 and 1, starting
    with 0, down the columns from the left (COCO's uncompressed run-length code); None: the whole box.
    """

    box: tuple[float, float, float, float]
    runs: tuple[int, ...] | None = None


@dataclass(frozen=True)
class PersonInstance:
    """One annotated person. image_size: (height, width) in pixels; box: x, y, width, height in pixels.

    joints: (17, 3) float32, x and y in pixels of the image and v: 0 not labelled (x = y = 0), 1 hidden, 2 visible.
    ignored: the regions of the same image that hold people without joints.
    """

    path: Path
    image_size: tuple[int, int]
    box: tuple[float, float, float, float]
    joints: np.ndarray
    ignored: tuple[IgnoredRegion, ...]


def read(folder: Path, name: str = NAME) -> DataSet:
    """The data set in `folder`. UserError: annotations missing or damaged, or an image not on disk."""
    subsets = {}
    for split in SPLITS:
        path, content = _annotations(folder, split)
        images = sorted((str(image["file_name"]), int(image["id"])) for image in content["images"])
        samples = tuple(Sample(folder / f"{split}2017" / file, number, 0) for file, number in images)
        refuse_missing((sample.path for sample in samples), path)
        subsets[split] = Subset(split, samples)
    return DataSet(name, folder, subsets, (), data_kind(folder))


def read_people(folder: Path, split: str) -> list[PersonInstance]:
    """People of `train` or `val` with at least one labelled joint, sorted by file name, then as annotated.

    Crowds and people without joints (num_keypoints 0) have no instance of their own; they are in the `ignored` of the
    other people in their image. UserError: annotations missing or damaged.
    """
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r} of COCO keypoints; known: {', '.join(SPLITS)}")
    path, content = _annotations(folder, split)
    try:
        images = {image["id"]: image for image in content["images"]}
        marked: dict[int, list[dict]] = {number: [] for number in images}
        ignored: dict[int, list[IgnoredRegion]] = {number: [] for number in images}
        for annotation in content["annotations"]:
            number = annotation["image_id"]
            if annotation["iscrowd"] or not annotation["num_keypoints"]:
                ignored[number].append(_region(annotation))
            else:
                marked[number].append(annotation)
        return [
            PersonInstance(
                path=folder / f"{split}2017" / image["file_name"],
                image_size=(int(image["height"]), int(image["width"])),
                box=_box(annotation),
                joints=np.array(annotation["keypoints"], np.float32).reshape(len(COCO_JOINTS), 3),
                ignored=tuple(ignored[number]),
            )
            for number, image in sorted(images.items(), key=lambda item: item[1]["file_name"])
            for annotation in marked[number]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from None


def ignored_mask(person: PersonInstance) -> np.ndarray:
    """(height, width) bool, True where the image of `person` holds people without joints."""
    height, width = person.image_size
    mask = np.zeros((height, width), bool)
    for region in person.ignored:
        if region.runs is not None and sum(region.runs) == height * width:
            values = np.arange(len(region.runs)) % 2 == 1
            mask |= np.repeat(values, region.runs).reshape(width, height).T
        else:
            x, y, box_width, box_height = region.box
            left, top = max(int(np.floor(x)), 0), max(int(np.floor(y)), 0)
            mask[top : int(np.ceil(y + box_height)), left : int(np.ceil(x + box_width))] = True
    return mask


def _annotations(folder: Path, split: str) -> tuple[Path, dict]:
    """The file of a split and its content. UserError: file or image folder missing, or the file damaged."""
    path = folder / "annotations" / f"person_keypoints_{split}2017.json"
    for part in (path, folder / f"{split}2017"):
        if not part.exists():
            raise UserError(f"{part} is missing. Expected:\n{LAYOUT}")
    try:
        content = json.loads(path.read_bytes())
        for entry in content["images"]:
            entry["id"], entry["file_name"]
        content["annotations"][:0]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise _damaged(path, error) from None
    return path, content


def _damaged(path: Path, error: Exception) -> UserError:
    problem = f"{type(error).__name__}: {error}"
    return UserError(f"{path} is not a file of COCO's keypoints ({problem}); unpack annotations_trainval2017.zip again")


def _box(annotation: dict) -> tuple[float, float, float, float]:
    x, y, width, height = (float(value) for value in annotation["bbox"])
    return x, y, width, height


def _region(annotation: dict) -> IgnoredRegion:
    # A person without joints has polygons, a crowd has runs. The box covers slightly more than either, which is safe.
    segmentation = annotation.get("segmentation")
    runs = segmentation.get("counts") if annotation["iscrowd"] and isinstance(segmentation, dict) else None
    return IgnoredRegion(_box(annotation), tuple(runs) if isinstance(runs, list) else None)
