"""What is timed, the plain loop beside it, the compiled backbone, and an epoch."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from benchmarks.gpu import epoch, speed, subject
from benchmarks.gpu.command import Check
from benchmarks.gpu.speed import StepTimer, compiled_backbones
from benchmarks.observe import Enough
from common.backbones import build_resnet

OWN = {"precision", "batch", "size", "images_per_second", "memory"}
PLAIN = {"plain_images_per_second", "plain_memory"}


def test_steps_are_timed_within_epochs_after_the_warm_up(make_subject, monkeypatch):
    case = make_subject("ndmf_net")
    case = case.__class__(**vars(case) | {"scale": case.scale.__class__(warm_up=2, seconds=2.5)})
    timer, times = StepTimer(case), iter([0, 0, 10, 10, 11, 11, 20, 20, 21.5, 21.5])
    monkeypatch.setattr(speed.time, "monotonic", lambda: next(times))
    for in_epoch in (1, 2, 3, 1):  # the first two warm up; the first of an epoch follows a checkpoint
        timer(SimpleNamespace(num_steps=in_epoch), {}, 8)
    assert timer.seconds == 1 and timer.images == 8
    with pytest.raises(Enough):
        timer(SimpleNamespace(num_steps=2), {}, 8)
    assert timer.seconds == 2.5 and timer.images == 16


def test_training_and_inference_have_a_plain_loop_of_the_same_batch(make_subject, monkeypatch):
    case = make_subject("mutual_attention", pairs_per_batch=8)
    batches, noise, timers, timer = [], speed.noise_images, [], speed.StepTimer
    monkeypatch.setattr(speed, "noise_images", lambda run, count: batches.append(count) or noise(run, count))
    monkeypatch.setattr(speed, "StepTimer", lambda subject: timers.append(timer(subject)) or timers[-1])
    monkeypatch.setattr(speed, "measured", lambda step, subject: (float(step()), 11))  # a step takes a second
    training, inference = speed.training(case, "fp32"), speed.inference(case)
    for found in (training, inference):
        assert set(found) == OWN | PLAIN and found["size"] == "resnet18, 64x32" and found["plain_memory"] == 11
    assert training["images_per_second"] == 2 * timers[0].images / timers[0].seconds  # both images of a pair
    assert (training["batch"], training["plain_images_per_second"]) == (16, 16)
    assert (inference["batch"], inference["images_per_second"], inference["plain_images_per_second"]) == (32, 32, 32)
    assert batches == [16, 32]  # eight pairs; all 32 training images of the tiny data set


def test_the_papers_own_settings_are_measured_without_pretrained_weights(make_subject):
    case = make_subject("fgsam")
    settings = case.run(speed.own_words(case, "fp32")).settings
    assert (settings.pretrained, settings.pose_weights, settings.phase_epochs) == ("none", "none", [0, 0, 400])
    assert settings.identities_per_batch == 16 and settings.bilinear_size == 8192  # not the demo's 8 and 1024


def test_the_backbone_is_compiled_stage_by_stage(monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda module: compiled.append(module))
    with compiled_backbones() as found:
        network = build_resnet("resnet18", last_stride=1, pretrained="none")
    assert found == [network] and compiled == list(network.children()) and len(compiled) == 5
    build_resnet("resnet18", last_stride=1, pretrained="none")
    assert len(compiled) == 5


def test_a_compiler_that_fails_is_a_message(make_subject, monkeypatch):
    def fail(module):
        raise RuntimeError("no compiler\nand its trace")

    monkeypatch.setattr(nn.Module, "compile", fail)
    case = make_subject("ndmf_net", identities_per_batch=2, num_parts=4)
    check = Check(torch.device("cpu"), ["ndmf_net"], scale=case.scale)
    (task,) = [task for task in check.tasks("speed") if "compiled" in task.what]
    check.measure(task)
    assert check.results.entry("speed", task.what, "ndmf_net").error == "RuntimeError: no compiler"


def test_an_epoch_is_trained_and_evaluated(make_subject):
    found = epoch.epoch(make_subject("ndmf_net", identities_per_batch=2, num_parts=4))
    assert found["images"] == 32 and found["train_seconds"] > 0 and found["evaluate_seconds"] > 0
    assert found["size"] == "resnet18, 64x32" and found["decode_seconds"] >= 0


def test_real_data_are_never_measured(monkeypatch, tmp_path):
    opened = []
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "real"))
    monkeypatch.setenv("REID_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(subject, "open_dataset", lambda name, size: opened.append((name, size)))
    case = subject.Subject(subject.spec_of("dfw_crossmodal"), torch.device("cuda", 1), tmp_path)
    words = case.words(demo=False, size="full", num_epochs=1)
    assert words[words.index("--data-root") + 1] == str(tmp_path / "data" / "synthetic" / "full")
    assert words[words.index("--device") + 1] == "cuda:1" and words[-1] == "num_epochs=1" and "--demo" not in words
    assert opened == [("sysu_mm01", "full")]  # generated where it is missing
