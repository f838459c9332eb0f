"""`python -m common.datasets check` over several data sets."""

from pathlib import Path

import pytest

from common.datasets import MODULES, csv_file, open_dataset
from common.datasets import __main__ as cli
from common.datasets.base import DataSet, Sample, Subset
from common.errors import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "csv").mkdir()
    lines = ["path,person,camera,split", *(f"a.jpg,1,1,{split}" for split in csv_file.SPLITS)]
    (tmp_path / "csv" / "dataset.csv").write_text("\n".join(lines))
    (tmp_path / "csv" / "a.jpg").touch()
    return tmp_path


def _write_cuhk03(root: Path, *boxes: str) -> None:
    for kind in boxes:
        for directory in ("bounding_box_train", "query", "bounding_box_test"):
            (root / "cuhk03" / kind / directory).mkdir(parents=True)
            (root / "cuhk03" / kind / directory / "0001_c1_1.png").touch()


def test_check_of_all_needs_one_data_set_and_shows_each_absent_layout_once(root, capsys):
    assert cli.main(["check", "--data-root", str(root)]) == 0
    printed = capsys.readouterr()
    assert "csv (real, fingerprint" in printed.out
    assert "There are no published counts" in printed.out
    for module in MODULES:
        assert printed.err.count(module.LAYOUT) == (0 if module is csv_file else 1), module.NAME


def test_check_of_all_with_none_or_one_unreadable_is_2(root, tmp_path, capsys):
    assert cli.main(["check", "--data-root", str(tmp_path / "elsewhere")]) == 2
    (root / "msmt17").mkdir()
    assert cli.main(["check", "--data-root", str(root)]) == 2
    assert "csv (real, fingerprint" in capsys.readouterr().out  # the others are still listed


def test_cuhk03_is_listed_with_both_kinds_of_boxes(root, capsys):
    _write_cuhk03(root, "detected", "labeled")
    assert cli.main(["check", "--data-root", str(root)]) == 0
    printed = capsys.readouterr().out
    assert "cuhk03 (real" in printed and "cuhk03-labeled (real" in printed
    assert "train: 1 images, published 7,365" in printed and "train: 1 images, published 7,368" in printed


def test_check_by_name_of_an_absent_or_unreadable_set_is_2(root, capsys):
    assert cli.main(["check", "csv", "--data-root", str(root)]) == 0
    assert cli.main(["check", "regdb-3", "--data-root", str(root)]) == 2
    assert "idx/" in capsys.readouterr().err
    (root / "csv" / "a.jpg").unlink()
    assert cli.main(["check", "csv", "--data-root", str(root)]) == 2


def test_counts_that_were_not_published_are_not_compared(tmp_path):
    samples = (Sample(tmp_path / "a.jpg", 1, 0), Sample(tmp_path / "b.jpg", 2, 0))
    dataset = DataSet("x", tmp_path, {"train": Subset("train", samples)}, ())
    assert cli.differences(dataset, {"train": (2, None, None)}) == ["All counts are as published."]
    assert cli.differences(dataset, {"train": (None, 3, None), "val": (None, None, None)}) == [
        "Differences from the published counts:",
        "  train: 2 identities, published 3",
        "  val: missing",
    ]


def test_without_a_synthetic_version_a_data_root_is_needed(tmp_path, monkeypatch):
    monkeypatch.setenv("REID_DATA", str(tmp_path))
    with pytest.raises(UserError, match=r"csv has no synthetic version and needs a data root(.|\n)*dataset\.csv"):
        open_dataset("csv")
    assert not list(tmp_path.iterdir())
