"""DukeMTMC-reID's names in Market-1501's folders."""

from pathlib import Path

import pytest

from common.datasets import dukemtmcreid, find_folder, open_dataset
from common.errors import UserError

FILES = {
    "bounding_box_train": ["0005_c5_f0051341.jpg", "0001_c2_f0046182.jpg", "0001_c8_f0046302.jpg"],
    "query": ["0002_c1_f0044158.jpg"],
    "bounding_box_test": ["0002_c3_f0044200.jpg", "7139_c2_f0058060.jpg"],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "DukeMTMC-reID"
    for directory, names in FILES.items():
        (root / directory).mkdir(parents=True)
        for name in [*names, "Thumbs.db", "._" + names[0]]:
            (root / directory / name).touch()
    (root / "LICENSE_DukeMTMC-reID.txt").write_text("as in the download")
    return root


def test_reads_identity_and_camera_from_names(folder):
    dataset = open_dataset("dukemtmcreid", folder.parent)
    assert dataset.name == "dukemtmcreid"
    assert [(s.path.name, s.person, s.camera) for s in dataset.train.samples] == [
        ("0001_c2_f0046182.jpg", 1, 2),
        ("0001_c8_f0046302.jpg", 1, 8),
        ("0005_c5_f0051341.jpg", 5, 5),
    ]
    assert dataset.query.persons.tolist() == [2]
    assert dataset.gallery.persons.tolist() == [2, 7139]
    assert [search.name for search in dataset.searches] == ["single_query"]


def test_only_its_own_name_tells_its_folder_from_market1501(folder):
    assert find_folder("dukemtmcreid", folder) == folder
    other = folder.rename(folder.parent / "Market-1501")
    with pytest.raises(UserError, match="dukemtmcreid was not found"):
        find_folder("dukemtmcreid", other)


def test_published_counts():
    assert dukemtmcreid.OFFICIAL_COUNTS["dukemtmcreid"]["gallery"] == (17_661, 1_110, 8)
