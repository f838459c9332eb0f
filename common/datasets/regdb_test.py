"""A small RegDB: lists of two trials over four people."""

from pathlib import Path

import pytest

from common.datasets import READERS, open_dataset, regdb
from common.errors import UserError

# People 1, 285 train in trial 1 and test in trial 2; people 3, 40 the other way round. Labels start at 0 in each list.
HALVES = {1: {"train": ("1", "285"), "test": ("3", "40")}, 2: {"train": ("3", "40"), "test": ("1", "285")}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "RegDB"
    (root / "idx").mkdir(parents=True)
    for modality in ("Visible", "Thermal"):
        for person in ("1", "285", "3", "40"):
            (root / modality / person).mkdir(parents=True)
            for image in _images(modality, person):
                (root / image).touch()
            (root / modality / person / "Thumbs.db").touch()
    for trial, halves in HALVES.items():
        for half, persons in halves.items():
            for modality in ("Visible", "Thermal"):
                lines = [f"{image} {label}" for label, p in enumerate(persons) for image in _images(modality, p)]
                (root / "idx" / f"{half}_{modality.lower()}_{trial}.txt").write_text("\n".join(lines) + "\n\n")
    return root


def _images(modality: str, person: str) -> list[str]:
    """Two visible and one thermal image of each person."""
    letter = modality[0].lower()
    numbers = ("05528", "05529")[: 2 if modality == "Visible" else 1]
    return [f"{modality}/{person}/male_back_{letter}_{number}_{person}.bmp" for number in numbers]


def test_reads_a_trials_lists(folder):
    dataset = open_dataset("regdb", folder.parent)
    assert dataset.train.persons.tolist() == [0, 0, 1, 1, 0, 1]  # visible, then thermal
    assert dataset.train.cameras.tolist() == [1, 1, 1, 1, 2, 2]
    assert [sample.modality for sample in dataset.train.samples] == ["visible"] * 4 + ["thermal"] * 2
    assert {sample.path.parent.name for sample in dataset.train.samples} == {"1", "285"}
    assert {sample.path.parent.name for sample in dataset.subsets["thermal"].samples} == {"3", "40"}
    assert dataset.notes == ("trial 1 of 10",)


def test_searches_both_ways(folder):
    searches = regdb.read(folder).searches
    assert [(s.name, s.protocol, len(s.query), len(s.gallery)) for s in searches] == [
        ("visible_to_thermal", "regdb", 4, 2),
        ("thermal_to_visible", "regdb", 2, 4),
    ]
    assert searches[0].query.persons.tolist() == [0, 0, 1, 1]


def test_each_trial_is_a_name_of_its_own(folder):
    second = open_dataset("regdb-2", folder.parent)
    assert {sample.path.parent.name for sample in second.train.samples} == {"3", "40"}
    for modality in ("visible", "thermal"):
        assert {sample.path.parent.name for sample in second.subsets[modality].samples} == {"1", "285"}
    assert second.name == "regdb-2"
    assert second.fingerprint != regdb.read(folder).fingerprint
    assert {name for name in READERS if READERS[name] is regdb} == {"regdb", *(f"regdb-{t}" for t in range(2, 11))}
    with pytest.raises(UserError, match=r"train_visible_10\.txt is missing"):
        open_dataset("regdb-10", folder.parent)


def test_an_image_that_is_not_on_disk_is_named(folder):
    (folder / "Thermal/40/male_back_t_05528_40.bmp").unlink()
    with pytest.raises(UserError, match=r"test_thermal_1\.txt lists 1 images(.|\n)*male_back_t_05528_40\.bmp"):
        regdb.read(folder)
