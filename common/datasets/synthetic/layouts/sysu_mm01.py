"""Synthetic pedestrians in SYSU-MM01's layout: visible cameras 1, 2, 4, 5, near-infrared cameras 3 and 6.

As in the real data set, cameras 1 to 3 are indoors and see only some identities, cameras 4 to 6 are outdoors, and 2 and
3 share their places. There is no rand_perm_cam.mat, as in the real archive. poses.json has the joints.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.datasets import sysu_mm01
from common.datasets.poses import write_poses
from common.datasets.synthetic.image_files import Job, write_images
from common.datasets.synthetic.render import Shot
from common.datasets.synthetic.seeds import PLAN, generator
from common.datasets.synthetic.splits import share

NUM_CAMERAS = 6
MAX_LABEL = 533  # identities are numbered from 1 to this
INDOOR, OUTDOOR = (1, 2, 3), (4, 5, 6)
INFRARED = (3, 6)
PLACES = {3: 2}  # camera: the camera whose places it shares


@dataclass(frozen=True)
class Size:
    """Identities of each list; images of train and val together by modality, and of test by modality and place."""

    train: int
    val: int
    test: int
    visible: int
    infrared: int
    query: int
    gallery_indoor: int
    gallery_outdoor: int
    test_indoor: int  # test identities seen by the indoor cameras
    test_unseen: int  # pairs of a test identity and an outdoor visible camera that did not see it
    least: int = 2  # images of an identity in a camera


SIZES = {
    "tiny": Size(6, 2, 6, 60, 32, 24, 20, 28, 4, 1),
    # Many identities with few images each: what visible and infrared images share is learned across identities.
    "demo": Size(180, 60, 96, 960, 720, 760, 336, 570, 56, 3, least=1),
    # 56 and 3 are those of the official permutations: 301 single-shot gallery images, 112 of them indoors.
    "full": Size(296, 99, 96, 22_258, 11_909, 3_803, 2_939, 3_836, 56, 3),
}


@dataclass(frozen=True)
class Plan:
    lists: dict[str, list[int]]  # train | val | test: identities
    jobs: list[Job]


def plan_jobs(size: str, seed: int) -> Plan:
    """The identities of each list, and every image of the data set: (file name, shot)."""
    counts, rng = SIZES[size], generator(seed, PLAN)
    total = counts.train + counts.val + counts.test
    labels = rng.permutation(np.sort(rng.choice(np.arange(1, MAX_LABEL + 1), total, replace=False))).tolist()
    ends = counts.train, counts.train + counts.val
    lists = {
        "train": sorted(labels[: ends[0]]),
        "val": sorted(labels[ends[0] : ends[1]]),
        "test": sorted(labels[ends[1] :]),
    }
    training = sorted(lists["train"] + lists["val"])
    indoors = round(len(training) * counts.test_indoor / counts.test)
    seen = _seen(rng, training, indoors, round(2 * len(training) * counts.test_unseen / counts.test))
    least = counts.least
    jobs = _jobs(rng, seed, "train", [pair for pair in seen if pair[1] not in INFRARED], counts.visible, least)
    jobs += _jobs(rng, seed, "train", [pair for pair in seen if pair[1] in INFRARED], counts.infrared, least)
    seen = _seen(rng, lists["test"], counts.test_indoor, counts.test_unseen)
    jobs += _jobs(rng, seed, "test", [pair for pair in seen if pair[1] in INFRARED], counts.query, least)
    for cameras, images in ((INDOOR, counts.gallery_indoor), (OUTDOOR, counts.gallery_outdoor)):
        pairs = [pair for pair in seen if pair[1] in cameras and pair[1] not in INFRARED]
        jobs += _jobs(rng, seed, "test", pairs, images, least)
    return Plan(lists, jobs)


def _seen(rng: np.random.Generator, persons: list[int], indoors: int, unseen: int) -> list[tuple[int, int]]:
    """(person, camera) pairs: `indoors` of the persons in all indoor cameras, all persons in the outdoor ones, except
    `unseen` pairs with one of the two visible outdoor cameras."""
    inside = set(rng.permutation(persons)[:indoors].tolist())
    missed = rng.permutation(persons)[:unseen].tolist()
    absent = {(person, OUTDOOR[int(rng.integers(2))]) for person in missed}
    pairs = [
        (person, camera) for person in persons for camera in ((*INDOOR, *OUTDOOR) if person in inside else OUTDOOR)
    ]
    return [pair for pair in pairs if pair not in absent]


def _jobs(
    rng: np.random.Generator, seed: int, split: str, pairs: list[tuple[int, int]], images: int, least: int
) -> list[Job]:
    jobs = []
    for (person, camera), count in zip(pairs, share(rng, images, len(pairs), least), strict=True):
        modality = "near_infrared" if camera in INFRARED else "visible"
        place, indoor = PLACES.get(camera, camera) - 1, camera in INDOOR
        for index in range(count):
            name = f"cam{camera}/{person:04d}/{index + 1:04d}.jpg"
            shot = Shot(
                seed, split, person, camera - 1, NUM_CAMERAS, index, modality=modality, place=place, indoor=indoor
            )
            jobs.append((name, shot))
    return jobs


def write(folder: Path, size: str, seed: int, processes: int) -> None:
    plan = plan_jobs(size, seed)
    poses = dict(write_images(folder, plan.jobs, processes))
    (folder / "exp").mkdir()
    for name, persons in plan.lists.items():
        (folder / "exp" / f"{name}_id.txt").write_text(",".join(map(str, persons)) + "\n")
    write_poses(folder / "poses.json", sysu_mm01.read(folder), poses)
