"""Synthetic pedestrians in the layout of CUHK03's new protocol: the same frames in detected and in annotated boxes, and
the joints of both: poses.json for `cuhk03` (detected), poses-labeled.json for `cuhk03-labeled`."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from common.datasets import cuhk03
from common.datasets.poses import write_poses
from common.datasets.synthetic.image_files import Job, write_images
from common.datasets.synthetic.render import Shot
from common.datasets.synthetic.splits import Layout, Planned, Size, plan

LAYOUT = Layout(num_cameras=2, max_label=1467)

SIZES = {  # of all frames; a few have one kind of box only
    "tiny": Size(8, 33, 6, 12, 23, 0, 0, 0),
    "demo": Size(200, 1203, 250, 500, 1504, 0, 0, 0),
    "full": Size(767, 7_368, 700, 1_400, 5_332, 0, 0, 0),
}
MISSED = {"tiny": 1, "demo": 3, "full": 3}  # training images that the detector missed
UNLABELED = {"tiny": 1, "demo": 4, "full": 4}  # gallery images without an annotated box

BOXES = {"detected": "detected", "labeled": "annotated"}  # folder: kind of box
POSES = {"detected": (cuhk03.NAME, "poses.json"), "labeled": (cuhk03.LABELED, "poses-labeled.json")}


def plan_jobs(size: str, seed: int) -> dict[str, list[tuple[Job, Planned]]]:
    """{detected | labeled: (file name, shot) and entry in the plan of every image}."""
    planned = plan(SIZES[size], seed, LAYOUT)
    absent = {
        "detected": _spare(planned, "train", MISSED[size]),
        "labeled": _spare(planned, "gallery", UNLABELED[size]),
    }
    jobs: dict[str, list[tuple[Job, Planned]]] = {}
    for folder, box in BOXES.items():
        jobs[folder] = []
        for p in planned:
            if p in absent[folder]:
                continue
            name = f"{folder}/{cuhk03.FOLDERS[p.subset]}/{p.person:04d}_c{p.camera + 1}_{p.index + 1}.png"
            split = "train" if p.subset == "train" else "test"
            shot = Shot(seed, split, p.subject, p.camera, LAYOUT.num_cameras, p.index)
            jobs[folder].append(((name, replace(shot, box=box)), p))
    return jobs


def _spare(planned: list[Planned], subset: str, count: int) -> list[Planned]:
    """`count` images of the subset that can go without any identity missing from one of its cameras."""
    left = Counter((p.person, p.camera) for p in planned if p.subset == subset)
    chosen: list[Planned] = []
    for p in planned:
        if len(chosen) < count and p.subset == subset and left[p.person, p.camera] > 2:
            chosen.append(p)
            left[p.person, p.camera] = 0  # at most one of each person and camera
    return chosen


def write(folder: Path, size: str, seed: int, processes: int) -> None:
    jobs = plan_jobs(size, seed)
    poses = dict(write_images(folder, [job for part in jobs.values() for job, _ in part], processes))
    for part, (name, file) in POSES.items():
        own = {image: joints for image, joints in poses.items() if image.startswith(f"{part}/")}
        write_poses(folder / file, cuhk03.read(folder, name), own)
