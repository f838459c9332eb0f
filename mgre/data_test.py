"""Poses from files, images without one, held-out identities, occlusion, and the search for lambda^F."""

import json

import numpy as np
import pytest
import torch

from common import augment
from common.config import load_config
from common.datasets import open_dataset
from common.datasets.poses import read_poses, write_poses
from common.datasets.synthetic import make_dataset
from common.errors import UserError
from common.images import ImageStore
from common.provenance import paper_folder
from mgre import choose_weights, extract_poses
from mgre.choose_weights import climb
from mgre.data import SearchImages, split_training
from mgre.poses import pose_file, read_joints
from mgre.train import Config, augmented, main


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


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("REID_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("REID_RUNS", str(tmp_path / "runs"))


# ------------------------------------------------------------------ joints of the training images


def test_joints_are_in_parts_of_each_image(dataset):
    joints = read_joints(dataset, dataset.train)
    assert joints.shape == (len(dataset.train), 17, 3)
    there = joints[joints[..., 2] > 0]
    assert len(there) and (there[:, :2] >= 0).all() and (there[:, :2] < 1).all()
    sample = dataset.train.samples[0]
    pixels = read_poses(pose_file(dataset), dataset)[sample.path.relative_to(dataset.folder).as_posix()]
    torch.testing.assert_close(joints[0, :, :2] * torch.tensor([64, 128]), torch.from_numpy(pixels[:, :2]))


def test_images_without_a_pose_are_kept_with_none(dataset):
    poses = read_poses(pose_file(dataset), dataset)
    first = dataset.train.samples[0].path.relative_to(dataset.folder).as_posix()
    write_poses(pose_file(dataset), dataset, {name: pose for name, pose in poses.items() if name != first})
    joints = read_joints(dataset, dataset.train)
    assert len(joints) == len(dataset.train)
    assert joints[0].abs().sum() == 0 and joints[1].abs().sum() > 0


def test_no_file_of_poses_names_the_command_and_the_variants_that_need_none(dataset, capsys):
    pose_file(dataset).unlink()
    arguments = ["--demo", "--data-root", str(dataset.folder.parent), "--set", "num_epochs=0", "--device", "cpu"]
    for variant in ("full", "stage1", "baseline_jo", "without_jo", "whole_image_stage3"):
        with pytest.raises(SystemExit):
            main([*arguments, "--variant", variant])
        message = capsys.readouterr().err
        assert "python -m mgre.extract_poses --dataset market1501" in message and "--variant baseline" in message
    for variant in ("baseline", "single_grained_regions"):
        main([*arguments, "--variant", variant])
        assert "mAP" in capsys.readouterr().out


def test_poses_of_other_images_are_refused(dataset):
    content = json.loads(pose_file(dataset).read_text())
    pose_file(dataset).write_text(json.dumps(content | {"fingerprint": "0" * 16}))
    with pytest.raises(UserError, match="made for other images"):
        read_joints(dataset, dataset.train)


def test_image_and_joints_are_flipped_together():
    folder = paper_folder("mgre")
    overrides = {"flip_probability": 0.5, "erasing_probability": 0.0}
    config = load_config(Config, folder, dataset="market1501", demo=True, variant="full", overrides=overrides)
    x, y = 13, 40  # the nose's pixel is the one bright one
    images = torch.zeros(16, 3, 128, 64, dtype=torch.uint8)
    images[:, :, y, x] = 255
    joints = torch.zeros(16, 17, 3)
    joints[:, 0] = torch.tensor([(x + 0.5) / 64, (y + 0.5) / 128, 2])
    inputs, flipped = augmented(images, joints, config, torch.Generator().manual_seed(0))
    found = inputs[:, 0].flatten(1).argmax(1) % 64
    torch.testing.assert_close((flipped[:, 0, 0] * 64 - 0.5).round().long(), found)
    assert set(found.tolist()) == {13, 50}


# ------------------------------------------------------------------ extract_poses


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

    poses = extract_poses.detect_poses(dataset, detector, torch.device("cpu"), batch_size=8)
    assert sum(calls) == len(extract_poses.file_names(dataset)) and len(poses) == len(calls)
    joints = next(iter(poses.values()))
    assert joints[0].tolist() == [8, 8, 2] and joints[16].tolist() == [0, 0, 0]


def test_keypoint_rcnn_offline_names_the_file_and_the_way_on(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)

    def offline(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(UserError, match=r"keypointrcnn_resnet50_fpn(.|\n)*--coco-results"):
        extract_poses.keypoint_rcnn(torch.device("cpu"))


# ------------------------------------------------------------------ held-out identities, occlusion, weights


def test_held_out_identities_are_not_trained_on(dataset):
    train, search = split_training(dataset, 4)
    held_out = set(search.query.persons) | set(search.gallery.persons)
    assert len(held_out) == 4 and not held_out & set(train.persons.tolist())
    assert len(train) + len(search.query) + len(search.gallery) == len(dataset.train)
    pairs = list(zip(search.query.persons.tolist(), search.query.cameras.tolist(), strict=True))
    assert len(pairs) == len(set(pairs)) and train.labels.max() == train.num_identities - 1
    assert split_training(dataset, 0) == (dataset.train, None)
    with pytest.raises(UserError, match="validation_identities is 1000"):
        split_training(dataset, 1000)


def test_occlusion_is_the_same_every_time_and_of_about_half_of_the_images(dataset):
    store = ImageStore(dataset.gallery, 64, 32)
    indices = np.arange(len(store))
    plain = SearchImages(store).gather(indices)[0]
    erased = SearchImages(store, occlusion_probability=0.5).gather(indices)[0]
    assert torch.equal(erased, SearchImages(store, occlusion_probability=0.5).gather(indices)[0])
    changed = (erased != plain).flatten(1).any(1)
    assert 0.3 < changed.float().mean() < 0.7
    other_seed = SearchImages(store, occlusion_probability=0.5, seed=1).gather(indices)[0]
    assert not torch.equal(erased, other_seed)
    filled = augment.normalise(erased)[(erased != plain).any(1)[:, None].expand_as(erased)]
    assert filled.abs().max() < 0.02  # the mean colour


def test_weights_are_chosen_on_the_identities_held_out(dataset, tmp_path, capsys):
    run = tmp_path / "run"
    words = ["--demo", "--data-root", str(dataset.folder.parent), "--device", "cpu", "--run-dir", str(run)]
    main([*words, "--variant", "full", "--set", "num_epochs=1", "validation_identities=3", "identities_per_batch=4"])
    choose_weights.main([str(run), "--device", "cpu"])
    chosen = json.loads((run / "feature_weights.json").read_text())
    assert len(chosen["feature_weights"]) == 4 and 0 <= chosen["validation_mAP"] <= 1
    assert "--feature-weights" in capsys.readouterr().out
    scores = json.loads((run / "result.json").read_text())["scores"]
    assert set(scores["stage_weight"]) == {"stage1", "stage2", "stage3", "stage4"}
    assert set(scores["stage_weight"]["stage1"]) == {
        "0_1",
        "0_2",
        "0_3",
        "0_4",
        "0_5",
        "0_6",
        "0_7",
        "0_8",
        "0_9",
        "1_0",
    }
    assert scores["stage_weight"]["stage2"]["0_5"]["mAP"] == pytest.approx(scores["mAP"])  # its own setting
    assert scores["occluded"]["num_valid_queries"] == scores["num_valid_queries"]


def test_weights_need_identities_held_out_of_the_run(dataset, tmp_path, capsys):
    run = tmp_path / "run"
    words = ["--demo", "--data-root", str(dataset.folder.parent), "--device", "cpu", "--run-dir", str(run)]
    main([*words, "--variant", "baseline", "--set", "num_epochs=1"])
    with pytest.raises(SystemExit):
        choose_weights.main([str(run), "--device", "cpu"])
    assert "--set validation_identities=100" in capsys.readouterr().err


def test_weights_climb_to_the_best_of_the_grid():
    best = [0.35, 0.5, 0.7, 0.8]

    def score(weights):
        a, b, c, d = (weight - target for weight, target in zip(weights, best, strict=True))
        return -(a * a + b * b + c * c + d * d + a * b)  # they interfere

    weights, value = climb(score, [1.0, 1.0, 0.1, 0.1])
    assert weights == pytest.approx(best, abs=0.051) and value == pytest.approx(0, abs=0.01)
