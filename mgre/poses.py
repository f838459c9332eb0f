"""The joints of a subset's images, from the data set's file of poses."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.datasets import READERS
from common.datasets.base import DataSet, Subset
from common.datasets.poses import COCO_JOINTS, read_poses
from common.errors import UserError


def pose_file(dataset: DataSet) -> Path:
    """`poses.json` in the data set's folder; `poses-labeled.json` for `cuhk03-labeled` in cuhk03's folder."""
    layout = READERS[dataset.name].NAME
    return dataset.folder / f"poses{dataset.name.removeprefix(layout)}.json"


def read_joints(dataset: DataSet, subset: Subset) -> Tensor:
    """(N, 17, 3) float32: x and y in parts of each image's width and height, v = 0 throughout without a pose.

    UserError: no file of poses (with the command that makes it), one of other images, or one without any of these.
    """
    path = pose_file(dataset)
    if not path.is_file():
        root = "" if dataset.kind != "real" else f" --data-root {dataset.folder.parent}"
        size = " --demo" if dataset.kind == "demo" else ""
        raise UserError(
            f"this variant learns from poses, and {path} does not exist. Make it by\n"
            f"       python -m {__package__}.extract_poses --dataset {dataset.name}{root}{size}\n"
            "       or train a variant that needs none: --variant baseline or --variant single_grained_regions"
        )
    poses = read_poses(path, dataset)
    found = {
        position: pose
        for position, sample in enumerate(subset.samples)
        if (pose := poses.get(sample.path.relative_to(dataset.folder).as_posix())) is not None
    }
    if not found:
        raise UserError(f"{path} has no pose of any image in '{subset.name}': make it anew by extract_poses")
    joints = np.zeros((len(subset), len(COCO_JOINTS), 3), np.float32)
    with ThreadPoolExecutor() as pool:  # the header of each image
        sizes = pool.map(_image_size, [subset.samples[position].path for position in found])
    for (position, pose), size in zip(found.items(), sizes, strict=True):
        joints[position] = pose / (*size, 1)
    return torch.from_numpy(joints)


def _image_size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size
