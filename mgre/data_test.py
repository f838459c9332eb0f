"""Joints of the images, their scores whole and occluded, the search for lambda^F, and what location_check compares."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from common import augment, evaluation
from common.datasets import open_dataset
from common.datasets.poses import pose_file, read_joints
from common.datasets.synthetic import make_dataset
from common.errors import UserError
from common.images import ImageStore
from common.runs.settings import load_settings

from . import choose_weights, location_check, train
from . import model as model_module
from .activity_test import plain_iou
from .choose_weights import climb
from .data import SearchImages
from .evaluate import load_run
from .model_test import settings_of
from .network_test import SMALL, narrow_resnet
from .scores import score, search_features
from .settings import Settings
from .train import augmented, main
from .train_test import mean_boxes_of, plain_targets, table_1s_boxes


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


@pytest.mark.parametrize("subset", ["query", "gallery"])
def test_without_poses_of_the_test_images_boxes_from_poses_fail_before_the_training(dataset, subset, tmp_path, capsys):
    content = json.loads(pose_file(dataset).read_text())
    names = {sample.path.relative_to(dataset.folder).as_posix() for sample in getattr(dataset, subset).samples}
    content["images"] = [image for image in content["images"] if image["file_name"] not in names]
    pose_file(dataset).write_text(json.dumps(content))
    run = tmp_path / "run"
    words = ["--demo", "--data-root", str(dataset.folder.parent), "--device", "cpu", "--run-dir", str(run)]
    with pytest.raises(SystemExit):
        main([*words, "--variant", "without_jo"])
    message = capsys.readouterr().err
    assert f"no pose of any image in '{getattr(dataset, subset).name}'" in message and "--variant baseline" in message
    assert not run.exists()


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


def plain_boxes(dataset, subset):
    """(N, 7, 4): eq. 3's boxes of an image's joints, Table 1's where a region has none; and which have joints."""
    joints, known = read_joints(dataset, subset), []
    boxes = []
    for own in joints:
        found = plain_targets(own, False)
        known.append([box is not None for box in found])
        boxes.append([box or prior for box, prior in zip(found, table_1s_boxes(), strict=True)])
    return torch.tensor(boxes), np.array(known)


def test_each_image_of_a_batch_has_its_own_boxes(dataset):
    boxes, _ = plain_boxes(dataset, dataset.gallery)
    assert len({tuple(own.flatten().tolist()) for own in boxes}) > len(boxes) / 2
    images = SearchImages(ImageStore(dataset.gallery, 64, 32), boxes=boxes)
    assert torch.equal(images.gather(np.array([5, 2, 7]))[1], boxes[[5, 2, 7]])
    settings = settings_of("without_jo", height=64, width=32, cache=False)
    run, search = SimpleNamespace(settings=settings, dataset=dataset), dataset.searches[0]
    found = search_features(lambda _, given: given, run, search)
    for subset, features in zip((search.query, search.gallery), found, strict=True):
        torch.testing.assert_close(features.cpu(), plain_boxes(dataset, subset)[0])


def test_what_is_scored_is_the_search_whole_and_occluded_and_with_each_weight_of_each_stage(dataset):
    settings = settings_of(height=64, width=32, cache=False, occlusion_probability=0.8)
    run, search = SimpleNamespace(settings=settings, dataset=dataset), dataset.searches[0]

    def embed(images, boxes):
        """In the place of four stages' features: the mean colour of each quarter, from top to bottom."""
        assert boxes is None
        return functional.normalize(images.float().unflatten(2, (4, -1)).mean((3, 4)).transpose(1, 2) - 110, dim=2)

    def plain_scores(weights, probability=0.0):
        parts = search_features(embed, run, search, occlusion_probability=probability)
        features = [torch.cat([w * part[:, i] for i, w in enumerate(weights)], dim=1) for part in parts]
        return evaluation.score_search(search, *features)

    own = [0.35, 0.5, 0.7, 0.8]
    model = SimpleNamespace(feature_weights=own, feature_stages=[1, 2, 3, 4])
    scores = score(model, embed, run)
    assert {name: scores[name] for name in plain_scores(own)} == pytest.approx(plain_scores(own))
    assert scores["occluded"] == pytest.approx(plain_scores(own, 0.8))
    assert scores["decline"]["mAP"] == pytest.approx(scores["occluded"]["mAP"] - scores["mAP"])
    assert abs(scores["decline"]["mAP"]) > 0.01  # something was covered; mean colours need not suffer from it
    of_weights = set()
    for stage in (1, 2, 3, 4):
        for name, weight in (("0_1", 0.1), ("0_9", 0.9)):
            weights = own.copy()
            weights[stage - 1] = weight
            expected = plain_scores(weights)
            found = scores["stage_weight"][f"stage{stage}"][name]
            assert found == pytest.approx({"mAP": expected["mAP"], "rank1": expected["rank1"]}), (stage, name)
            of_weights.add(expected["mAP"])
    assert len(of_weights) > 6  # stages and weights differ


def test_a_run_is_scored_in_evaluation_mode(root, tmp_path, monkeypatch):
    """So that an image's feature does not depend on the rest of its batch."""
    modes = []
    monkeypatch.setattr(train, "score", lambda model, *rest: modes.append(model.training) or score(model, *rest))
    words = ["--demo", "--data-root", str(root), "--device", "cpu", "--run-dir", str(tmp_path / "run")]
    main([*words, "--variant", "baseline", "--set", "height=64", "width=32", "num_epochs=0", "pretrained=none"])
    assert modes == [False] and (tmp_path / "run" / "result.json").is_file()


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


# ------------------------------------------------------------------ location_check


class Locator(nn.Module):
    """In the place of a network: boxes that depend on the image."""

    box_stages = (1, 2, 3)

    def locate(self, images):
        shift = images.mean((1, 2, 3))[:, None, None]
        boxes = torch.tensor(table_1s_boxes()) + 0.1 * shift
        return {1: boxes[:, :4], 2: boxes[:, 4:6], 3: boxes[:, 6:]}


def test_location_check_compares_with_the_joints_of_all_queries(dataset):
    settings = settings_of(height=64, width=32, cache=False)
    program = SimpleNamespace(dataset=dataset, device=torch.device("cpu"))
    found = location_check.mean_overlaps(Locator(), program, settings)
    true, known = plain_boxes(dataset, dataset.query)
    pixels = ImageStore(dataset.query, 64, 32, cache=False).gather(np.arange(len(dataset.query)))
    predicted = torch.cat(list(Locator().locate(augment.normalise(pixels)).values()), dim=1)
    mean = torch.tensor(mean_boxes_of(read_joints(dataset, dataset.train)))
    compared = {"prior": torch.tensor(table_1s_boxes()).expand_as(true), "mean": mean.expand_as(true)}
    compared["predicted"] = predicted
    for name, boxes in compared.items():
        for region in range(7):
            values = [
                plain_iou(boxes[i, region].tolist(), true[i, region].tolist())
                for i in range(len(true))
                if known[i, region]
            ]
            assert found[name][region] == pytest.approx(np.mean(values), abs=1e-4), (name, region)


@pytest.mark.parametrize("start", ["mean", "table1"])
def test_location_check_starts_where_the_training_does(dataset, monkeypatch, start):
    monkeypatch.setattr(model_module, "build_resnet", narrow_resnet)
    program = SimpleNamespace(
        dataset=dataset, device=torch.device("cpu"), arguments=SimpleNamespace(epochs=0, seed=0), autocast=None
    )
    model = location_check.trained_to_locate(program, settings_of(location_start=start, cache=False, **SMALL))
    boxes = torch.cat(list(model.eval().locate(torch.randn(1, 3, 64, 32)).values()), dim=1)[0]
    expected = table_1s_boxes() if start == "table1" else mean_boxes_of(read_joints(dataset, dataset.train))
    torch.testing.assert_close(boxes, torch.tensor(expected), rtol=0, atol=1e-4)
