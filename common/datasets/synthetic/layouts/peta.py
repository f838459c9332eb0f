"""Synthetic pedestrians in PETA's layout: ten folders, each with an archive, a Label.txt and identities from 1 on.

Every folder has two cameras of its own, as PETA's ten sources were recorded in ten places.
"""

from dataclasses import dataclass
from pathlib import Path

from common.datasets.synthetic.image_files import Job, write_images
from common.datasets.synthetic.layouts.peta_labels import peta_labels
from common.datasets.synthetic.people.person import identity
from common.datasets.synthetic.render import Shot
from common.datasets.synthetic.seeds import PLAN, generator
from common.datasets.synthetic.splits import share

# (images, identities) of each folder. The numbers of images are PETA's. Identities: in CUHK and MIT every image is a
# person; the others are as the pages of those data sets count them, 8,705 in all.
FULL = {
    "3DPeS": (1_012, 192), "CAVIAR4REID": (1_220, 72), "CUHK": (4_563, 4_563), "GRID": (1_275, 1_025),
    "MIT": (888, 888), "PRID": (1_134, 934), "SARC3D": (200, 50), "TownCentre": (6_967, 230),
    "VIPeR": (1_264, 632), "i-LID": (477, 119),
}  # fmt: skip
_DEMO = {
    "3DPeS": (200, 40), "CAVIAR4REID": (240, 30), "CUHK": (260, 260), "GRID": (180, 100), "MIT": (140, 140),
    "PRID": (180, 90), "SARC3D": (80, 20), "TownCentre": (640, 60), "VIPeR": (200, 100), "i-LID": (180, 45),
}  # fmt: skip
_TINY = {source: (2, 2) if source in ("CUHK", "MIT") else (5, 2) for source in FULL}
SIZES = {"tiny": _TINY, "demo": _DEMO, "full": FULL}

CAMERAS_PER_SOURCE = 2
NAMED_BY_FILE = ("CUHK", "MIT")  # sources whose Label.txt names files, not identities


@dataclass(frozen=True)
class Plan:
    jobs: list[Job]
    lines: dict[str, list[tuple[str, int]]]  # source: first token and person of each line of its Label.txt


def plan_jobs(size: str, seed: int) -> Plan:
    """Every image of the data set: (file name, shot), and the lines of the label files."""
    rng = generator(seed, PLAN)
    jobs, lines, subject = [], {}, 0
    for position, (source, (images, identities)) in enumerate(SIZES[size].items()):
        lines[source] = []
        counts = share(rng, images, identities, min(2, images // identities))
        for number, count in enumerate(counts, start=1):
            subject += 1  # another person in each folder
            for index in range(count):
                camera = CAMERAS_PER_SOURCE * position + int(rng.integers(CAMERAS_PER_SOURCE))
                name = f"{number:04d}.png" if source in NAMED_BY_FILE else f"{number:04d}_{index + 1}.png"
                shot = Shot(seed, "train", subject, camera, CAMERAS_PER_SOURCE * len(FULL), index)
                jobs.append((f"{source}/archive/{name}", shot))
            lines[source].append((f"{number:04d}.png" if source in NAMED_BY_FILE else str(number), subject))
    return Plan(jobs, lines)


def write(folder: Path, size: str, seed: int, processes: int) -> None:
    plan = plan_jobs(size, seed)
    for _ in write_images(folder, plan.jobs, processes):
        pass
    for source, lines in plan.lines.items():
        texts = [" ".join([token, *peta_labels(identity(seed, subject))]) + "\n" for token, subject in lines]
        (folder / source / "archive" / "Label.txt").write_text("".join(texts))
