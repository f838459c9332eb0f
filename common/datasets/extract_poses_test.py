"""Files of poses from another estimator's results, and from torchvision's network."""

import json

import numpy as np
import pytest
import torch

from common.datasets import extract_poses, open_dataset
from common.datasets.poses import pose_file, read_poses
from common.datasets.synthetic import make_dataset
from common.errors import UserError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    make_dataset(root / "market1501", like="market1501", size="tiny")
    return root


@pytest.fixture
def dataset(root):
    """The tiny data set, whose file of poses a test may change."""
    dataset = open_dataset("market1501", root)
    kept = pose_file(dataset).read_bytes()
    yield dataset
    pose_file(dataset).write_bytes(kept)


def test_coco_results_of_another_estimator_become_the_file(dataset, tmp_path):
    first, second, third = (s.path.relative_to(dataset.folder).as_posix() for s in dataset.train.samples[:3])
    joints = np.tile([30.0, 60.0, 0.9], (17, 1))
    joints[1] = [31, 61, 0.1]  # too uncertain
    joints[2] = [70, 61, 0.9]  # outside the 64 pixels
    results = [
        {"image_id": first, "category_id": 1, "keypoints": joints.flatten().tolist(), "score": 0.8},
        {"image_id": first, "category_id": 1, "keypoints": [5.0, 5.0, 1.0] * 17, "score": 0.3},
        {"image_id": second.split("/")[-1], "category_id": 1, "keypoints": [9.0, 9.0, 1.0] * 17, "score": 0.5},
        {"image_id": "elsewhere.jpg", "category_id": 1, "keypoints": [9.0, 9.0, 1.0] * 17, "score": 0.5},
    ]
    (tmp_path / "results.json").write_text(json.dumps(results))
    words = ["--data-root", str(dataset.folder.parent), "--coco-results", str(tmp_path / "results.json")]
    with pytest.raises(SystemExit):  # does not replace a file unasked
        extract_poses.main(words)
    extract_poses.main([*words, "--force"])
    poses = read_poses(pose_file(dataset), dataset)
    assert set(poses) == {first, second} and third not in poses
    assert poses[first][0].tolist() == [30, 60, 2] and poses[first][1:3].tolist() == [[0, 0, 0]] * 2


def test_numbered_coco_results_need_the_names(dataset, tmp_path):
    sample = dataset.train.samples[0]
    result = {"image_id": 7, "category_id": 1, "keypoints": [9.0, 9.0, 1.0] * 17, "score": 0.5}
    (tmp_path / "results.json").write_text(json.dumps([result]))
    with pytest.raises(UserError, match="--coco-images"):
        extract_poses.read_coco_results(tmp_path / "results.json", dataset)
    (tmp_path / "images.json").write_text(json.dumps({"images": [{"id": 7, "file_name": sample.path.name}]}))
    poses = extract_poses.read_coco_results(tmp_path / "results.json", dataset, tmp_path / "images.json")
    assert [name.split("/")[-1] for name in poses] == [sample.path.name]


@pytest.mark.parametrize("text", ["", "{}", '[{"image_id": "a"}]', "[1]", "[]"])
def test_files_that_are_no_results_are_refused(dataset, tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(UserError, match=r"results\.json"):
        extract_poses.read_coco_results(tmp_path / "results.json", dataset)


def test_the_detectors_best_person_is_taken_and_empty_images_have_none(dataset):
    calls = []

    def detector(images):
        calls.append(len(images))
        people = {
            "scores": torch.tensor([0.4, 0.9]),
            "keypoints": torch.stack([torch.full((17, 3), 3.0), torch.full((17, 3), 8.0)]),
            "keypoints_scores": torch.cat([torch.full((2, 16), 5.0), torch.full((2, 1), -5.0)], dim=1),
        }
        nobody = {"scores": torch.zeros(0), "keypoints": torch.zeros(0, 17, 3), "keypoints_scores": torch.zeros(0, 17)}
        assert images[0].dtype == torch.float32 and images[0].max() <= 1
        return [people] + [nobody] * (len(images) - 1)

    names = extract_poses.file_names(dataset)
    poses = extract_poses.detect_poses(names, detector, torch.device("cpu"), batch_size=8)
    assert sum(calls) == len(names) and len(poses) == len(calls)
    joints = next(iter(poses.values()))
    assert joints[0].tolist() == [8, 8, 2] and joints[16].tolist() == [0, 0, 0]


def test_only_the_named_subsets_and_after_an_interruption_only_the_rest(dataset, monkeypatch):
    seen, limit = [], [5]

    def detector(images):
        if len(seen) >= limit[0]:
            raise KeyboardInterrupt
        seen.extend(images)
        person = {
            "scores": torch.tensor([0.9]),
            "keypoints": torch.full((1, 17, 3), 3.0 + len(seen)),
            "keypoints_scores": torch.full((1, 17), 5.0),
        }
        return [person] + [person | {"scores": torch.tensor([0.1])}] * (len(images) - 1)

    detect = extract_poses.detect_poses
    monkeypatch.setattr(extract_poses, "keypoint_rcnn", lambda device: detector)
    monkeypatch.setattr(extract_poses, "detect_poses", lambda *words, **more: detect(*words, batch_size=3, **more))
    words = ["--data-root", str(dataset.folder.parent), "--device", "cpu", "--subsets", "query", "--force"]
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        extract_poses.main(words)
    assert len(seen) == 6  # two batches
    limit[0] = 1000
    extract_poses.main(words)
    assert len(seen) == len(dataset.query)  # each image once
    poses = read_poses(pose_file(dataset), dataset)
    names = [sample.path.relative_to(dataset.folder).as_posix() for sample in dataset.query.samples]
    assert sorted(poses) == sorted(names[::3])
    assert [poses[name][0, 0] for name in names[:6:3]] == [6, 9]
    assert not list(dataset.folder.glob("*.progress"))
    with pytest.raises(SystemExit):
        extract_poses.main([*words[:-2], "tests", "--force"])


def test_keypoint_rcnn_offline_names_the_file_and_the_way_on(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)

    def offline(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(UserError, match=r"keypointrcnn_resnet50_fpn(.|\n)*--coco-results"):
        extract_poses.keypoint_rcnn(torch.device("cpu"))
