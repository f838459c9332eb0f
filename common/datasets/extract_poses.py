"""Make a data set's file of poses: --dataset market1501 --data-root DIR, `--help` for more.

The joints come from torchvision's Keypoint R-CNN (COCO weights) or, with `--coco-results FILE`, from any other
estimator's results in COCO's format, a list of {"image_id", "keypoints": [x, y, confidence, ... 17 times], "score"}. An
image_id is a file name (below the data set's folder, or the last part alone where it is unique), or a number that
`--coco-images FILE` maps to a name: an annotation file with "images": [{"id", "file_name"}].

Of several people in an image the one with the highest score is taken. An image without a person gets no pose.
`--subsets train` leaves out test images, whose poses few programs need. An interrupted detection goes on where it was.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from common import devices
from common.datasets.arguments import add_dataset_arguments, dataset_of
from common.datasets.base import DataSet
from common.datasets.poses import COCO_JOINTS, pose_file, write_poses
from common.errors import UserError, command

MIN_PERSON_SCORE = 0.3  # ASSUMED, as the two below
MIN_JOINT_CONFIDENCE = 0.2  # of a results file, in [0, 1]
MIN_JOINT_LOGIT = 0.0  # Keypoint R-CNN's keypoints_scores are the maxima of its heat maps, before any sigmoid

Detector = Callable[[list[Tensor]], list[dict[str, Tensor]]]  # torchvision's: images in [0, 1] -> people in each


@command
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m common.datasets.extract_poses", description="Make a data set's file of poses."
    )
    add_dataset_arguments(parser)
    parser.add_argument("--coco-results", type=Path, metavar="FILE", help="results of another pose estimator")
    parser.add_argument("--coco-images", type=Path, metavar="FILE", help="file names of the results' image numbers")
    parser.add_argument("--subsets", nargs="+", metavar="NAME", help="such as train; default: all of the data set")
    parser.add_argument("--force", action="store_true", help="replace the file of poses that is there")
    arguments = parser.parse_args(argv)
    dataset = dataset_of(arguments)
    path = pose_file(dataset)
    names = file_names(dataset, arguments.subsets)
    if path.exists() and not arguments.force:
        raise UserError(f"{path} is there already; --force replaces it")
    if arguments.coco_results:
        found = read_coco_results(arguments.coco_results, dataset, arguments.coco_images)
        poses = {name: joints for name, joints in found.items() if name in names}
    else:
        device = devices.select_device(arguments.device)
        progress = Progress(path.with_name(path.name + ".progress"), dataset)
        poses = detect_poses(names, keypoint_rcnn(device), device, progress=progress)
    write_poses(path, dataset, poses)
    if not arguments.coco_results:
        progress.file.unlink()
    print(f"{path}: poses of {len(poses)} of {len(names)} images")


class Progress:
    """The images that an earlier call has been through: a line of JSON for each, `keypoints` null without a person,
    after one with the images' fingerprint, without which the file is begun again."""

    def __init__(self, file: Path, dataset: DataSet):
        self.file, header = file, json.dumps({"fingerprint": dataset.fingerprint})
        lines = file.read_text().split("\n")[:-1] if file.is_file() else []  # what follows the last newline is cut off
        if not lines or lines[0] != header:
            lines = [header]
        file.write_text("".join(line + "\n" for line in lines))
        entries = [json.loads(line) for line in lines[1:]]
        self.done = {entry["file_name"]: entry["keypoints"] for entry in entries}

    def add(self, found: Mapping[str, np.ndarray | None]) -> None:
        with self.file.open("a") as stream:
            for name, joints in found.items():
                keypoints = None if joints is None else joints.astype(float).tolist()
                stream.write(json.dumps({"file_name": name, "keypoints": keypoints}) + "\n")


def file_names(dataset: DataSet, subsets: Sequence[str] | None = None) -> dict[str, Path]:
    """Every image of these subsets, default all: its name below the data set's folder, with forward slashes, and its
    path. UserError: the data set has no such subset."""
    for name in subsets or ():
        if name not in dataset.subsets:
            known = ", ".join(dataset.subsets)
            raise UserError(f"{dataset.name} has no subset '{name}'; it has {known}")
    chosen = [dataset.subsets[name] for name in subsets or dataset.subsets]
    paths = (sample.path for subset in chosen for sample in subset.samples)
    return {path.relative_to(dataset.folder).as_posix(): path for path in paths}


def read_coco_results(path: Path, dataset: DataSet, images_file: Path | None = None) -> dict[str, np.ndarray]:
    """{file name: (17, 3) x y v} of the data set's images. UserError: not such a file, or of other images."""
    names = file_names(dataset)
    by_last_part = defaultdict(list)
    for name in names:
        by_last_part[Path(name).name].append(name)
    try:
        results = json.loads(path.read_text())
        numbered = {} if images_file is None else _image_names(images_file)
        best: dict[str, tuple[float, np.ndarray]] = {}
        for result in results:
            given = numbered.get(result["image_id"], result["image_id"])
            name = _find(given, names, by_last_part, path)
            score = float(result.get("score", 1.0))
            if name is not None and score >= best.get(name, (-np.inf,))[0]:
                joints = np.array(result["keypoints"], np.float32).reshape(len(COCO_JOINTS), 3)
                best[name] = score, joints
    except FileNotFoundError as error:
        raise UserError(f"there is no file {error.filename}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{path} is not a list of COCO keypoint results ({type(error).__name__}: {error})") from None
    if not best:
        raise UserError(f"{path} has no result for any image of {dataset.name} in {dataset.folder}")
    return {
        name: _with_visibility(joints, joints[:, 2] >= MIN_JOINT_CONFIDENCE, names[name])
        for name, (_, joints) in best.items()
    }


def _image_names(path: Path) -> dict[int | str, str]:
    return {image["id"]: image["file_name"] for image in json.loads(path.read_text())["images"]}


def _find(given: object, names: dict, by_last_part: dict[str, list[str]], path: Path) -> str | None:
    """The image that a result names; None where the data set does not have it, such as a junk image left out."""
    if not isinstance(given, str):
        raise UserError(f"{path} numbers its images ({given!r}): give the file that names them with --coco-images")
    if given in names:
        return given
    found = by_last_part.get(Path(given).name, [])
    if len(found) > 1:
        raise UserError(f"{path}: {given} may be any of {', '.join(found)}: give the file names with their folders")
    return found[0] if found else None


def _with_visibility(joints: np.ndarray, certain: np.ndarray, path: Path) -> np.ndarray:
    """(17, 3) x y v: v = 2 for a certain joint within the image, else all three 0."""
    with Image.open(path) as image:
        width, height = image.size
    x, y = joints[:, 0], joints[:, 1]
    kept = certain & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return np.where(kept[:, None], np.stack([x, y, np.full_like(x, 2)], axis=1), 0).astype(np.float32)


def keypoint_rcnn(device: torch.device) -> Detector:
    """torchvision's Keypoint R-CNN with COCO weights. UserError where they cannot be fetched."""
    weights = torchvision.models.detection.KeypointRCNN_ResNet50_FPN_Weights.COCO_V1
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    try:
        state = weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"Keypoint R-CNN needs {weights.url}, and it could not be fetched ({error}).\n"
            f"       Fetch it on a machine that can and put it at {file},\n"
            "       or give the results of another pose estimator (--coco-results FILE)"
        ) from None
    network = torchvision.models.detection.keypointrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    network.load_state_dict(state)
    return network.to(device).eval()


@torch.inference_mode()
def detect_poses(
    names: Mapping[str, Path],
    detector: Detector,
    device: torch.device,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> dict[str, np.ndarray]:
    """{file name: (17, 3) x y v} of the images in which a person is found. names: as `file_names` gives them."""
    done = progress.done if progress else {}
    poses = {
        name: np.array(joints, np.float32) for name, joints in done.items() if name in names and joints is not None
    }
    files = [(name, path) for name, path in names.items() if name not in done]
    for start in tqdm(range(0, len(files), batch_size), desc="poses", unit="batch", disable=None):
        batch = files[start : start + batch_size]
        found: dict[str, np.ndarray | None] = dict.fromkeys(name for name, _ in batch)
        images = [_read(path).to(device) for _, path in batch]
        for (name, path), people in zip(batch, detector(images), strict=True):
            if len(people["scores"]) and people["scores"].max() >= MIN_PERSON_SCORE:
                best = int(people["scores"].argmax())
                certain = people["keypoints_scores"][best].cpu().numpy() >= MIN_JOINT_LOGIT
                found[name] = _with_visibility(people["keypoints"][best].cpu().numpy(), certain, path)
        poses |= {name: joints for name, joints in found.items() if joints is not None}
        if progress:
            progress.add(found)
    return poses


def _read(path: Path) -> Tensor:
    """(3, H, W) float32 in [0, 1], at its own size."""
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255


if __name__ == "__main__":
    main()
