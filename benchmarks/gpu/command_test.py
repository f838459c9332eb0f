"""`make gpu`: without a GPU, resumed, out of time, with failures."""

import itertools
import json

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.gpu import agree, command, epoch, speed
from benchmarks.gpu.command import Check
from benchmarks.gpu.subject import OutOfTime
from benchmarks.pretend_gpu import PretendGPU
from common.errors import UserError


@pytest.fixture
def clock(monkeypatch):
    """clock.now: the time that the command sees."""

    class Clock:
        now = 0.0

    monkeypatch.setattr(command.time, "monotonic", lambda: Clock.now)
    return Clock


@pytest.fixture
def measured(monkeypatch, tmp_path, clock):
    """The names of measurements in order, each of which takes 30 s: two kinds of agreement, nothing else."""
    monkeypatch.setenv("REID_RUNS", str(tmp_path))
    found = []

    def measurement(what):
        def measure(subject):
            clock.now += 30
            found.append(f"{subject.spec.paper} {what}")
            return {"difference": 0.0, "limit": 1e-3, "agrees": True}

        return measure

    monkeypatch.setattr(agree, "MEASUREMENTS", {what: measurement(what) for what in ("features", "others")})
    for part in (speed, epoch):
        monkeypatch.setattr(part, "MEASUREMENTS", {})
    return found


def check(papers=("mgre", "ndmf_net"), seconds=480.0):
    return Check(torch.device("cpu"), papers, seconds)


ALL = ["mgre features", "ndmf_net features", "mgre others", "ndmf_net others"]


@pytest.mark.parametrize("words", [[], ["--device", "cuda"], ["--device", "cpu"]], ids=str)
def test_without_a_gpu_there_is_one_message_and_exit_code_2(words, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(command.devices, "NVIDIA_DRIVER", tmp_path / "none")
    with pytest.raises(SystemExit) as stop:
        main(["gpu", *words])
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: there is no GPU here.") and message.count("\n") == 1
    assert "`make test`" in message and "`make speed`" in message


def test_a_cpu_is_not_measured_beside_a_gpu(capsys):
    with PretendGPU(), pytest.raises(SystemExit) as stop:
        main(["gpu", "--device", "cpu"])
    assert stop.value.code == 2 and "measures a GPU, not cpu" in capsys.readouterr().err


def test_a_gpu_is_taken_and_named(measured, tmp_path, capsys):
    with PretendGPU():
        assert main(["gpu", "mgre"]) == 0
    content = json.loads((tmp_path / "gpu" / "pretend-gpu.json").read_text())
    assert content["machine"]["gpu"] == "pretend GPU"
    assert (tmp_path / "gpu" / "pretend-gpu.md").read_text().startswith("# On a GPU: pretend GPU\n")
    assert "MGRe, features: agrees" in capsys.readouterr().out and measured == ["mgre features", "mgre others"]


def test_the_same_command_measures_only_what_is_missing_or_has_changed(measured, monkeypatch):
    assert check().run(["agree"]) == [] and measured == ALL
    check().run(["agree"])
    assert measured == ALL
    monkeypatch.setattr(torch, "__version__", "99.0")
    check().run(["agree"])
    assert measured == ALL * 2
    hash_of = command.hash_of
    monkeypatch.setattr(command, "hash_of", lambda name: "changed" if name == "mgre.train" else hash_of(name))
    changed = check()
    assert changed.results.entry("agree", "features", "mgre") is None  # it shows nothing of another source
    changed.run(["agree"])
    assert measured[8:] == ["mgre features", "mgre others"]


def test_a_part_stops_in_time_and_the_same_command_goes_on(measured, clock, capsys):
    first = check(seconds=100.0)
    assert first.run(["agree"]) == ["agree: NDMF-Net, others"] and measured == ALL[:3]  # 90 s: a fourth would not fit
    summary = first.summary(["agree: NDMF-Net, others"])
    assert "1 measurements are left for the same command: agree: NDMF-Net, others" in summary
    assert check().run(["agree"]) == [] and measured == ALL


def test_all_parts_together_have_an_end(measured, clock, monkeypatch):
    monkeypatch.setattr(command, "SECONDS_IN_ALL", 40.0)
    assert len(check().run(["agree"])) == 3


def test_a_measurement_that_is_longer_than_the_part_is_made_nevertheless(measured):
    short = check(["mgre"], 5.0)
    assert short.run(["agree"]) == ["agree: MGRe, others"] and measured == ["mgre features"]


def test_what_runs_out_of_time_is_left(measured, monkeypatch):
    def stopped(subject):
        raise OutOfTime

    monkeypatch.setitem(agree.MEASUREMENTS, "others", stopped)
    found = check()
    assert found.run(["agree"]) == ["agree: MGRe, others", "agree: NDMF-Net, others"]
    assert found.results.entry("agree", "others", "mgre") is None


def test_a_failure_is_kept_as_a_message_and_tried_again_last(measured, monkeypatch, capsys, tmp_path):
    working, fail = agree.MEASUREMENTS["features"], itertools.count()

    def failing(subject):
        if next(fail) == 0:
            raise UserError(f"no disk space in {command.runs_folder()}\nand more")
        return working(subject)

    monkeypatch.setitem(agree.MEASUREMENTS, "features", failing)
    first = check(["mgre"])
    first.run(["agree"])
    assert first.results.entry("agree", "features", "mgre").error == "UserError: no disk space in runs"
    assert "**MGRe, features: failed, UserError" in first.page.read_text()
    monkeypatch.setitem(agree.MEASUREMENTS, "new", agree.MEASUREMENTS["others"])
    check(["mgre"]).run(["agree"])
    assert measured == ["mgre others", "mgre others", "mgre features"]


def test_a_difference_is_an_exit_code(measured, monkeypatch):
    monkeypatch.setitem(
        agree.MEASUREMENTS, "features", lambda subject: {"difference": 0.1, "limit": 1e-3, "agrees": False}
    )
    with PretendGPU():
        assert main(["gpu", "mgre"]) == 1
