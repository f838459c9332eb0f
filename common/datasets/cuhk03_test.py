"""The CUHK03-NP folders, both kinds of boxes."""

from pathlib import Path

import pytest

from common.datasets import cuhk03, find_folder, open_dataset
from common.errors import UserError

FILES = {
    "bounding_box_train": ["0003_c2_7.png", "0003_c1_1.png"],
    "query": ["0001_c1_2.png"],
    "bounding_box_test": ["0001_c2_6.png", "0004_c1_1.png"],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Detected boxes as png; labelled ones as jpg, one more to train on."""
    root = tmp_path / "CUHK03-NP"
    for boxes, suffix, extra in (("detected", ".png", []), ("labeled", ".jpg", ["0003_c1_2.png"])):
        for directory, names in FILES.items():
            (root / boxes / directory).mkdir(parents=True)
            more = extra if directory == "bounding_box_train" else []
            for name in [*names, *more, "._" + names[0]]:
                (root / boxes / directory / name).with_suffix(suffix).touch()
            (root / boxes / directory / "Thumbs.db").touch()
    return root


def test_detected_and_labeled_are_two_data_sets(folder):
    detected = open_dataset("cuhk03", folder.parent)
    labeled = open_dataset("cuhk03-labeled", folder.parent)
    assert [sample.path.name for sample in detected.train.samples] == ["0003_c1_1.png", "0003_c2_7.png"]
    assert labeled.train.cameras.tolist() == [1, 1, 2]
    assert {sample.path.suffix for sample in labeled.gallery.samples} == {".jpg"}
    assert detected.gallery.persons.tolist() == [1, 4]
    assert (detected.name, labeled.name) == ("cuhk03", "cuhk03-labeled")
    assert (detected.notes, labeled.notes) == (("detected boxes",), ("labeled boxes",))


@pytest.mark.parametrize("place", [".", "cuhk03_release"])
def test_the_raw_matlab_file_has_to_be_converted(tmp_path, place):
    folder = tmp_path / "cuhk03"
    (folder / place).mkdir(parents=True)
    (folder / place / "cuhk-03.mat").touch()
    with pytest.raises(
        UserError, match=r"cuhk-03\.mat is the raw data set\. Convert it to the folders(.|\n)*detected/"
    ):
        cuhk03.read(find_folder("cuhk03", tmp_path))


def test_one_kind_of_boxes_is_enough_for_its_own_name(folder):
    (folder / "labeled").rename(folder.parent / "elsewhere")
    assert len(cuhk03.read(folder).train) == 2
    with pytest.raises(UserError, match=r"labeled is missing"):
        cuhk03.read(folder, "cuhk03-labeled")
