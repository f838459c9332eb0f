"""Small COCO keypoint files: crowds, people without joints, images without people."""

import json
from pathlib import Path

import numpy as np
import pytest

from common.datasets import coco_keypoints, open_dataset
from common.datasets.coco_keypoints import IgnoredRegion, ignored_mask, read_people
from common.errors import UserError

JOINTS = [value for joint in range(17) for value in ((0, 0, 0) if joint < 15 else (joint, 2 * joint, joint - 14))]
# 5 x 4 pixels (height 5, width 4). Down the columns: 6 of 0, 3 of 1, 11 of 0 is column 1, rows 1 to 3.
CROWD = {"size": [5, 4], "counts": [6, 3, 11]}


def _person(image: int, **changes) -> dict:
    person = {
        "image_id": image, "category_id": 1, "iscrowd": 0, "bbox": [0.5, 1.0, 2.0, 3.0], "num_keypoints": 2,
        "keypoints": JOINTS, "segmentation": [[0, 1, 2, 1, 2, 4]], "id": 1,
    }  # fmt: skip
    return person | changes


NO_JOINTS = {"num_keypoints": 0, "keypoints": [0] * 51, "bbox": [2.2, 0.0, 1.0, 0.9]}

ANNOTATIONS = {
    "train": [
        _person(30),
        _person(9, iscrowd=1, bbox=[1, 1, 1, 3], segmentation=CROWD, num_keypoints=0, keypoints=[0] * 51),
        _person(9, bbox=[1, 1, 2, 2]),
        _person(9, **NO_JOINTS),
    ],
    "val": [_person(139)],
}
IMAGES = {"train": [30, 9, 25], "val": [139]}  # 25 shows nobody


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    for split, numbers in IMAGES.items():
        (root / f"{split}2017").mkdir()
        for number in numbers:
            (root / f"{split}2017" / f"{number:012d}.jpg").touch()
        (root / f"{split}2017" / "._000000000009.jpg").touch()
        images = [{"id": n, "file_name": f"{n:012d}.jpg", "height": 5, "width": 4, "license": 1} for n in numbers]
        content = {"info": {}, "images": images, "annotations": ANNOTATIONS[split], "categories": []}
        (root / "annotations" / f"person_keypoints_{split}2017.json").write_text(json.dumps(content))
    return root


def test_every_listed_image_is_a_sample_and_there_are_no_searches(folder):
    dataset = open_dataset("coco_keypoints", folder.parent)
    assert dataset.train.persons.tolist() == [9, 25, 30]
    assert dataset.subsets["val"].samples[0].path.name == "000000000139.jpg"
    assert set(dataset.train.cameras.tolist()) == {0}
    assert dataset.searches == ()


def test_people_have_joints_boxes_and_the_regions_to_ignore(folder):
    people = read_people(folder, "train")
    assert [person.path.name for person in people] == ["000000000009.jpg", "000000000030.jpg"]
    first, second = people
    assert first.box == (1, 1, 2, 2)
    assert first.image_size == (5, 4)
    assert first.joints.shape == (17, 3) and first.joints.dtype == np.float32
    assert first.joints[15:].tolist() == [[15, 30, 1], [16, 32, 2]]
    assert not first.joints[:15].any()
    assert first.ignored == (IgnoredRegion((1, 1, 1, 3), (6, 3, 11)), IgnoredRegion((2.2, 0.0, 1.0, 0.9)))
    assert second.ignored == ()


def test_the_mask_has_runs_of_crowds_and_boxes_of_others(folder):
    first, second = read_people(folder, "train")
    expected = np.array(
        [
            [0, 0, 1, 1],  # x from 2.2 to 3.2 touches columns 2 and 3, y from 0 to 0.9 row 0
            [0, 1, 0, 0],
            [0, 1, 0, 0],
            [0, 1, 0, 0],
            [0, 0, 0, 0],
        ]
    )
    assert ignored_mask(first).astype(int).tolist() == expected.tolist()
    assert not ignored_mask(second).any()


def test_a_crowd_in_another_code_is_ignored_by_its_box(folder):
    path = folder / "annotations" / "person_keypoints_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"][1]["segmentation"]["counts"] = "61X13mN000`0"
    content["annotations"][1]["bbox"] = [-1, 3, 2.5, 9]  # reaches out of the image
    path.write_text(json.dumps(content))
    mask = ignored_mask(read_people(folder, "train")[0])
    assert mask[3:, :2].all() and mask.sum() == 4 + 2


def test_an_image_that_is_not_on_disk_is_named(folder):
    (folder / "train2017" / "000000000025.jpg").unlink()
    with pytest.raises(UserError, match=r"train2017\.json lists 1 images(.|\n)*000000000025\.jpg"):
        coco_keypoints.read(folder)


@pytest.mark.parametrize(
    "text", ["", '{"images": [', "[]", '{"images": []}', '{"images": [{"id": 1}], "annotations": []}']
)
def test_damaged_annotations_are_named(folder, text):
    path = folder / "annotations" / "person_keypoints_val2017.json"
    path.write_text(text)
    for reading in (lambda: coco_keypoints.read(folder), lambda: read_people(folder, "val")):
        with pytest.raises(UserError, match=r"val2017\.json is not a file of COCO's keypoints"):
            reading()


@pytest.mark.parametrize("changes", [{"keypoints": [1, 2, 3]}, {"bbox": [1, 2]}, {"image_id": 77}])
def test_a_damaged_person_is_named_by_file(folder, changes):
    path = folder / "annotations" / "person_keypoints_val2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0] |= changes
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"val2017\.json is not a file of COCO's keypoints"):
        read_people(folder, "val")


def test_an_unknown_split_is_refused(folder):
    with pytest.raises(UserError, match="unknown split 'test'"):
        read_people(folder, "test")
