"""Half-copied data sets: each folder or file that a reader needs is removed in turn, and the error names it."""

import json
import shutil
from pathlib import Path

import pytest

from common.datasets import READERS, peta
from common.errors import UserError

MARKET_LIKE = {
    "bounding_box_train/0001_c1_f1.jpg": "",
    "query/0002_c1_f1.jpg": "",
    "bounding_box_test/0002_c2_f1.jpg": "",
}
COCO = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": []}

# For each name: the files of a small complete data set, {path: content}; then those that must not be missing.
WHOLE = {
    "market1501": MARKET_LIKE,
    "dukemtmcreid": MARKET_LIKE,
    "cuhk03": {f"detected/{path}": text for path, text in MARKET_LIKE.items()},
    "cuhk03-labeled": {f"labeled/{path}": text for path, text in MARKET_LIKE.items()},
    "msmt17": {
        "train/0000/0000_000_01_x.jpg": "",
        "test/0000/0000_000_02_x.jpg": "",
        **{f"list_{half}.txt": "0000/0000_000_01_x.jpg 0" for half in ("train", "val")},
        **{f"list_{half}.txt": "0000/0000_000_02_x.jpg 0" for half in ("query", "gallery")},
    },
    "sysu_mm01": {
        **{f"cam{camera}/{person}/0001.jpg": "" for camera in range(1, 7) for person in ("0001", "0002", "0003")},
        **{f"exp/{half}_id.txt": str(number) for number, half in enumerate(("train", "val", "test"), start=1)},
    },
    "regdb": {
        **{f"{modality}/1/a.bmp": "" for modality in ("Visible", "Thermal")},
        **{
            f"idx/{half}_{modality.lower()}_1.txt": f"{modality}/1/a.bmp 0"
            for half in ("train", "test")
            for modality in ("Visible", "Thermal")
        },
    },
    "peta": {
        f"{source}/archive/{name}": ""
        for source in peta.SOURCES
        for name in ("1_a.png", "1_b.png", "2_a.png", "2_b.png", "Label.txt")
    },
    "coco_keypoints": {
        **{f"annotations/person_keypoints_{split}2017.json": json.dumps(COCO) for split in ("train", "val")},
        **{f"{split}2017/1.jpg": "" for split in ("train", "val")},
    },
    "csv": {
        "dataset.csv": "path,person,camera,split\na.jpg,1,1,train\na.jpg,1,1,query\na.jpg,1,1,gallery",
        "a.jpg": "",
    },
}
NEEDED = {
    "market1501": ["bounding_box_train", "query", "bounding_box_test"],
    "dukemtmcreid": ["bounding_box_train", "query", "bounding_box_test"],
    "cuhk03": ["detected", *(f"detected/{part}" for part in ("bounding_box_train", "query", "bounding_box_test"))],
    "cuhk03-labeled": ["labeled", "labeled/query"],
    "msmt17": ["train", "test", "list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt"],
    "sysu_mm01": [
        *(f"cam{camera}" for camera in range(1, 7)),
        *(f"exp/{half}_id.txt" for half in ("train", "val", "test")),
    ],
    "regdb": [
        "Visible",
        "Thermal",
        "idx",
        *(f"idx/{half}_{modality}_1.txt" for half in ("train", "test") for modality in ("visible", "thermal")),
    ],
    "peta": [*(f"{source}/archive" for source in peta.SOURCES), "CUHK/archive/Label.txt", "i-LID"],
    "coco_keypoints": [
        "train2017",
        "val2017",
        "annotations/person_keypoints_train2017.json",
        "annotations/person_keypoints_val2017.json",
    ],
    "csv": ["dataset.csv"],
}


def _write(root: Path, name: str) -> Path:
    for path, text in WHOLE[name].items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def test_every_layout_is_tried():
    assert {READERS[name] for name in WHOLE} == set(READERS.values())
    assert set(NEEDED) == set(WHOLE)


@pytest.mark.parametrize("name", WHOLE)
def test_the_whole_data_set_reads(tmp_path, name):
    dataset = READERS[name].read(_write(tmp_path, name), name)
    assert len(dataset.train) > 0
    assert dataset.name == name


@pytest.mark.parametrize(("name", "part"), [(name, part) for name, parts in NEEDED.items() for part in parts])
def test_what_is_missing_is_named_and_the_layout_shown(tmp_path, name, part):
    path = _write(tmp_path, name) / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(UserError) as error:
        READERS[name].read(tmp_path, name)
    message = str(error.value)
    assert f"{path}" in message.splitlines()[0]
    assert "is missing" in message.splitlines()[0]
    assert READERS[name].LAYOUT in message
