"""What every data set consists of: samples in named subsets.

A reader turns a folder in a data set's own layout into a `DataSet`. No other code knows about file names.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from common.errors import UserError
from common.metrics import JUNK

SYNTHETIC_MARK = "synthetic.json"  # in a folder of synthetic images: their layout, size, seed and generator version

HOLD_OUT_SEED = 0  # the same identities are held out of every run


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of one person. `person` and `camera` are the data set's own labels, not positions in a list."""

    path: Path
    person: int
    camera: int
    modality: str = "visible"


@dataclass(frozen=True)
class Subset:
    """A named list of samples in a fixed order (sorted file names unless the data set gives a list)."""

    name: str
    samples: tuple[Sample, ...]

    def __len__(self) -> int:
        return len(self.samples)

    @cached_property
    def persons(self) -> np.ndarray:
        """(n,) int64, the data set's own identity labels."""
        return np.array([sample.person for sample in self.samples], dtype=np.int64)

    @cached_property
    def cameras(self) -> np.ndarray:
        """(n,) int64."""
        return np.array([sample.camera for sample in self.samples], dtype=np.int64)

    @cached_property
    def labels(self) -> np.ndarray:
        """(n,) int64 in 0..num_identities-1: the class index of each sample, in the order of sorted persons."""
        return np.unique(self.persons, return_inverse=True)[1].astype(np.int64)

    @property
    def num_identities(self) -> int:
        """Distinct persons, junk not counted."""
        return len(set(self.persons.tolist()) - {JUNK})


@dataclass(frozen=True)
class Search:
    """One retrieval task of a data set: queries, gallery and protocol.

    name: in tables and records, as `single_query`, `indoor`, `thermal_to_visible`; protocol: of PROTOCOLS.
    trials: for each trial (n,) int64, the positions of its images in `gallery`; empty: one trial, the whole gallery.
    """

    name: str
    query: Subset
    gallery: Subset
    protocol: str = "market1501"
    trials: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True)
class DataSet:
    """A data set that was found on disk and read.

    subsets: `train`, and those of the test split under the data set's own names; searches: its retrieval tasks, the
    one that papers report first (none in a data set for pose estimation).
    kind: `real`, or the size of the synthetic stand-in (`demo`, `full`).
    notes: what a reader of the scores must know, such as the version of the data; goes into records.
    """

    name: str
    folder: Path
    subsets: Mapping[str, Subset]
    searches: tuple[Search, ...]
    kind: str = "real"
    notes: tuple[str, ...] = ()

    @property
    def train(self) -> Subset:
        return self.subsets["train"]

    @property
    def query(self) -> Subset:
        """Of the first search."""
        return self.searches[0].query

    @property
    def gallery(self) -> Subset:
        """Of the first search; if it has trials, the images that they choose from."""
        return self.searches[0].gallery

    def hold_out(self, num_identities: int) -> tuple[Subset, Search | None]:
        """The training images without those of `num_identities` random identities, and a search among the latter, to
        choose settings on. All training images and None for 0; the same identities at every call.

        As in Market-1501, the queries are one image of each identity in each camera, and the gallery is the rest.
        UserError: no identity would be left to train on.
        """
        subset = self.train
        if num_identities == 0:
            return subset, None
        persons = np.unique(subset.persons)
        if num_identities >= len(persons):
            raise UserError(f"{num_identities} identities cannot be held out of a training set of {len(persons)}")
        held_out = np.random.default_rng(HOLD_OUT_SEED).choice(persons, num_identities, replace=False)
        mask = np.isin(subset.persons, held_out)
        keys = np.stack([subset.persons, subset.cameras], axis=1)
        first_of_camera = np.zeros(len(subset), bool)
        first_of_camera[np.unique(keys, axis=0, return_index=True)[1]] = True
        parts = {
            "train_split": ~mask,
            "validation_query": mask & first_of_camera,
            "validation_gallery": mask & ~first_of_camera,
        }
        train, query, gallery = (
            Subset(name, tuple(subset.samples[position] for position in np.flatnonzero(chosen)))
            for name, chosen in parts.items()
        )
        return train, Search("validation", query, gallery)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change with the data: a hash of every sample's subset, file name, file size, person,
        camera and modality, of the trials, and of synthetic images' mark."""
        digest = hashlib.sha256()
        digest.update(json.dumps(synthetic_mark(self.folder), sort_keys=True).encode())
        for subset in self.subsets.values():
            for sample in subset.samples:
                name = Path(os.path.relpath(sample.path, self.folder)).as_posix()
                size = sample.path.stat().st_size
                about = f"{subset.name}|{name}|{size}|{sample.person}|{sample.camera}|{sample.modality}"
                digest.update(f"{about}\n".encode())
        for search in self.searches:
            for trial in search.trials:
                digest.update(f"{search.name}|{trial.tolist()}\n".encode())
        return digest.hexdigest()[:16]

    @cached_property
    def counts(self) -> dict[str, dict[str, int]]:
        """For each subset, the numbers of images, identities and cameras that were read."""
        return {
            name: {
                "images": len(subset),
                "identities": subset.num_identities,
                "cameras": len(set(subset.cameras.tolist())),
            }
            for name, subset in self.subsets.items()
        }


def synthetic_mark(folder: Path) -> dict:
    """What the mark of a folder of synthetic images says; nothing for real ones."""
    mark = folder / SYNTHETIC_MARK
    return json.loads(mark.read_text()) if mark.is_file() else {}


def data_kind(folder: Path) -> str:
    """`real`, or the size named in the folder's synthetic mark."""
    return synthetic_mark(folder).get("size", "real")
