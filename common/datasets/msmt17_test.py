"""Both versions of a small MSMT17, with the quirks of the download."""

from pathlib import Path

import pytest

from common.datasets import msmt17, open_dataset
from common.errors import UserError

# Train and val share labels; test labels start at 0 again.
LISTS = {
    "list_train.txt": ["0000/0000_001_05_0303morning_0006_2.jpg 0", "0001/0001_003_14_0303noon_0101_0_ex.jpg 1"],
    "list_val.txt": ["0000/0000_002_12_0303morning_0008_1.jpg 0"],
    "list_query.txt": ["0000/0000_000_01_0302morning_0310_1.jpg 0"],
    "list_gallery.txt": ["0000/0000_005_15_0302morning_0330_2_ex.jpg 0", "0002/0002_000_03_0302noon_0200_0.jpg 2"],
}


def _write(root: Path, train: str, test: str) -> Path:
    for name, lines in LISTS.items():
        images = root / (train if name in ("list_train.txt", "list_val.txt") else test)
        for line in lines:
            path = images / line.split()[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            (path.parent / f"._{path.name}").touch()
        (root / name).write_text("\n".join(lines) + "\n\n")
    (root / "__MACOSX" / train).mkdir(parents=True)
    (root / "__MACOSX" / train / "._0000_001_05_0303morning_0006_2.jpg").touch()
    return root


@pytest.fixture(params=[("MSMT17_V1", "train", "test"), ("MSMT17_V2", "mask_train_v2", "mask_test_v2")])
def folder(request, tmp_path: Path) -> Path:
    name, train, test = request.param
    return _write(tmp_path / name, train, test)


def test_reads_lists_with_their_labels_and_the_third_field_as_camera(folder):
    dataset = open_dataset("msmt17", folder.parent)
    assert dataset.train.persons.tolist() == [0, 1, 0]
    assert dataset.train.cameras.tolist() == [5, 14, 12]
    assert dataset.query.cameras.tolist() == [1]
    assert dataset.gallery.persons.tolist() == [0, 2]
    assert dataset.gallery.cameras.tolist() == [15, 3]
    assert dataset.notes == (f"MSMT17 {folder.name[-2:]}, training images: list_train.txt + list_val.txt",)
    assert all(sample.path.is_file() for subset in dataset.subsets.values() for sample in subset.samples)


def test_the_train_list_alone_leaves_val_out(folder):
    dataset = open_dataset("msmt17-train", folder.parent)
    assert dataset.train.cameras.tolist() == [5, 14]
    assert dataset.notes[0].endswith("training images: list_train.txt")
    (folder / "list_val.txt").unlink()
    assert len(msmt17.read(folder, "msmt17-train").train) == 2


def test_listed_images_that_are_not_on_disk_are_counted(folder):
    images = next(path for path in folder.iterdir() if "test" in path.name)
    (images / LISTS["list_gallery.txt"][0].split()[0]).unlink()
    with pytest.raises(UserError, match=r"list_gallery\.txt lists 1 images(.|\n)*0000_005_15_0302morning_0330_2_ex"):
        msmt17.read(folder)


def test_a_name_without_camera_is_named(folder):
    path = folder / "list_query.txt"
    path.write_text("0000/holiday.jpg 0\n")
    with pytest.raises(UserError, match=r"list_query\.txt: 0000/holiday\.jpg"):
        msmt17.read(folder)


def test_published_counts_add_up():
    train, only = (msmt17.OFFICIAL_COUNTS[name]["train"] for name in ("msmt17", "msmt17-train"))
    assert train[0] - only[0] == 2_373  # the val list
