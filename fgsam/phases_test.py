"""The phases: all in one command, each alone, interrupted and resumed, and with wrong files."""

import json
import shutil
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from common.datasets.synthetic import make_dataset
from common.errors import UserError
from common.runs import Meter, reopen_run
from common.runs.settings import settings_hash

from . import predict_attributes, pretrain_pose, train
from .count_attributes import main as count_attributes
from .evaluate import load_run, network_of
from .figures import carried, fig6
from .model_test import settings_of
from .phases import previous_file
from .settings import Settings
from .skeleton import PARTS

SMALL = ["height=64", "width=32", "bilinear_size=32", "identities_per_batch=4", "phase_epochs=[2, 2, 1]"]
SMALL += ["pose_image_height=64", "pose_image_width=32", "pose_epochs=1", "precision=fp32"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with two tiny data sets, where runs are kept as well."""
    root = tmp_path_factory.mktemp("phases")
    for name in ("market1501", "dukemtmcreid"):
        make_dataset(root / name, like=name, size="tiny", processes=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REID_RUNS", str(root / "runs"))
        patch.setenv("REID_DATA", str(root))
        patch.delenv("DATA_ROOT", raising=False)
        yield root


def kept(place):
    """The folder that holds the paper's runs, where no other is asked for."""
    return place / "runs" / train.__package__


def start(place, *settings, run, dataset="market1501", variant="full", resume=False):
    words = ["--demo", "--dataset", dataset, "--data-root", str(place), "--device", "cpu", "--variant", variant]
    words += ["--run-dir", str(place / run), "--set", *SMALL, *settings]
    train.main([*words, "--resume"] if resume else words)
    return place / run


@pytest.fixture(scope="module")
def whole(place):
    return start(place, run="whole")


def test_one_command_trains_all_phases(whole, place):
    record = json.loads((whole / "result.json").read_text())
    assert [entry["phase"] for entry in record["log"]] == [1, 1, 2, 2, 3]
    assert [set(record["log"][i]) & {"attribute_loss", "triplet_loss"} for i in (1, 3, 4)] == [
        set(),
        {"attribute_loss"},
        {"attribute_loss", "triplet_loss"},
    ]
    joints = record["scores"]["joints"]
    assert set(joints) == {"phase0", "phase2", "phase3", "growth", "mean_joints"}
    assert ["joint_distance" in entry for entry in record["log"]] == [False, False, True, True, True]
    assert (joints["phase2"], joints["phase3"]) == tuple(record["log"][i]["joint_distance"] for i in (3, 4))
    assert joints["growth"] == joints["phase3"] / joints["phase0"]
    found = record["scores"]["attributes"]
    assert 1 <= len(found) <= 12 and all(0 <= task["accuracy"] <= 1 for task in found.values())
    assert list((kept(place) / "pose_nets").glob("*/pose_net.pth"))


def weights(run):
    return torch.load(run / "last.pth", weights_only=True)["model"]


def test_a_run_interrupted_in_every_phase_ends_as_one_that_was_not(place, whole, monkeypatch):
    finish_epoch = Meter.finish_epoch

    def then_interrupt(self, *arguments, **entry):
        finish_epoch(self, *arguments, **entry)
        raise KeyboardInterrupt

    run = place / "interrupted"
    for epoch in range(1, 5):  # within phases 1 and 2, and at their ends
        monkeypatch.setattr(Meter, "finish_epoch", then_interrupt)
        with pytest.raises(SystemExit) as stopped:
            start(place, run="interrupted", resume=epoch > 1)
        assert stopped.value.code == 130 and len((run / "log.jsonl").read_text().splitlines()) == epoch
        if epoch == 3:
            assert load_run(run, "cpu").model.branches.keys() == {"plenary"}  # the network of phase 2
    monkeypatch.setattr(Meter, "finish_epoch", finish_epoch)
    start(place, run="interrupted", resume=True)
    expected, found = weights(whole), weights(run)
    assert expected.keys() == found.keys() and all(torch.equal(expected[name], found[name]) for name in expected)


def test_each_phase_by_itself_gives_what_the_chain_gives(place, whole):
    start(place, "phase=1", run="alone+phase=1")
    start(place, "phase=2", run="alone+phase=2")
    second = place / "alone+phase=2" / "phase2.pth"
    start(place, "phase=3", f"start_from={second}", run="third")
    assert (place / "third" / "result.json").is_file()
    # In the chain epochs count through all phases, so that only phase 1 has the same batches.
    alone, chained = (
        torch.load(folder / "phase1.pth", weights_only=True) for folder in (place / "alone+phase=1", whole)
    )
    assert alone["identity"] == chained["identity"]
    assert all(torch.equal(alone["model"][name], chained["model"][name]) for name in alone["model"])


def test_a_phase_starts_from_the_run_or_file_that_is_named(tmp_path):
    def file(start_from, phase=3):
        dataset = SimpleNamespace(name="market1501", kind="demo")
        directory = tmp_path / f"market1501-demo-lram+phase={phase}-s2"
        settings = settings_of(phase=phase, start_from=start_from)
        return previous_file(SimpleNamespace(settings=settings, dataset=dataset, directory=directory, seed=2), phase)

    assert file("auto") == tmp_path / "market1501-demo-lram+phase=2-s2" / "phase2.pth"
    assert file("full") == tmp_path / "market1501-demo-full-s2" / "phase2.pth"
    assert file("base+phase=1", 2) == tmp_path / "market1501-demo-base+phase=1-s2" / "phase1.pth"
    assert str(file("elsewhere/phase2.pth")) == "elsewhere/phase2.pth"


def test_phase_0_has_the_runs_seed(whole):
    run = load_run(whole, "cpu").run
    assert [pretrain_pose.pose_run_for(replace(run, seed=seed)).seed for seed in (0, 3)] == [0, 3]


def test_phase_0_of_another_source_code_has_a_folder_of_its_own(whole, monkeypatch):
    monkeypatch.setattr(pretrain_pose, "source_of", pretrain_pose.source_of.__wrapped__)  # which is asked only once
    run, asked = load_run(whole, "cpu").run, []
    today = pretrain_pose.pose_run_for(run).directory
    monkeypatch.setattr(pretrain_pose.record, "source_hash", lambda module: asked.append(module) or "0" * 16)
    changed = pretrain_pose.pose_run_for(run).directory
    assert (today / "pose_net.pth").is_file() and not (changed / "pose_net.pth").is_file()
    assert changed.name.endswith("-00000000-s0") and asked == [f"{train.__package__}.pretrain_pose"]


def refusal(capsys, place, *settings, run="refused", **options):
    shutil.rmtree(place / run, ignore_errors=True)
    with pytest.raises(SystemExit) as stopped:
        start(place, *settings, run=run, **options)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_wrong_files_are_refused_with_the_reason(place, whole, capsys):
    first, second = whole / "phase1.pth", whole / "phase2.pth"
    assert "another phase: 1, but 2 is needed" in refusal(capsys, place, "phase=3", f"start_from={first}")
    assert "another phase: 2, but 1 is needed" in refusal(capsys, place, "phase=2", f"start_from={second}")
    said = refusal(capsys, place, "phase=2", f"start_from={first}", dataset="dukemtmcreid")
    assert "another dataset: market1501, but dukemtmcreid is needed" in said
    assert "another cpb: True, but False" in refusal(capsys, place, "phase=3", f"start_from={second}", variant="no_cpb")
    assert "phase1.pth does not exist: train it first (--set phase=1)" in refusal(capsys, place, "phase=2")
    said = refusal(capsys, place, "phase=3", "start_from=lram")
    assert "phase2.pth does not exist: train the run lram of the same data set and seed first" in said
    damaged = place / "damaged.pth"
    damaged.write_bytes(first.read_bytes()[:1000])
    assert "is damaged or no checkpoint" in refusal(capsys, place, "phase=2", f"start_from={damaged}")
    said = refusal(capsys, place, "phase=2", f"start_from={first}", f"pose_weights={second}")
    assert "another phase: 2, but 0 is needed" in said
    said = refusal(capsys, place, "phase=2", f"start_from={first}", f"pose_weights={place / 'none.pth'}")
    assert "none.pth does not exist: name another file of phase 0" in said
    assert "msmt17 has no attributes" in refusal_without_attributes(capsys, place)


def refusal_without_attributes(capsys, place):
    make_dataset(place / "MSMT17_V1", like="msmt17", size="tiny", processes=1)
    return refusal(capsys, place, dataset="msmt17")


def test_the_pose_net_is_trained_once_and_scored_by_its_own_command(place, whole, capsys):
    words = ["--demo", "--data-root", str(place), "--device", "cpu", "--set", *SMALL]
    pretrain_pose.main(words)
    assert "from the true joints" in capsys.readouterr().out
    (file,) = kept(place).glob("*-pretrain_pose-s0/result.json")
    record = json.loads(file.read_text())
    assert record["scores"]["joint_distance"] > 0 and record["scores"]["mean_joints_distance"] > 0
    settings = pretrain_pose.program_settings(load_run(whole, "cpu").run.settings)
    assert record["config_hash"] == settings_hash(settings)
    (folder,) = (kept(place) / "pose_nets").glob("market1501-*")  # that of the chain
    assert (folder / "joints.png").is_file()
    with pytest.raises(SystemExit):
        pretrain_pose.main([*words, "--seed", "3"])
    assert "the record of phase 0 is that of seed 0: leave --seed out" in capsys.readouterr().err


def test_a_run_waits_while_another_trains_the_pose_net_that_both_need(tmp_path, monkeypatch, capsys):
    run = SimpleNamespace(directory=tmp_path / "net")
    run.directory.mkdir()
    monkeypatch.setattr(pretrain_pose, "WAIT_SECONDS", 0.1)
    monkeypatch.setattr(pretrain_pose, "train", lambda *_: pytest.fail("it is trained twice"))
    with pretrain_pose.one_at_a_time(run):
        waiting = threading.Thread(target=pretrain_pose.trained_pose_net, args=[run])
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive() and "another run trains" in capsys.readouterr().err
        pretrain_pose.pose_file(run).touch()
    waiting.join(5)
    assert not waiting.is_alive()


def test_table_1_is_counted(place, capsys):
    count_attributes(["--dataset", "market1501", "--data-root", str(place), "--device", "cpu"])
    assert "12 attribute tasks, gender" in capsys.readouterr().out
    (file,) = kept(place).glob("*-count_attributes-s0/result.json")
    assert json.loads(file.read_text())["scores"]["tasks"]["handbag"] == 1


def test_a_run_without_a_checkpoint_has_the_network_of_its_last_phase_and_cannot_be_loaded(place, monkeypatch, capsys):
    def interrupt(*arguments, **entry):
        raise KeyboardInterrupt

    monkeypatch.setattr(Meter, "finish_epoch", interrupt)
    with pytest.raises(SystemExit):
        start(place, run="begun")
    with pytest.raises(UserError, match="no epoch was finished"):
        load_run(place / "begun", "cpu")
    run = reopen_run(train.__package__, Settings, place / "begun", "cpu")
    assert list(network_of(run).model.branches) == ["plenary", *PARTS]


def test_attributes_are_printed_and_runs_without_them_say_so(place, whole, capsys):
    image = next((place / "market1501" / "query").glob("*.jpg"))
    predict_attributes.main([str(whole), str(image), "--device", "cpu"])
    said = capsys.readouterr().out
    assert str(image) in said and "lower colour" in said and "gender" in said
    base = start(place, "phase_epochs=[1, 0, 0]", run="base", variant="base")
    with pytest.raises(SystemExit):
        predict_attributes.main([str(base), str(image), "--device", "cpu"])
    assert "has learned no attributes" in capsys.readouterr().err


def test_fig_6_has_a_map_for_each_part(whole, tmp_path):
    data = fig6({"full": load_run(whole, "cpu")}, tmp_path / "fig6.png")
    assert list(data["maps"]) == [part.replace("_", " ") for part in PARTS]
    assert [row[0] for row in data["table"]["rows"]] == list(data["maps"])
    assert (tmp_path / "fig6.png").stat().st_size < 300_000
    json.dumps(data)
    base = SimpleNamespace(model=None, run=SimpleNamespace(directory="base"))
    for figure in (fig6, carried):
        with pytest.raises(UserError, match="base has no pose resolve net"):
            figure({"base": base}, tmp_path / "none.png")
