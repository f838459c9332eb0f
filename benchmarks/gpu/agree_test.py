"""Agreement of a GPU with the CPU: the same on a pretend GPU, planted errors, noise of seeds."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.gpu import agree
from benchmarks.gpu.agree import LIMIT, compared_losses, noise_of
from benchmarks.gpu.subject import OutOfTime
from benchmarks.observe import Enough
from benchmarks.pretend_gpu import PretendGPU
from common.evaluation import LoadedRun
from common.runs import Run

SMALL = {
    "mutual_attention": {"pairs_per_batch": 8},
    "ndmf_net": {"identities_per_batch": 2, "num_parts": 4, "ndem": False},  # the pretend GPU has no LSTM of a GPU's
}


@pytest.fixture
def on_gpu(make_subject):
    return lambda paper: make_subject(paper, "cuda:0", **SMALL[paper])


def test_a_pretend_gpu_agrees(on_gpu):
    subject = on_gpu("ndmf_net")
    with PretendGPU():
        features, losses = agree.features(subject), agree.losses(subject)
    assert features["agrees"] and features["images"] == 8 and features["difference"] < 1e-5
    assert losses["agrees"] and losses["steps"] == 3 and losses["steps_within_strict_limit"] == 3


def test_dropout_is_off_and_both_devices_compute_in_fp32(on_gpu, monkeypatch):
    subject, seen = on_gpu("mutual_attention"), []

    def train(self, words, observer):
        run = self.run(words)
        seen.append((run.settings.dropout, run.precision, run.device.type))
        with pytest.raises(Enough):
            for _ in range(3):
                observer(None, {"loss": 2.0}, 4)

    monkeypatch.setattr(type(subject), "train", train)
    with PretendGPU():
        agree.losses(subject)
    assert seen == [(0, "fp32", "cpu"), (0, "fp32", "cuda"), (0, "fp32", "cpu")]


def test_perturbed_weights_on_one_device_differ(on_gpu, monkeypatch):
    ready = LoadedRun.ready

    def perturbed(loaded):
        with torch.no_grad():
            for parameter in loaded.model.parameters():
                parameter *= 1 + 0.01 * torch.rand(parameter.shape) * (loaded.run.device.type == "cuda")
        return ready(loaded)

    monkeypatch.setattr(LoadedRun, "ready", perturbed)
    with PretendGPU():
        found = agree.features(on_gpu("mutual_attention"))
    assert not found["agrees"] and found["difference"] > LIMIT


def test_another_learning_rate_on_one_device_differs_after_the_first_step(on_gpu, monkeypatch):
    words = type(on_gpu("ndmf_net")).words

    def other_rate(self, *, device="", **settings):
        return words(self, device=device, **settings, warmup_peak=1e-4 if device == "cpu" else 2e-4)

    monkeypatch.setattr(type(on_gpu("ndmf_net")), "words", other_rate)
    with PretendGPU():
        found = agree.losses(on_gpu("ndmf_net"))
    assert not found["agrees"] and found["steps_within_strict_limit"] == 1


def test_a_run_that_ends_too_soon_is_an_error(make_subject):
    subject = make_subject("mutual_attention", pairs_per_batch=4, num_epochs=0)
    with pytest.raises(agree.UserError, match="ended after 0 steps, 3 are compared"):
        agree.first_losses(subject, "cpu")


def test_the_limit_of_losses_follows_what_rounding_does():
    cpu = np.array([4.0, 4.0, 2.0, 2.0])
    rounded = cpu * (1 + np.array([0, 1e-4, 1e-2, 1e-3]))  # limits: 1e-3, 1e-3, 3e-2, 3e-2
    within = compared_losses(cpu, cpu * (1 + np.array([1e-6, 5e-4, 2e-2, -2.9e-2])), rounded)
    assert within["agrees"] and within["steps_within_strict_limit"] == 2 and within["worst_step"] == 4
    assert within["largest_rounding"] == pytest.approx(1e-2) and within["limit"] == pytest.approx(3e-2)
    early = compared_losses(cpu, cpu * (1 + np.array([0, 2e-3, 0, 2e-2])), rounded)
    assert not early["agrees"] and early["worst_step"] == 2 and early["limit"] == LIMIT
    assert early["difference"] == pytest.approx(2e-3) and early["largest_difference"] == pytest.approx(2e-2)
    assert not compared_losses(cpu, cpu * np.nan, rounded)["agrees"]


def test_a_demo_run_that_is_out_of_time_resumes_and_is_scored(make_subject, monkeypatch, make_record):
    subject = make_subject("ndmf_net", num_epochs=2, **SMALL["ndmf_net"])
    committed = [make_record(seed=seed, mAP=0.2 + 0.01 * seed) for seed in range(3)]
    monkeypatch.setattr(agree, "committed_records", lambda subject: committed)
    steps = []

    def in_the_second_epoch(self, meter, *_):
        steps.append(meter.epoch)
        if meter.epoch == 2:
            raise OutOfTime

    with monkeypatch.context() as patch, pytest.raises(OutOfTime):
        patch.setattr(type(subject), "check_time", in_the_second_epoch)
        agree.scores(subject)
    monkeypatch.setattr(type(subject), "check_time", lambda self, meter, *_: steps.append(meter.epoch))
    found = agree.scores(subject)
    number = steps.count(1)
    assert steps == [1] * number + [2] * (1 + number)  # the second epoch alone was trained again
    assert found["committed"] == pytest.approx([0.2, 0.21, 0.22]) and found["limit"] == pytest.approx(0.02)
    assert found["agrees"] == (abs(found["mAP"] - 0.21) <= 0.02) and found["difference"] >= 0
    assert agree.scores(subject)["mAP"] == found["mAP"] and len(steps) == 2 * number + 1  # the finished run is read


def test_time_is_over_at_the_deadline(make_subject):
    subject = make_subject("ndmf_net")
    subject.check_time()
    with pytest.raises(OutOfTime):
        replace(subject, deadline=time.monotonic() - 1).check_time()


def test_scores_are_judged_by_the_noise_of_seeds(make_subject, make_record, monkeypatch):
    subject = make_subject("ndmf_net")
    seeds = [make_record(seed=seed, mAP=mAP) for seed, mAP in enumerate((0.48, 0.50, 0.52))]
    by_paper = {"ndmf_net": seeds, "mgre": [make_record(paper="mgre", mAP=0.6)]}
    monkeypatch.setattr(agree, "committed_records", lambda subject: by_paper.get(subject.spec.paper, []))
    assert noise_of(seeds).limit == pytest.approx(0.04)  # two sample standard deviations of 0.02
    assert agree.judged(subject, 0.535)["agrees"] and not agree.judged(subject, 0.545)["agrees"]
    one = agree.judged(make_subject("mgre"), 0.65)
    assert not one["agrees"] and one["limit"] == pytest.approx(0.04)
    assert one["noise"].startswith("noise unknown (one seed); taken from NDMF-Net")
    assert one["stale"].startswith("source code")  # the made-up record's source is not today's
    assert agree.judged(make_subject("fgsam"), 0.5) == {"agrees": None, "noise": "no committed record of this run"}
    del by_paper["ndmf_net"]
    with pytest.raises(agree.UserError, match="no paper has committed records of 3 seeds"):
        agree.judged(make_subject("mgre"), 0.65)


def test_the_seed_is_the_same_on_both_devices(on_gpu, monkeypatch):
    seed_epoch = Run.seed_epoch
    monkeypatch.setattr(
        Run, "seed_epoch", lambda run, epoch: seed_epoch(replace(run, seed=run.device.type == "cuda"), epoch)
    )
    with PretendGPU():
        assert not agree.features(on_gpu("mutual_attention"))["agrees"]
