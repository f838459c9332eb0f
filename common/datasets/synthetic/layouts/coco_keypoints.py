"""Synthetic pedestrians in the layout of COCO keypoints, for training pose networks: images of one to three people,
some with crowds or with people without joints, and two annotation files."""

import json
from collections.abc import Iterable
from pathlib import Path

from common.datasets.poses import COCO_JOINTS
from common.datasets.synthetic.image_files import Job, write_images
from common.datasets.synthetic.photograph import HEIGHT, WIDTH, Annotation, Photograph, render_photograph

# Images of train and val. COCO has 118,287 and 5,000, but synthetic people vary less: more images would not help.
SIZES = {"tiny": (12, 6), "demo": (1_000, 200), "full": (4_000, 500)}

# The bones of COCO's person category, joints numbered from 1.
_SKELETON = (
    (16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9), (8, 10), (9, 11),
    (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7),
)  # fmt: skip
_PERSON = 1  # COCO's category


def plan_jobs(size: str, seed: int) -> dict[str, list[Job]]:
    """{train | val: (file name, photograph) of every image}. Image ids continue from train to val."""
    train, val = SIZES[size]
    jobs = [(f"train2017/{i + 1:012d}.jpg", Photograph(seed, "train", i)) for i in range(train)]
    return {
        "train": jobs,
        "val": [(f"val2017/{train + i + 1:012d}.jpg", Photograph(seed, "test", i)) for i in range(val)],
    }


def write(folder: Path, size: str, seed: int, processes: int) -> None:
    (folder / "annotations").mkdir()
    for split, jobs in plan_jobs(size, seed).items():
        content = _annotations(write_images(folder, jobs, processes, render_photograph))
        path = folder / "annotations" / f"person_keypoints_{split}2017.json"
        path.write_text(json.dumps(content, separators=(",", ":")) + "\n")


def _annotations(photographs: Iterable[tuple[str, list[Annotation]]]) -> dict:
    """The content of an annotation file, from (file name, annotations) of each image."""
    images, annotations = [], []
    for name, people in photographs:
        file = name.rpartition("/")[2]
        number = int(file.removesuffix(".jpg"))
        images.append({"id": number, "file_name": file, "width": WIDTH, "height": HEIGHT})
        # Unique across both files, as the image ids are.
        annotations += [_annotation(100 * number + i, number, annotation) for i, annotation in enumerate(people)]
    category = {"id": _PERSON, "name": "person", "supercategory": "person"}
    category |= {"keypoints": COCO_JOINTS, "skeleton": _SKELETON}
    info = {"description": "Synthetic people in the layout of COCO 2017 keypoints"}
    return {"info": info, "images": images, "annotations": annotations, "categories": [category]}


def _annotation(number: int, image: int, annotation: Annotation) -> dict:
    """The outline is the box; a crowd's is in COCO's uncompressed run-length code."""
    x, y, width, height = (round(float(value), 2) for value in annotation.box)
    if annotation.crowd:
        segmentation = {"counts": _runs(*(int(value) for value in annotation.box)), "size": [HEIGHT, WIDTH]}
    else:
        segmentation = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    return {
        "id": number,
        "image_id": image,
        "category_id": _PERSON,
        "iscrowd": int(annotation.crowd),
        "num_keypoints": int((annotation.joints[:, 2] > 0).sum()),
        "keypoints": [round(float(value), 1) for value in annotation.joints.reshape(-1)],
        "bbox": [x, y, width, height],
        "area": round(annotation.area, 1),
        "segmentation": segmentation,
    }


def _runs(x: int, y: int, width: int, height: int) -> list[int]:
    """A box as lengths of alternating runs of 0 and 1, starting with 0, down the columns from the left."""
    gap = HEIGHT - height
    inner = [height, gap] * (width - 1)
    return [x * HEIGHT + y, *inner, height, (WIDTH - x - width) * HEIGHT + HEIGHT - y - height]
