"""Draws people in the layout of COCO's keypoints: pictures with one to three people, crowds and unmarked ones among
them, and two annotation files. To train a pose network on; nobody is searched for in it."""

import json
from collections.abc import Iterable
from pathlib import Path

from common.datasets.poses import COCO_JOINTS
from common.datasets.synthetic.image_files import Job, draw_jobs
from common.datasets.synthetic.photograph import HEIGHT, WIDTH, Marked, Photograph, draw_photograph

# Pictures of train and val. Full is no COCO (118,287 and 5,000): drawn people vary less, and more would teach no more.
SIZES = {"tiny": (12, 6), "demo": (1_000, 200), "full": (4_000, 500)}

# COCO's own lines between joints, from 1.
_SKELETON = (
    (16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9), (8, 10), (9, 11),
    (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7),
)  # fmt: skip
_PERSON = 1  # COCO's category


def plan_jobs(size: str, seed: int) -> dict[str, list[Job]]:
    """{train | val: every picture: (file name, photograph)}. Image ids go on from train to val."""
    train, val = SIZES[size]
    jobs = [(f"train2017/{i + 1:012d}.jpg", Photograph(seed, "train", i)) for i in range(train)]
    return {
        "train": jobs,
        "val": [(f"val2017/{train + i + 1:012d}.jpg", Photograph(seed, "test", i)) for i in range(val)],
    }


def write(folder: Path, size: str, seed: int, processes: int) -> None:
    """A writer of write.WRITERS."""
    (folder / "annotations").mkdir()
    for split, jobs in plan_jobs(size, seed).items():
        content = _annotations(draw_jobs(folder, jobs, processes, draw_photograph))
        path = folder / "annotations" / f"person_keypoints_{split}2017.json"
        path.write_text(json.dumps(content, separators=(",", ":")) + "\n")


def _annotations(pictures: Iterable[tuple[str, list[Marked]]]) -> dict:
    """The content of an annotation file, from (file name, annotations) of each picture."""
    images, annotations = [], []
    for name, people in pictures:
        file = name.rpartition("/")[2]
        number = int(file.removesuffix(".jpg"))
        images.append({"id": number, "file_name": file, "width": WIDTH, "height": HEIGHT})
        # Unique over both files, as the images' numbers are.
        annotations += [_annotation(100 * number + i, number, marked) for i, marked in enumerate(people)]
    category = {"id": _PERSON, "name": "person", "supercategory": "person"}
    category |= {"keypoints": COCO_JOINTS, "skeleton": _SKELETON}
    info = {"description": "Synthetic people in the layout of COCO 2017 keypoints"}
    return {"info": info, "images": images, "annotations": annotations, "categories": [category]}


def _annotation(number: int, image: int, marked: Marked) -> dict:
    """Outlines are the boxes; a crowd's is in COCO's uncompressed run-length code."""
    x, y, width, height = (round(float(value), 2) for value in marked.box)
    if marked.crowd:
        segmentation = {"counts": _runs(*(int(value) for value in marked.box)), "size": [HEIGHT, WIDTH]}
    else:
        segmentation = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    return {
        "id": number,
        "image_id": image,
        "category_id": _PERSON,
        "iscrowd": int(marked.crowd),
        "num_keypoints": int((marked.joints[:, 2] > 0).sum()),
        "keypoints": [round(float(value), 1) for value in marked.joints.reshape(-1)],
        "bbox": [x, y, width, height],
        "area": round(marked.area, 1),
        "segmentation": segmentation,
    }


def _runs(x: int, y: int, width: int, height: int) -> list[int]:
    """A box as lengths of alternating runs of 0 and 1, beginning with 0, down the columns from the left."""
    gap = HEIGHT - height
    inner = [height, gap] * (width - 1)
    return [x * HEIGHT + y, *inner, height, (WIDTH - x - width) * HEIGHT + HEIGHT - y - height]
