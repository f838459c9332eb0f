"""Probes of this machine's speed: what they count, and that they leave nothing."""

import os
import time
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.observe import Enough
from benchmarks.reproduce import probe
from benchmarks.reproduce.plan import PlannedRun
from benchmarks.reproduce.probe import Steps, embedding_rate, training_rate
from common.datasets.synthetic import make_dataset
from common.paper import load_paper
from common.runs import open_run

SMALL = ["height=64", "width=32", "identities_per_batch=2", "images_per_identity=2", "num_parts=4"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    make_dataset(root / "market1501", size="tiny")
    return root


@pytest.fixture
def planned(data, tmp_path, monkeypatch):
    """planned(further words): NDMF-Net on tiny images; its runs are in tmp_path."""
    monkeypatch.setenv("REID_RUNS", str(tmp_path / "runs"))

    def make(*more, sets=()):
        words = ["--demo", "--data-root", str(data), "--dataset", "market1501", "--device", "cpu"]
        words += ["--set", *SMALL, *sets]
        run = open_run("ndmf_net", load_paper("ndmf_net").settings.Settings, words)
        return PlannedRun(run.directory.name, run.directory, "ndmf_net.train", [*words, *more], "new", 0, 0, run)

    return make


def steps_at(times, variants, monkeypatch):
    """What an observer has found after steps of ten images that end at these times."""
    clock = iter(times)
    monkeypatch.setattr(probe.time, "monotonic", lambda: next(clock))
    steps = Steps("full")
    try:
        for variant in variants:
            steps(SimpleNamespace(run=SimpleNamespace(variant=variant)), {}, 10)
    except Enough:
        return steps, True
    return steps, False


def test_the_first_steps_do_not_count(monkeypatch):
    assert steps_at([50, 60], ["full"] * 2, monkeypatch)[0].rate is None
    steps, enough = steps_at([50, 60, 61, 63], ["full"] * 4, monkeypatch)
    assert steps.rate == 20 / 3 and not enough


def test_it_ends_after_some_seconds_and_steps(monkeypatch):
    steps, enough = steps_at([0, 1, 4, 7, 8], ["full"] * 5, monkeypatch)
    assert enough and steps.num_steps == 4 and steps.rate == 20 / 6
    slow, enough = steps_at([0, 40, 80, 120], ["full"] * 4, monkeypatch)
    assert enough and slow.num_steps == 4 and slow.rate == 20 / 80
    fast, enough = steps_at(np.arange(1000) / 100, ["full"] * 1000, monkeypatch)
    assert enough and fast.num_steps == probe.MOST_STEPS


def test_a_training_that_comes_before_the_asked_one_says_nothing(monkeypatch):
    steps, enough = steps_at([0], ["pretrain_pose"], monkeypatch)
    assert enough and steps.rate is None


def test_a_training_is_probed_with_its_own_words_and_leaves_nothing(planned, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(probe, "SECONDS", 0.0)
    asked = planned("--resume", "--force")
    before = os.environ["REID_RUNS"]
    started = time.monotonic()
    rate = training_rate(asked)
    least = 4 * probe.LEAST_STEPS / (time.monotonic() - started)  # images of its measured steps
    assert least < rate < 10_000
    assert not asked.directory.exists() and os.environ["REID_RUNS"] == before
    assert capfd.readouterr() == ("", "")


def test_what_cannot_be_trained_has_no_rate(planned, tmp_path):
    asked = planned()
    asked.arguments += ["pretrained=" + str(tmp_path / "absent.pth")]
    assert training_rate(asked) is None


def test_the_probe_measures_the_papers_own_network(planned):
    run = planned().run
    started = time.monotonic()
    rate = embedding_rate(run, batches=1)
    assert probe.PROBE_IMAGES / (time.monotonic() - started) < rate < 10_000
