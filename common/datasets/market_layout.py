"""Market-1501's layout: folders of images whose names begin with identity and camera, as in 0002_c1s1_000451_03.jpg.
DukeMTMC-reID and the new protocol of CUHK03 use it too.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from common.datasets.base import Sample, Search, Subset
from common.errors import UserError

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}

_FILE_NAME = re.compile(r"([-\d]+)_c(\d)")


def read_folders(folder: Path, folders: Mapping[str, str], layout: str, suffixes: tuple[str, ...] = (".jpg",)) -> dict:
    """{subset name: Subset} of `folders`, {subset name: folder name below `folder`}.

    layout: shown by errors. UserError: a folder missing or without images, a file name without identity and camera.
    """
    return {name: Subset(name, tuple(_samples(folder / part, layout, suffixes))) for name, part in folders.items()}


def single_query(subsets: Mapping[str, Subset]) -> tuple[Search, ...]:
    """The only search of these data sets: every query alone against the whole gallery."""
    return (Search("single_query", subsets["query"], subsets["gallery"]),)


def _samples(folder: Path, layout: str, suffixes: tuple[str, ...]) -> list[Sample]:
    if not folder.is_dir():
        raise UserError(f"{folder} is missing. Expected:\n{layout}")
    # Downloads have Thumbs.db among the images, copies made on a Mac have a ._0002_c1... for each image.
    names = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith("._"))
    if not names:
        raise UserError(f"{folder} has no {' or '.join(suffixes)} files. Expected:\n{layout}")
    samples = []
    for name in names:
        match = _FILE_NAME.match(name)
        if not match:
            raise UserError(
                f"{folder / name}: the name does not begin with identity and camera, as in 0002_c1s1_000451_03.jpg. "
                "Remove the file, or rename it."
            )
        samples.append(Sample(folder / name, int(match[1]), int(match[2])))
    return samples
