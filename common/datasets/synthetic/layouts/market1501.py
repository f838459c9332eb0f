"""Synthetic pedestrians in Market-1501's layout: four folders of JPEG files, attributes, joints, a stray Thumbs.db."""

from dataclasses import replace
from pathlib import Path

from common.datasets import market1501
from common.datasets.poses import write_poses
from common.datasets.synthetic.image_files import Job, write_images
from common.datasets.synthetic.layouts.attribute_file import write_market_attributes
from common.datasets.synthetic.people.person import identity
from common.datasets.synthetic.render import Shot
from common.datasets.synthetic.splits import MARKET1501, SIZES, Planned, plan

_FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test", "annotated": "gt_bbox"}


def _job(seed: int, planned: Planned, train_persons: set[int]) -> Job:
    person = "-1" if planned.person < 0 else f"{planned.person:04d}"
    name = f"{person}_c{planned.camera + 1}s{planned.sequence}_{planned.frame:06d}_{planned.detection:02d}.jpg"
    good_box = "annotated" if planned.subset == "annotated" else "detected"
    box = {-1: "junk", 0: "distractor"}.get(planned.person, good_box)
    # An annotated box shows the same frame as a detection: those of training identities keep the training places.
    training = planned.subset == "train" or (box == "annotated" and planned.person in train_persons)
    shot = Shot(seed, "test", planned.subject, planned.camera, MARKET1501.num_cameras, planned.index, box)
    return f"{_FOLDERS[planned.subset]}/{name}", replace(shot, split="train") if training else shot


def write(folder: Path, size: str, seed: int, processes: int) -> None:
    planned_images = plan(SIZES[size], seed)
    train_persons = {p.person for p in planned_images if p.subset == "train"}
    jobs = [_job(seed, planned, train_persons) for planned in planned_images]
    poses = {}
    for (name, joints), planned in zip(write_images(folder, jobs, processes), planned_images, strict=True):
        if planned.person > 0 and planned.subset != "annotated":
            poses[name] = joints
    (folder / "bounding_box_train" / "Thumbs.db").write_bytes(b"not a picture: Windows leaves such files behind\n")
    test_persons = {p.person for p in planned_images if p.subset == "query"}
    write_market_attributes(
        folder / "market_attribute.mat",
        {person: identity(seed, person) for person in sorted(train_persons)},
        {person: identity(seed, person) for person in sorted(test_persons)},
    )
    write_poses(folder / "poses.json", market1501.read(folder), poses)
