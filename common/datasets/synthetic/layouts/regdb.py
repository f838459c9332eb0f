"""Synthetic pedestrians in RegDB's layout: visible and thermal images of each identity, and the lists of ten trials.

RegDB's two cameras form one instrument: both show the same places, and a person from the same side. Occluders and other
people are sampled for each camera, so that nobody can be matched by the object in front of them.
"""

from pathlib import Path

import numpy as np

from common.datasets.regdb import NUM_TRIALS
from common.datasets.synthetic.image_files import Job, write_images
from common.datasets.synthetic.people.person import identity
from common.datasets.synthetic.render import Shot
from common.datasets.synthetic.seeds import PLAN, generator

# Identities, half of them for training, and images of each in each modality.
SIZES = {"tiny": (8, 10), "demo": (200, 10), "full": (412, 10)}

FRONT_SHARE = 156 / 412  # of RegDB's people are seen from the front, the others from behind
YAW_SPREAD = 0.35  # radians

MODALITIES = {"Visible": "visible", "Thermal": "thermal"}  # folder: modality


def plan_jobs(size: str, seed: int) -> dict[tuple[str, int], list[Job]]:
    """{(Visible | Thermal, identity): (file name, shot) of every image}."""
    jobs: dict[tuple[str, int], list[Job]] = {}
    rng = generator(seed, PLAN)
    persons, images = SIZES[size]
    fronts = rng.random(persons) < FRONT_SHARE
    yaws = np.where(fronts, 0, np.pi) + rng.normal(0, YAW_SPREAD, persons)
    number = 0
    for camera, (part, modality) in enumerate(MODALITIES.items()):
        for person, (front, yaw) in enumerate(zip(fronts, yaws.tolist(), strict=True), start=1):
            gender = "female" if identity(seed, person).female else "male"
            stem = f"{part}/{person}/{gender}_{'front' if front else 'back'}_{part[0].lower()}"
            jobs[part, person] = [
                (
                    f"{stem}_{number + i + 1:05d}_{person}.bmp",
                    Shot(seed, "train", person, camera, len(MODALITIES), i, modality=modality, place=0, yaw=yaw),
                )
                for i in range(images)
            ]
            number += images
    return jobs


def plan_trials(size: str, seed: int) -> list[dict[str, list[int]]]:
    """For each trial {train | test: identities}, with a different half each time."""
    persons, trials = np.arange(1, SIZES[size][0] + 1), []
    for trial in range(NUM_TRIALS):
        order = generator(seed, PLAN, 1 + trial).permutation(persons).tolist()
        trials.append({"train": sorted(order[: len(order) // 2]), "test": sorted(order[len(order) // 2 :])})
    return trials


def write(folder: Path, size: str, seed: int, processes: int) -> None:
    jobs = plan_jobs(size, seed)
    for _ in write_images(folder, [job for part in jobs.values() for job in part], processes):
        pass
    (folder / "idx").mkdir()
    for trial, halves in enumerate(plan_trials(size, seed), start=1):
        for half, persons in halves.items():
            for part in MODALITIES:
                lines = [f"{name} {label}\n" for label, p in enumerate(persons) for name, _ in jobs[part, p]]
                (folder / "idx" / f"{half}_{part.lower()}_{trial}.txt").write_text("".join(lines))
