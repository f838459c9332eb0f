"""Programs that need no trained run, and scoring, on a pretend GPU: what they find is what they find on the CPU."""

import functools
import shutil

import numpy as np
import pytest
import torch

from benchmarks.gpu_runs import GPU, POSE_NET, SMALL, small_runs, waits_between_steps
from benchmarks.pretend_gpu import PretendGPU
from common.datasets import extract_poses
from common.metrics import rank_feature_matches
from common.paper import load_paper
from common.reranking import k_reciprocal_distances
from common.runs import Meter, Program
from common.runs.settings import parse_overrides


@pytest.fixture(autouse=True)
def small(tmp_path):
    with small_runs(tmp_path) as patch:
        yield patch


def test_phase_0_of_fgsam_learns_from_photographs(tiny_data, tmp_path, capsys, small):
    program, steps, printed = load_paper("fgsam").module("pretrain_pose"), [], []
    check = Meter._check_finite

    def noted(meter, terms):
        check(meter, terms)
        steps.append(terms)

    small.setattr(Meter, "_check_finite", noted)
    words = ["--demo", "--dataset", "coco_keypoints", "--data-root", str(tiny_data), "--set", "precision=fp32"]
    words += POSE_NET
    program.main([*words, "--device", "cpu", "--run-dir", str(tmp_path / "cpu")])
    printed.append(capsys.readouterr().out.partition(" (")[0])
    on_cpu = steps.copy()
    steps.clear()
    with PretendGPU() as gpu, waits_between_steps(gpu) as waits:
        program.main([*words, "--device", GPU, "--run-dir", str(tmp_path / "gpu")])
    printed.append(capsys.readouterr().out.partition(" (")[0])
    assert len(steps) >= 2 and steps == on_cpu
    assert set(waits()) == {1}
    assert "of the image's height" in printed[0] and printed[1] == printed[0].replace("cpu:", "gpu:")


def detect(device, images):
    """In the place of Keypoint R-CNN: two people in each image, whose joints depend on it."""
    found = []
    for image in images:
        assert image.device == device
        places = image.mean((1, 2)) * torch.arange(1, 18, device=image.device)[:, None]  # (17, 3)
        certain = places[:, 0] - places[:, 0].mean()
        people = {"keypoints": [places, places + 20], "keypoints_scores": [certain, -certain]}
        found.append({name: torch.stack(parts) for name, parts in people.items()})
        found[-1]["scores"] = torch.stack([image.mean(), image.amax()])
    return found


def test_poses_are_extracted(tiny_data, tmp_path, small):
    written = []
    for device in ("cpu", GPU):
        root = tmp_path / device[:3]
        shutil.copytree(tiny_data / "market1501", root / "market1501")
        small.setattr(extract_poses, "keypoint_rcnn", lambda device: functools.partial(detect, device))
        with PretendGPU():
            extract_poses.main(["--data-root", str(root), "--device", device, "--force"])
        written.append((root / "market1501" / "poses.json").read_text())
    assert written[0] == written[1] != (tiny_data / "market1501" / "poses.json").read_text()


def test_mgres_location_check(tiny_data, capsys, small):
    settings = functools.partial(Program.settings, overrides=parse_overrides([*SMALL, "precision=fp32"]))
    small.setattr(Program, "settings", lambda *arguments: settings(*arguments))
    program, printed = load_paper("mgre").module("location_check"), []
    for device in ("cpu", GPU):
        with PretendGPU():
            program.main(["--demo", "--data-root", str(tiny_data), "--epochs", "1", "--device", device])
        printed.append(capsys.readouterr().out)
    assert "predicted" in printed[0] and printed[1] == printed[0]


def test_mgres_latency_is_measured(tiny_data, small):
    latency = load_paper("mgre").module("latency")
    names = [("ResNet101", "baseline"), ("MGRe", "full")]
    networks = tuple(latency.Network(f"Baseline+{title}", variant, "resnet18") for title, variant in names)
    small.setattr(latency, "NETWORKS", networks)
    argv = ["--demo", "--data-root", str(tiny_data), "--device", GPU]
    with PretendGPU():
        measured = latency.measure(Program.open("mgre", "latency", argv, description=""), batch_size=1, repetitions=1)
    assert measured["resnet101"]["ratio"] == 1 and measured["mgre"]["seconds"] > 0


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_features_on_the_gpu_are_scored_and_re_ranked(metric):
    generator = np.random.default_rng(0)
    query, gallery = (torch.from_numpy(generator.normal(size=(n, 16)).astype(np.float32)) for n in (10, 40))
    labels = [generator.integers(4, size=n) for n in (10, 40)] + [np.repeat(1, 10), np.repeat(2, 40)]
    on_cpu = rank_feature_matches(query, gallery, *labels, metric=metric, protocol="market1501").scores("step")
    distances = k_reciprocal_distances(query, gallery)
    with PretendGPU():
        query, gallery = query.to(GPU), gallery.to(GPU)
        on_gpu = rank_feature_matches(query, gallery, *labels, metric=metric, protocol="market1501").scores("step")
        assert on_gpu.mAP == on_cpu.mAP and (on_gpu.cmc == on_cpu.cmc).all()
        assert (k_reciprocal_distances(query, gallery) == distances).all()
