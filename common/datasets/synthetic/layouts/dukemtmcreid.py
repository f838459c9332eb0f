"""Synthetic pedestrians in DukeMTMC-reID's layout: three folders of JPEG files, attributes, joints."""

from pathlib import Path

from common.datasets import dukemtmcreid
from common.datasets.poses import write_poses
from common.datasets.synthetic.image_files import Job, write_images
from common.datasets.synthetic.layouts.attribute_file import write_duke_attributes
from common.datasets.synthetic.people.person import identity
from common.datasets.synthetic.render import Shot
from common.datasets.synthetic.splits import Layout, Planned, Size, plan

LAYOUT = Layout(num_cameras=8, max_label=7140)

# ASSUMED: how the full gallery's 17,661 images are divided between the 702 query identities and the 408 others.
SIZES = {
    "tiny": Size(8, 32, 6, 12, 22, 0, 0, 0, 2, 5),
    "demo": Size(200, 1200, 250, 750, 2200, 0, 0, 0, 100, 300),
    "full": Size(702, 16_522, 702, 2_228, 15_009, 0, 0, 0, 408, 2_652),
}

# Quirks of the published attributes: identities without `top`, test identities with several lower colours.
QUIRKS = {"tiny": (1, 1), "demo": (1, 3), "full": (2, 23)}

_FOLDERS = dukemtmcreid.FOLDERS


def plan_jobs(size: str, seed: int) -> list[tuple[Job, Planned]]:
    """Every image of the data set: (file name, shot) and its entry in the plan."""
    jobs = []
    for planned in plan(SIZES[size], seed, LAYOUT):
        name = f"{planned.person:04d}_c{planned.camera + 1}_f{planned.frame:07d}.jpg"
        split = "train" if planned.subset == "train" else "test"
        shot = Shot(seed, split, planned.subject, planned.camera, LAYOUT.num_cameras, planned.index)
        jobs.append(((f"{_FOLDERS[planned.subset]}/{name}", shot), planned))
    return jobs


def write(folder: Path, size: str, seed: int, processes: int) -> None:
    jobs = plan_jobs(size, seed)
    poses = dict(write_images(folder, [job for job, _ in jobs], processes))
    persons = {
        half: {label: identity(seed, label) for label in sorted({p.person for _, p in jobs if p.subset in subsets})}
        for half, subsets in (("train", ("train",)), ("test", ("query", "gallery")))
    }
    write_duke_attributes(folder / "duke_attribute.mat", persons["train"], persons["test"], *QUIRKS[size])
    write_poses(folder / "poses.json", dukemtmcreid.read(folder), poses)
