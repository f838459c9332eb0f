"""PETA (Deng et al., "Pedestrian Attribute Recognition at Far Distance", ACM Multimedia 2014): 19,000 images gathered
from ten data sets, with attributes (peta_attributes.py).

Identities are the leading digits of file names (0806_... is 806) and are unique only within one of the ten folders.
Persons are therefore numbered from 0 over the sorted (folder, identity) pairs that have images. In CUHK's folder the
digits number the images, so that each of its images is a person of its own.

PETA has no camera labels: every image is its own camera, its position in `all`.

It has no published re-ID split either. Ours, ASSUMED, always the same:
1. `numpy.random.default_rng(SPLIT_SEED)` makes one `permutation` of the persons; its first half (rounded down) trains.
2. In order of their numbers, each of the other persons with two or more images gives one of them as a query: position
   `integers(number of images)`, from the same generator, in the sorted file names; the rest go to the gallery.
3. The only image of a test person goes to the gallery, where it is no query's match: a distractor.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from common.datasets.base import DataSet, Sample, Subset, data_kind
from common.datasets.market_layout import single_query
from common.errors import UserError

NAME = "peta"
FOLDER_NAMES = ("peta", "PETA", "PETA dataset")
LANDMARKS = ("3DPeS", "CAVIAR4REID", "TownCentre")

SOURCES = ("3DPeS", "CAVIAR4REID", "CUHK", "GRID", "MIT", "PRID", "SARC3D", "TownCentre", "VIPeR", "i-LID")

LAYOUT = f"""\
peta/                     (or PETA/, PETA dataset/)
  3DPeS/archive/          100_3_FRAME_26_RGB.bmp: the leading digits are the identity; bmp, png or jpg
    Label.txt             lines `100 upperBodyBlack hairShort ...`
  ...                     and so in each of {", ".join(SOURCES[1:5])},
                          {", ".join(SOURCES[5:])}"""

# (images, identities, cameras) of the whole data set. Cameras are unknown, and the split is our own.
OFFICIAL_COUNTS = {NAME: {"all": (19_000, 8_705, None)}}

SPLIT_SEED = 0

_SUFFIXES = (".bmp", ".png", ".jpg", ".jpeg")
_NUMBER = re.compile(r"\d+")


def read(folder: Path, name: str = NAME) -> DataSet:
    """The data set in `folder`: subsets `train`, `query`, `gallery`, and `all` images sorted by person and file name.

    UserError: a folder or Label.txt missing, no images in it, an image without an identity.
    """
    images = read_images(folder)
    everything, by_person = [], []
    for person, paths in enumerate(images.values()):
        by_person.append([Sample(path, person, len(everything) + i) for i, path in enumerate(paths)])
        everything += by_person[-1]
    generator = np.random.default_rng(SPLIT_SEED)
    training = set(generator.permutation(len(by_person))[: len(by_person) // 2].tolist())
    parts: dict[str, list[Sample]] = {"train": [], "query": [], "gallery": []}
    alone = 0
    for person, samples in enumerate(by_person):
        if person in training:
            parts["train"] += samples
            continue
        query_position = int(generator.integers(len(samples))) if len(samples) > 1 else None
        alone += query_position is None
        for position, sample in enumerate(samples):
            parts["query" if position == query_position else "gallery"].append(sample)
    if not parts["train"] or not parts["query"]:
        raise UserError(f"{folder} holds {len(by_person)} persons, too few to split. Expected:\n{LAYOUT}")
    subsets = {part: Subset(part, tuple(samples)) for part, samples in parts.items()}
    subsets["all"] = Subset("all", tuple(everything))
    notes = (
        f"no published split: ours, numpy default_rng({SPLIT_SEED}), {len(training):,} persons to train, "
        f"{len(by_person) - len(training):,} to test",
        f"query: one random image of each test person with two or more ({len(parts['query']):,} persons)",
        f"gallery: the rest, among them {alone:,} test persons with a single image, who are distractors",
        "cameras: no labels, every image its own camera",
    )
    return DataSet(name, folder, subsets, single_query(subsets), data_kind(folder), notes)


def read_images(folder: Path) -> dict[tuple[str, int], list[Path]]:
    """{(name of the folder, identity): sorted images}, sorted; a person's number is the position here."""
    images: dict[tuple[str, int], list[Path]] = {}
    for source in SOURCES:
        archive = folder / source / "archive"
        if not archive.is_dir():
            raise UserError(f"{archive} is missing. Expected:\n{LAYOUT}")
        if not (archive / "Label.txt").is_file():
            raise UserError(f"{archive / 'Label.txt'} is missing. Expected:\n{LAYOUT}")
        paths = sorted(p for p in archive.iterdir() if p.suffix.lower() in _SUFFIXES and not p.name.startswith("._"))
        if not paths:
            raise UserError(f"{archive} has no {', '.join(_SUFFIXES)} files. Expected:\n{LAYOUT}")
        for path in paths:
            identity = leading_number(path.name)
            if identity is None:
                raise UserError(
                    f"{path}: the name does not begin with an identity's digits. Remove or rename the file."
                )
            images.setdefault((source, identity), []).append(path)
    return dict(sorted(images.items()))


def person_numbers(images: Mapping[tuple[str, int], list[Path]]) -> dict[tuple[str, int], int]:
    """{(name of the folder, identity): person}."""
    return {key: person for person, key in enumerate(images)}


def leading_number(text: str) -> int | None:
    match = _NUMBER.match(text)
    return int(match[0]) if match else None
