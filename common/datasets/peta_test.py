"""A small PETA: ten folders, the split and the persons computed again, attributes from every form of line."""

from pathlib import Path

import numpy as np
import pytest

from common.datasets import open_dataset, peta
from common.datasets.attributes import read_peta_attributes
from common.datasets.peta_attributes import PRESENCE, TASKS
from common.errors import UserError

# Identity 1 is another person in each folder. CUHK's Label.txt names files, and its images are people of their own.
IMAGES = {
    "3DPeS": ["100_3_FRAME_26_RGB.bmp", "100_4_FRAME_1_RGB.bmp", "1_1_FRAME_2_RGB.bmp"],
    "CAVIAR4REID": ["0001_0001_a.jpg", "0001_0002_a.jpg"],
    "CUHK": ["0001.png", "0002.png"],
    "GRID": ["0001_1_25004_107_32_106_221.jpeg", "0001_2.jpeg"],
    "MIT": ["0001.jpg"],
    "PRID": ["1_a.png", "1_b.png", "1_c.png"],
    "SARC3D": ["1_back.bmp", "1_front.bmp"],
    "TownCentre": ["1_100.jpg", "1_101.jpg"],
    "VIPeR": ["001_45.bmp", "001_90.bmp", "806_0.bmp", "806_90.bmp"],
    "i-LID": ["1_0001001.jpg"],
}
LABELS = {
    "3DPeS": "100 upperBodyGrey upperBodyBlack personalMale hairShort carryingNothing accessoryNothing\n\n"
    "1 personalFemale personalMale hairLong footwearBlack carryingOther\n999 personalMale\n",
    "CUHK": "0001.png personalFemale personalLess45 upperBodyNoSleeve upperBodyTshirt lowerBodyShortSkirt "
    "accessoryHat carryingMessengerBag footwearSandals footwearRed\n",
    "VIPeR": "806 carryingBackpack footwearBoots lowerBodyBlue\n806 personalLarger60 upperBodyJacket upperBodyTshirt\n",
}
# (folder, identity) in sorted order is the person's number: MIT's 1 is 6 and i-LID's 1 is 12.
PERSONS = [
    ("3DPeS", 1), ("3DPeS", 100), ("CAVIAR4REID", 1), ("CUHK", 1), ("CUHK", 2), ("GRID", 1), ("MIT", 1), ("PRID", 1),
    ("SARC3D", 1), ("TownCentre", 1), ("VIPeR", 1), ("VIPeR", 806), ("i-LID", 1),
]  # fmt: skip
ALONE = {0, 3, 4, 6, 12}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "PETA dataset"
    for source, names in IMAGES.items():
        archive = root / source / "archive"
        archive.mkdir(parents=True)
        for name in [*names, "Thumbs.db", "._" + names[0]]:
            (archive / name).touch()
        (archive / "Label.txt").write_text(LABELS.get(source, ""))
    (root / "README").write_text("as in the download")
    return root


def test_persons_are_numbered_over_folders_and_identities(folder):
    everything = open_dataset("peta", folder.parent).subsets["all"]
    found = {}
    for sample in everything.samples:
        found.setdefault(sample.person, set()).add(sample.path.parent.parent.name)
    assert {person: {source} for person, (source, _) in enumerate(PERSONS)} == found
    assert len(everything) == 22
    assert everything.cameras.tolist() == list(range(22))  # every image its own camera
    viper = [sample.path.name for sample in everything.samples if sample.person == 11]
    assert viper == ["806_0.bmp", "806_90.bmp"]


def test_the_split_is_the_documented_one(folder):
    dataset = peta.read(folder)
    generator = np.random.default_rng(0)
    training = set(generator.permutation(13)[:6].tolist())
    assert set(dataset.train.persons.tolist()) == training
    tested = sorted(set(range(13)) - training)
    assert set(dataset.query.persons.tolist()) == set(tested) - ALONE
    assert len(dataset.query) == len(set(tested) - ALONE)
    assert set(dataset.gallery.persons.tolist()) == set(tested)
    images = {person: [s for s in dataset.subsets["all"].samples if s.person == person] for person in tested}
    expected = [images[p][generator.integers(len(images[p]))] for p in tested if p not in ALONE]
    assert list(dataset.query.samples) == expected
    assert sum(len(dataset.subsets[part]) for part in ("train", "query", "gallery")) == 22
    assert any(f"{len(ALONE & set(tested))} test persons with a single image" in note for note in dataset.notes)


def test_an_image_without_identity_is_named(folder):
    (folder / "MIT" / "archive" / "holiday.jpg").touch()
    with pytest.raises(UserError, match=r"holiday\.jpg"):
        peta.read(folder)


def test_attributes_are_the_13_tasks_of_table_1(folder):
    table = read_peta_attributes(folder)
    assert table.index.tolist() == list(range(13))
    assert len(table.columns) == len(TASKS) + len(PRESENCE) == 13
    assert table.loc[1].dropna().to_dict() == {
        "gender": "male",
        "hair": "short",
        "upper_colour": "black",  # of black and gray the one that COLOURS has first
        "hat": "no",
        "backpack": "no",
        "bag": "no",
    }
    assert table.loc[3].dropna().to_dict() == {
        "gender": "female",
        "age": "31-45",
        "sleeves": "short",
        "upper_length": "short",
        "lower_type": "dress",
        "shoe_colour": "red",
        "hat": "yes",
        "backpack": "no",
        "bag": "yes",
        "boots": "no",
    }


def test_contradictory_and_absent_labels_are_missing(folder):
    table = read_peta_attributes(folder)
    # Both genders; footwearBlack says nothing on boots, and no accessory is mentioned.
    assert table.loc[0].dropna().to_dict() == {"hair": "long", "shoe_colour": "black", "backpack": "no", "bag": "no"}
    assert table.loc[5].isna().all()  # no line


def test_lines_of_one_identity_are_merged(folder):
    row = read_peta_attributes(folder).loc[11].dropna().to_dict()
    assert row == {
        "age": "over 60",
        "upper_length": "long",  # a jacket over a T-shirt
        "lower_colour": "blue",
        "backpack": "yes",
        "bag": "no",
        "boots": "yes",
    }


def test_a_line_without_identity_is_named(folder):
    (folder / "GRID" / "archive" / "Label.txt").write_text("1 personalMale\npersonalMale 1\n")
    with pytest.raises(UserError, match=r"Label\.txt, line 2"):
        read_peta_attributes(folder)
