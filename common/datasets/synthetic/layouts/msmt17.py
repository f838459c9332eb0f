"""Synthetic pedestrians in MSMT17's layout, version 2: a folder for each identity, four lists, joints."""

from pathlib import Path

import numpy as np

from common.datasets import msmt17
from common.datasets.poses import write_poses
from common.datasets.synthetic.image_files import Job, write_images
from common.datasets.synthetic.render import Shot
from common.datasets.synthetic.seeds import PLAN, generator
from common.datasets.synthetic.splits import Layout, Planned, Size, plan

LAYOUT = Layout(num_cameras=15, max_label=4101)

SIZES = {  # the training images include val
    "tiny": Size(6, 36, 5, 12, 25, 0, 0, 0),
    "demo": Size(200, 1400, 250, 750, 2500, 0, 0, 0),
    "full": Size(1041, 32_621, 3060, 11_659, 82_161, 0, 0, 0),
}
VAL = {"tiny": 8, "demo": 260, "full": 2_373}

_FOLDERS = {"train": "mask_train_v2", "val": "mask_train_v2", "query": "mask_test_v2", "gallery": "mask_test_v2"}
_TIMES = ("morning", "noon", "afternoon")
_EX_RATE = 0.02  # share of names that end in _ex


def plan_jobs(size: str, seed: int) -> list[tuple[Job, str, int]]:
    """Every image of the data set: (file name, shot), list (train | val | query | gallery), label in that list."""
    rng = generator(seed, PLAN, 1)
    planned = plan(SIZES[size], seed, LAYOUT)
    val = _choose_val(rng, [p for p in planned if p.subset == "train"], VAL[size])
    days = {(p.person, p.camera): (int(rng.integers(1, 32)), str(rng.choice(_TIMES))) for p in planned}
    labels, numbers, jobs = {}, {}, []
    for half in (("train",), ("query", "gallery")):
        persons = sorted({p.person for p in planned if p.subset in half})
        labels |= {person: label for label, person in enumerate(persons)}  # training and test labels both start at 0
    for p in planned:
        number = numbers[p.person] = numbers.get(p.person, -1) + 1
        day, time = days[p.person, p.camera]
        end = "_ex" if rng.random() < _EX_RATE or number == 3 == labels[p.person] else ""
        label = f"{labels[p.person]:04d}"
        track = f"03{day:02d}{time}_{p.frame // 25 % 10_000:04d}_{p.detection}"
        name = f"{label}/{label}_{number:03d}_{p.camera + 1:02d}_{track}{end}.jpg"
        where = "val" if (p.person, p.index) in val else p.subset
        split = "train" if p.subset == "train" else "test"
        shot = Shot(seed, split, p.subject, p.camera, LAYOUT.num_cameras, p.index)
        jobs.append(((f"{_FOLDERS[where]}/{name}", shot), where, labels[p.person]))
    return jobs


def _choose_val(rng: np.random.Generator, train: list[Planned], count: int) -> set[tuple[int, int]]:
    """(person, index) of `count` training images: the last of every identity, never the first, others at random."""
    last = {p.person: p.index for p in train}
    rest = [(p.person, p.index) for p in train if 0 < p.index < last[p.person]]
    more = rng.choice(len(rest), count - len(last), replace=False)
    return set(last.items()) | {rest[position] for position in more.tolist()}


def write(folder: Path, size: str, seed: int, processes: int) -> None:
    jobs = plan_jobs(size, seed)
    poses = dict(write_images(folder, [job for job, _, _ in jobs], processes))
    for part in ("train", "val", "query", "gallery"):
        lines = [f"{name.partition('/')[2]} {label}\n" for (name, _), where, label in jobs if where == part]
        (folder / f"list_{part}.txt").write_text("".join(sorted(lines)))
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "._list_train.txt").write_bytes(b"not a list: macOS leaves such files behind\n")
    write_poses(folder / "poses.json", msmt17.read(folder), poses)
