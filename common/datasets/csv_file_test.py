"""A user's own data set: what may vary in dataset.csv, and errors by line and column."""

from pathlib import Path

import pytest

from common.datasets import csv_file, open_dataset
from common.errors import UserError

LINES = ["path,person,camera,split", "a.jpg,7,1,train", "b.jpg,7,2,query", "sub/c.jpg,-1,3,gallery"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "csv"
    (root / "sub").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg", "sub/c.jpg", "Thumbs.db"):
        (root / name).touch()
    _write(root, LINES)
    return root


def _write(folder: Path, lines: list[str]) -> None:
    (folder / "dataset.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_integers_keep_their_numbers(folder):
    dataset = open_dataset("csv", folder.parent)
    assert dataset.train.persons.tolist() == [7]
    assert dataset.gallery.persons.tolist() == [-1]
    assert dataset.gallery.cameras.tolist() == [3]
    assert dataset.gallery.samples[0].path == folder / "sub" / "c.jpg"
    assert dataset.searches[0].protocol == "market1501"
    assert open_dataset("csv", folder).fingerprint == dataset.fingerprint


def test_columns_in_any_order_a_byte_order_mark_absolute_paths_and_modality(folder):
    lines = [
        "split, note,camera,person,modality,path",
        f'train,"one, two",4,zoe,infrared,{folder / "a.jpg"}',
        "",
        "query,,5,anna,,b.jpg",
        "gallery,,6,ben,thermal,sub/c.jpg",
    ]
    (folder / "dataset.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    dataset = csv_file.read(folder)
    assert dataset.train.samples[0].path == folder / "a.jpg"
    persons = [subset.persons.tolist() for subset in dataset.subsets.values()]
    assert persons == [[2], [0], [1]]  # zoe, anna, ben
    assert [subset.samples[0].modality for subset in dataset.subsets.values()] == ["infrared", "visible", "thermal"]


def test_one_name_makes_all_persons_names(folder):
    _write(folder, [*LINES[:3], "sub/c.jpg,anna,3,gallery"])
    assert csv_file.read(folder).train.persons.tolist() == [0]  # "7" sorts before "anna"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("b.jpg,7,2,probe", "line 3, column split: 'probe' is none of train, query, gallery"),
        ("b.jpg,7,left,query", "line 3, column camera: 'left' is not an integer"),
        ("b.jpg,,2,query", "line 3, column person: empty"),
        ("b.jpg,7,2", "line 3, column split: empty"),
        ("b.jpg,7,2,train", "no line has the split query"),
        ("b.jpg,-1,2,train", "line 3, column person: -1 is junk, which cannot be trained on"),
    ],
)
def test_mistakes_are_named_by_line_and_column(folder, line, message):
    _write(folder, [*LINES[:2], line, LINES[3]])
    with pytest.raises(UserError, match=rf"dataset\.csv.*{message}"):
        csv_file.read(folder)


def test_a_missing_column_shows_those_there(folder):
    _write(folder, ["path,identity,camera,split", *LINES[1:]])
    with pytest.raises(UserError, match="no column person; columns: path, identity, camera, split"):
        csv_file.read(folder)
    _write(folder, LINES[:1])
    with pytest.raises(UserError, match="lists no images"):
        csv_file.read(folder)
    (folder / "dataset.csv").write_bytes(b"path,person,camera,split\n\xff\xfe,1,1,train\n")
    with pytest.raises(UserError, match="save it as UTF-8"):
        csv_file.read(folder)


def test_at_most_20_missing_images_are_shown(folder):
    _write(folder, LINES + [f"absent_{number:02d}.jpg,1,1,train" for number in range(25)])
    with pytest.raises(UserError) as error:
        csv_file.read(folder)
    message = str(error.value)
    assert "lists 25 images that are not on disk" in message
    assert message.count("absent_") == 20
    assert "and 5 more" in message
