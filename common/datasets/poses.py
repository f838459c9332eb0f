"""Joints of a data set's images in one JSON file: COCO's format of keypoint results, with file names instead of ids.

{"dataset": "market1501", "kind": "demo", "fingerprint": "0123...", "joints": ["nose", ...],
 "images": [{"file_name": "query/0001_c1s1_001051_00.jpg", "keypoints": [x, y, v, ... 17 times]}, ...]}
x and y are pixels of the image as it is on disk; v is 0 for a joint outside the image, 1 hidden, 2 visible.
"""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.datasets.base import DataSet, Subset
from common.errors import UserError

COCO_JOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip


def write_poses(path: Path, dataset: DataSet, poses: Mapping[str, np.ndarray]) -> None:
    """poses: file name below the data set's folder, with forward slashes, to (17, 3) x y v. Rounded to 0.01 pixel."""
    images = [
        {"file_name": name, "keypoints": [round(float(value), 2) for value in joints.reshape(-1)]}
        for name, joints in sorted(poses.items())
    ]
    content = {
        "dataset": dataset.name,
        "kind": dataset.kind,
        "fingerprint": dataset.fingerprint,
        "joints": COCO_JOINTS,
        "images": images,
    }
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n")


def read_poses(path: Path, dataset: DataSet) -> dict[str, np.ndarray]:
    """File name below the data set's folder to (17, 3) float32. Images without a pose are not in the mapping.

    UserError: no such file, another kind of file, or a file made for other images than those of `dataset`.
    """
    try:
        content = json.loads(Path(path).read_text())
        owner = content["dataset"], content["kind"], content["fingerprint"]
        images = {image["file_name"]: image["keypoints"] for image in content["images"]}
        poses = {name: np.array(values, np.float32).reshape(len(COCO_JOINTS), 3) for name, values in images.items()}
    except FileNotFoundError:
        raise UserError(f"no joints at {path}: this file is made from the images by a pose network") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is not a file of joints ({type(error).__name__}: {error}); generate it again"
        ) from None
    expected = dataset.name, dataset.kind, dataset.fingerprint
    if owner != expected:
        raise UserError(
            f"{path} was made for other images: {' '.join(owner)}; the data set in {dataset.folder} is "
            f"{' '.join(expected)} (name, kind, fingerprint). Generate it again from these images."
        )
    return poses


def pose_file(dataset: DataSet) -> Path:
    """`poses.json` in the data set's folder; `poses-labeled.json` for `cuhk03-labeled` in cuhk03's folder."""
    _, dash, part = dataset.name.partition("-")
    return dataset.folder / f"poses{dash}{part}.json"


def read_joints(dataset: DataSet, subset: Subset) -> Tensor:
    """(N, 17, 3) float32: x and y in parts of each image's width and height, v = 0 throughout without a pose.

    UserError: no file of poses (with the command that makes it), a file made for other images, or one that has no pose
    of the subset's images.
    """
    path = pose_file(dataset)
    if not path.is_file():
        root = "" if dataset.kind != "real" else f" --data-root {dataset.folder.parent}"
        size = " --demo" if dataset.kind == "demo" else ""
        raise UserError(
            f"{path} does not exist. Make it with\n"
            f"       python -m common.datasets.extract_poses --dataset {dataset.name}{root}{size}"
        )
    poses = read_poses(path, dataset)
    found = {
        position: pose
        for position, sample in enumerate(subset.samples)
        if (pose := poses.get(sample.path.relative_to(dataset.folder).as_posix())) is not None
    }
    if not found:
        raise UserError(f"{path} has no pose of any image in '{subset.name}': make it again with extract_poses --force")
    joints = np.zeros((len(subset), len(COCO_JOINTS), 3), np.float32)
    with ThreadPoolExecutor() as pool:  # each image's header only
        sizes = pool.map(_image_size, [subset.samples[position].path for position in found])
    for (position, pose), size in zip(found.items(), sizes, strict=True):
        joints[position] = pose / (*size, 1)
    return torch.from_numpy(joints)


def _image_size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size
