"""Joints of the training images, occlusion, and the search for lambda^F."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from common import augment
from common.datasets import open_dataset
from common.datasets.poses import pose_file
from common.datasets.synthetic import make_dataset
from common.errors import UserError
from common.images import ImageStore
from common.runs.settings import load_settings

from . import choose_weights
from .choose_weights import climb
from .data import SearchImages
from .evaluate import load_run
from .scores import search_features
from .settings import Settings
from .train import augmented, main


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


# ------------------------------------------------------------------ joints


def test_no_file_of_poses_names_the_command_and_the_variants_that_need_none(dataset, capsys):
    pose_file(dataset).unlink()
    arguments = ["--demo", "--data-root", str(dataset.folder.parent), "--set", "num_epochs=0", "--device", "cpu"]
    for variant in ("full", "stage1", "baseline_jo", "without_jo", "whole_image_stage3"):
        with pytest.raises(SystemExit):
            main([*arguments, "--variant", variant])
        message = capsys.readouterr().err
        assert "extract_poses --dataset market1501" in message and "--variant baseline" in message
    for variant in ("baseline", "single_grained_regions"):
        main([*arguments, "--variant", variant])
        assert "mAP" in capsys.readouterr().out


def test_image_and_joints_are_flipped_together():
    folder, overrides = Path(__file__).parent, {"flip_probability": 0.5, "erasing_probability": 0.0}
    settings = load_settings(Settings, folder, dataset="market1501", demo=True, variant="full", overrides=overrides)
    x, y = 13, 40  # the nose's pixel is the one bright one
    images = torch.zeros(16, 3, 128, 64, dtype=torch.uint8)
    images[:, :, y, x] = 255
    joints = torch.zeros(16, 17, 3)
    joints[:, 0] = torch.tensor([(x + 0.5) / 64, (y + 0.5) / 128, 2])
    inputs, flipped = augmented(images, joints, settings, torch.Generator().manual_seed(0))
    found = inputs[:, 0].flatten(1).argmax(1) % 64
    torch.testing.assert_close((flipped[:, 0, 0] * 64 - 0.5).round().long(), found)
    assert set(found.tolist()) == {13, 50}


# ------------------------------------------------------------------ occlusion, weights


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


def test_queries_and_gallery_are_occluded_and_otherwise_shown_as_they_are(dataset):
    settings = SimpleNamespace(height=64, width=32, cache=False, pose_boxes=False)
    run, search = SimpleNamespace(settings=settings, dataset=dataset), dataset.searches[0]
    embed = lambda images, boxes: images.float().mean((2, 3))[:, None]  # noqa: E731
    plain = search_features(embed, run, search)
    occluded = search_features(embed, run, search, occlusion_probability=0.5)
    for subset, whole, erased in zip((search.query, search.gallery), plain, occluded, strict=True):
        pixels = ImageStore(subset, 64, 32, cache=False).gather(np.arange(len(subset)))
        torch.testing.assert_close(whole[:, 0].cpu(), pixels.float().mean((2, 3)))
        assert 0.2 < (erased != whole).any(2).float().mean() < 0.8


def test_weights_are_chosen_on_the_identities_held_out(dataset, tmp_path, capsys):
    run = tmp_path / "run"
    words = ["--demo", "--data-root", str(dataset.folder.parent), "--device", "cpu", "--run-dir", str(run)]
    main([*words, "--variant", "full", "--set", "num_epochs=1", "validation_identities=3", "identities_per_batch=4"])
    choose_weights.main([str(run), "--device", "cpu"])
    chosen = json.loads((run / "feature_weights.json").read_text())
    assert len(chosen["feature_weights"]) == 4 and 0 <= chosen["validation_mAP"] <= 1
    assert "--feature-weights" in capsys.readouterr().out
    assert chosen["stage_loss_weight"] == 0.5
    assert load_run(run, "cpu", [0.1, 0.2, 0.3, 0.4]).model.feature_weights == [0.1, 0.2, 0.3, 0.4]
    with pytest.raises(UserError, match="--feature-weights: weights of 0 or more"):
        load_run(run, "cpu", [0.1, -0.2, 0.3, 0.4])
    scores = json.loads((run / "result.json").read_text())["scores"]
    assert set(scores["stage_weight"]) == {"stage1", "stage2", "stage3", "stage4"}
    assert list(scores["stage_weight"]["stage1"]) == [*(f"0_{tenth}" for tenth in range(1, 10)), "1_0"]
    assert scores["stage_weight"]["stage2"]["0_5"]["mAP"] == pytest.approx(scores["mAP"])  # its own setting
    assert scores["occluded"]["num_valid_queries"] == scores["num_valid_queries"]
    for name in ("mAP", "rank1"):
        assert scores["decline"][name] == pytest.approx(scores["occluded"][name] - scores[name])


def test_of_several_runs_the_one_with_the_largest_validation_map_is_chosen(monkeypatch, capsys):
    values = {"a": (0.3, 0.61), "b": (0.5, 0.64), "c": (0.7, 0.63)}

    def chosen(directory, device):
        lam, mAP = values[directory.name]
        return {"feature_weights": [lam, 0.5, 0.7, 0.8], "stage_loss_weight": lam, "validation_mAP": mAP}

    monkeypatch.setattr(choose_weights, "chosen_weights", chosen)
    choose_weights.main(["a", "b", "c"])
    printed = capsys.readouterr().out
    assert "mAP 61.0% on held-out identities with lambda = 0.3" in printed
    assert "evaluate b --feature-weights 0.5 0.5 0.7 0.8" in printed.splitlines()[-1]


def test_weights_need_identities_held_out_of_the_run(dataset, tmp_path, capsys):
    run = tmp_path / "run"
    words = ["--demo", "--data-root", str(dataset.folder.parent), "--device", "cpu", "--run-dir", str(run)]
    main([*words, "--variant", "baseline", "--set", "num_epochs=1"])
    with pytest.raises(SystemExit):
        choose_weights.main([str(run), "--device", "cpu"])
    assert "--set validation_identities=100" in capsys.readouterr().err


def test_a_variant_with_boxes_from_poses_cannot_embed_images_alone(dataset, tmp_path):
    run = tmp_path / "run"
    words = ["--demo", "--data-root", str(dataset.folder.parent), "--device", "cpu", "--run-dir", str(run)]
    main([*words, "--variant", "without_jo", "--set", "num_epochs=1"])
    with pytest.raises(UserError, match=r"cannot embed images alone(.|\n)*result\.json"):
        load_run(run, "cpu").embed(torch.zeros(1, 3, 128, 64, dtype=torch.uint8))


def test_weights_climb_to_the_best_of_the_grid():
    best = [0.35, 0.5, 0.7, 0.8]

    def score(weights):
        a, b, c, d = (weight - target for weight, target in zip(weights, best, strict=True))
        return -(a * a + b * b + c * c + d * d + a * b)  # they interfere

    weights, value = climb(score, [1.0, 1.0, 0.1, 0.1])
    assert weights == pytest.approx(best, abs=0.051) and value == pytest.approx(0, abs=0.01)
