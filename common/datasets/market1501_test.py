"""The reader on a small folder with the quirks of the download, and how data sets are found."""

import shutil
from pathlib import Path

import pytest

from common.datasets import __main__ as cli
from common.datasets import find_folder, market1501, open_dataset
from common.errors import UserError

FILES = {
    "bounding_box_train": ["0007_c3s3_077419_03.jpg", "0002_c1s1_000451_03.jpg", "0002_c6s4_000001_01.jpg"],
    "query": ["0001_c1s1_001051_00.jpg", "0003_c2s1_000001_00.jpg"],
    "bounding_box_test": ["-1_c1s1_000401_03.jpg", "0000_c4s1_000401_01.jpg", "0001_c2s1_000301_00.jpg"],
    "gt_bbox": ["0001_c1s1_001051_00.jpg"],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small Market-1501: Thumbs.db, files of a Mac and others are among the images."""
    root = tmp_path / "Market-1501-v15.09.15"
    for directory, names in FILES.items():
        (root / directory).mkdir(parents=True)
        for name in [*names, "Thumbs.db", "._0002_c1s1_000451_03.jpg", "notes.txt"]:
            (root / directory / name).write_bytes(name.encode())
    (root / "readme.txt").write_text("as in the download")
    return root


def test_samples_are_sorted_by_name_with_the_labels_of_the_files(folder):
    dataset = market1501.read(folder)
    assert [sample.path.name for sample in dataset.train.samples] == sorted(FILES["bounding_box_train"])
    assert dataset.train.persons.tolist() == [2, 2, 7]
    assert dataset.train.labels.tolist() == [0, 0, 1]
    assert dataset.train.cameras.tolist() == [1, 6, 3]
    assert sorted(dataset.gallery.persons.tolist()) == [-1, 0, 1]
    assert dataset.gallery.num_identities == 2  # junk is nobody, label 0 counts as one
    assert len(dataset.subsets["multi_query"]) == 1
    assert dataset.kind == "real"


def test_annotators_boxes_are_optional(folder):
    shutil.rmtree(folder / "gt_bbox")
    assert set(market1501.read(folder).subsets) == {"train", "query", "gallery"}


def test_fingerprint_changes_with_a_file(folder):
    before = market1501.read(folder).fingerprint
    assert market1501.read(folder).fingerprint == before
    (folder / "query" / "0001_c1s1_001051_00.jpg").write_bytes(b"other bytes of another length")
    assert market1501.read(folder).fingerprint != before


def test_fingerprint_changes_with_the_mark_of_synthetic_images(folder):
    real = market1501.read(folder).fingerprint
    (folder / "synthetic.json").write_text('{"size": "demo", "generator_version": 1}')
    first = market1501.read(folder).fingerprint
    (folder / "synthetic.json").write_text('{"size": "demo", "generator_version": 2}')
    assert len({real, first, market1501.read(folder).fingerprint}) == 3


def test_a_file_name_without_identity_is_named(folder):
    (folder / "query" / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match=r"holiday\.jpg"):
        market1501.read(folder)


@pytest.mark.parametrize("directory", ["bounding_box_train", "query", "bounding_box_test"])
def test_missing_and_empty_folders_show_the_layout(folder, directory):
    shutil.rmtree(folder / directory)
    with pytest.raises(UserError, match=rf"{directory} is missing(.|\n)*bounding_box_test/"):
        market1501.read(folder)
    (folder / directory).mkdir()
    with pytest.raises(UserError, match=rf"{directory} has no \.jpg"):
        market1501.read(folder)


def test_is_found_by_the_downloads_name_by_a_plain_name_and_as_the_root_itself(folder):
    assert open_dataset("market1501", folder.parent).folder == folder
    assert find_folder("market1501", folder) == folder
    plain = folder.rename(folder.parent / "market1501")
    assert open_dataset("market1501", plain.parent).folder == plain


def test_a_root_without_the_data_set_says_where_it_looked_and_generates_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("REID_DATA", str(tmp_path / "data"))
    with pytest.raises(UserError, match=r"Market-1501-v15\.09\.15(.|\n)*bounding_box_train/"):
        open_dataset("market1501", tmp_path)
    assert not (tmp_path / "data").exists()


def test_an_unknown_name_shows_the_nearest():
    with pytest.raises(UserError, match=r"did you mean 'market1501'\?.*Known: market1501"):
        open_dataset("market-1501")


def test_without_a_root_the_synthetic_set_is_generated_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "real"))  # commands read it, `open_dataset` does not
    monkeypatch.setenv("REID_DATA", str(tmp_path))
    dataset = open_dataset("market1501", size="tiny")
    assert dataset.folder == tmp_path / "synthetic" / "tiny" / "market1501"
    assert dataset.kind == "tiny"
    assert "generating the synthetic market1501" in capsys.readouterr().err
    monkeypatch.setattr("common.datasets.synthetic.make_dataset", lambda *_, **__: pytest.fail("it exists already"))
    assert open_dataset("market1501", size="tiny").fingerprint == dataset.fingerprint


def test_a_synthetic_set_of_another_generator_version_is_generated_again(tmp_path, monkeypatch):
    monkeypatch.setenv("REID_DATA", str(tmp_path))
    folder = open_dataset("market1501", size="tiny").folder
    mark = folder / "synthetic.json"
    mark.write_text(mark.read_text().replace('"generator_version": ', '"generator_version": 100'))
    (folder / "query").rename(folder / "old")
    assert len(open_dataset("market1501", size="tiny").query) > 0
    assert not (folder / "old").exists()


def test_check_lists_counts_and_every_difference(folder, capsys):
    assert cli.main(["check", "market1501", "--data-root", str(folder.parent)]) == 0
    printed = capsys.readouterr().out
    assert str(folder) in printed
    assert "train: 3 images, published 12,936" in printed
    assert "train: 2 identities, published 751" in printed
    assert "query: 2 cameras, published 6" in printed


def test_check_of_a_missing_set_shows_the_layout_and_exits_with_2(tmp_path, monkeypatch, capsys):
    assert cli.main(["check", "market1501", "--data-root", str(tmp_path)]) == 2
    assert "bounding_box_train/" in capsys.readouterr().err
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "elsewhere"))
    assert cli.main(["check", "market1501"]) == 2
    assert str(tmp_path / "elsewhere") in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        cli.main(["check", "nothing-like-it"])


def test_make_then_check(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("DATA_ROOT", raising=False)
    monkeypatch.setenv("REID_DATA", str(tmp_path))
    assert cli.main(["check"]) == 2
    assert cli.main(["make", "--size", "tiny", "--out", str(tmp_path / "synthetic" / "demo" / "market1501")]) == 0
    assert cli.main(["check"]) == 0
    assert "by design" in capsys.readouterr().out
    assert cli.main(["sheet", "--out", str(tmp_path / "sheet.png")]) == 0
    assert (tmp_path / "sheet.png").stat().st_size > 10_000
