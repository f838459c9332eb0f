import hashlib
import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from pydantic.dataclasses import dataclass

from common.datasets.arguments import find_data_root
from common.errors import UserError
from common.files import read_json
from common.runs import Meter, open_run, reopen_run
from common.runs.lock import lock_file
from common.runs.opening import training_command_line
from common.runs.record import Record


@dataclass(frozen=True)
class Settings:
    num_epochs: int
    width: int
    precision: str
    checkpoint_epochs: int


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Read a command line of a paper that exists only in this test, on a data set of nine blank images."""
    package = tmp_path / "my_paper"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "train.py").write_text("first = 1\n")
    (package / "config.yaml").write_text(
        "num_epochs: 3\nwidth: 4\nprecision: fp32\ncheckpoint_epochs: 1\nvariants: {full: {}, thin: {width: 2}}\n"
    )
    (package / "demo.yaml").write_text("num_epochs: 2\n")
    folder = tmp_path / "data" / "market1501"
    for subset in ("bounding_box_train", "query", "bounding_box_test"):
        (folder / subset).mkdir(parents=True)
        for person, camera in ((2, 1), (2, 2), (7, 1)):
            Image.new("RGB", (4, 8)).save(folder / subset / f"{person:04d}_c{camera}s1_000001_01.jpg")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_paper", raising=False)  # another test's
    monkeypatch.setenv("REID_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("DATA_ROOT", raising=False)
    handler = signal.getsignal(signal.SIGTERM)

    def start(*words):
        argv = ["--data-root", str(tmp_path / "data"), "--device", "cpu", *words]
        return open_run("my_paper", Settings, argv)

    yield start
    signal.signal(signal.SIGTERM, handler)


def train(run, model, epochs):
    """One Linear layer whose weight counts the epochs that it has seen, two steps of four images each."""
    run.begin()
    last = run.restore(model=model)
    meter = Meter(run, run.settings.num_epochs, 8, last_epoch=last)
    for epoch in range(last + 1, epochs + 1):
        run.seed_epoch(epoch)
        with torch.no_grad():
            model.weight += 1
        for step in range(2):
            meter.update({"loss": torch.tensor(1.0 / epoch), "other_loss": torch.tensor(float(step))}, 4)
        meter.finish_epoch({"model": model}, learning_rate=0.1)
    meter.close()
    return last


def layer():
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    return model


def test_directories_are_named_by_data_set_kind_variant_overrides_and_seed(start, tmp_path):
    assert start().directory == tmp_path / "runs" / "my_paper" / "market1501-real-full-s0"
    assert start("--variant", "thin", "--seed", "3").directory.name == "market1501-real-thin-s3"
    assert start("--set", "width=9", "num_epochs=1").directory.name == "market1501-real-full+num_epochs=1+width=9-s0"
    assert start("--demo").directory.name == "market1501-real-full+demo-s0"
    assert start("--run-dir", str(tmp_path / "x")).directory == tmp_path / "x"


def test_an_interrupted_run_resumes_after_its_last_epoch_and_a_finished_one_is_kept(start):
    model = layer()
    run = start()
    assert run.state() == "new"
    train(run, model, epochs=2)
    assert start().state() == "interrupted"
    with pytest.raises(UserError, match="--resume"):
        start().begin()

    model = layer()
    run = start("--resume")
    assert train(run, model, epochs=3) == 2
    assert model.weight.item() == 3
    assert [entry["epoch"] for entry in run.history.log] == [1, 2, 3]
    assert run.history.trained_images == 24
    assert run.history.log[1] == {"epoch": 2, "loss": 0.5, "other_loss": 0.5, "learning_rate": 0.1} | {
        "seconds": run.history.log[1]["seconds"]
    }
    run.finish({"mAP": 0.5, "rank1": 0.6}, {"macs": 1})
    record = Record.model_validate(json.loads((run.directory / "result.json").read_text()))
    assert record.data.counts["train"] == {"images": 3, "identities": 2, "cameras": 2}
    assert record.kind == "real" and record.unmodified_config and record.num_epochs == 3
    assert record.model == {"macs": 1} and record.log == tuple(run.history.log)
    assert (run.directory / "curves.png").is_file()
    assert start().state() == "finished"
    with pytest.raises(SystemExit) as stop:
        start("--resume").begin()
    assert stop.value.code == 0

    model = layer()
    assert train(start("--force"), model, epochs=1) == 0
    assert not (run.directory / "result.json").exists()


def test_a_run_whose_source_changed_while_it_was_interrupted_is_stale(start, tmp_path):
    train(start(), layer(), epochs=1)
    (tmp_path / "my_paper" / "train.py").write_text("first = 2\n")
    train(start("--resume"), layer(), epochs=2)  # interrupted once more, with the source of its second epoch
    run = start("--resume")
    train(run, layer(), epochs=3)
    run.finish({"mAP": 0.5, "rank1": 0.6}, {"macs": 1})
    assert json.loads((run.directory / "result.json").read_text())["source_hash"] == "mixed"
    assert start().state() == "stale"


def test_all_processes_share_buffers_after_each_epoch(start, monkeypatch):
    shared, model = [], layer()
    monkeypatch.setattr("common.distributed.share_buffers", lambda *parts: shared.append(parts))
    train(start(), model, epochs=2)
    assert shared == [(model,), (model,)]


@pytest.fixture
def another_process():
    """another_process(file): a process that holds a lock file until it is killed."""
    program = "import sys; from filelock import FileLock; lock = FileLock(sys.argv[1]); lock.acquire()"
    started = []

    def hold(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, "-c", f"{program}; print('held', flush=True); sys.stdin.read()", str(file)]
        started.append(subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        assert started[-1].stdout.readline() == b"held\n"
        return started[-1]

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def test_a_second_process_is_refused_until_the_first_has_ended_even_if_killed(start, another_process):
    run = start()
    holder = another_process(lock_file(run.directory))
    lock_file(run.directory).write_text("process 12 on a_host since today")
    run.directory.mkdir()
    (run.directory / "last.pth").touch()
    for words in ((), ("--resume",), ("--force",)):
        with pytest.raises(UserError, match=r"in use by process 12 on a_host since today: wait until it has ended"):
            start(*words).begin()
    assert [file.name for file in run.directory.iterdir()] == ["last.pth"]
    holder.kill()
    holder.wait()
    start("--force").begin()
    assert f"process {os.getpid()} on " in lock_file(run.directory).read_text()


def test_changed_source_is_stale_and_changed_settings_are_another_run(start, tmp_path):
    run = start()
    train(run, layer(), epochs=3)
    run.finish({"mAP": 0.5, "rank1": 0.6}, {})
    (tmp_path / "my_paper" / "train_test.py").write_text("a test changes nothing\n")
    assert start().state() == "finished"
    (tmp_path / "my_paper" / "train.py").write_text('"""Nor does a docstring."""\n\nfirst = 1  # or a comment\n')
    assert start().state() == "finished"
    (tmp_path / "my_paper" / "train.py").write_text("second = 2\n")
    assert start().state() == "stale"
    (tmp_path / "my_paper" / "config.yaml").write_text(
        "num_epochs: 4\nwidth: 4\nprecision: fp32\ncheckpoint_epochs: 1\nvariants: {full: {}}\n"
    )
    assert start().state() == "different"
    with pytest.raises(UserError, match="another paper, config, seed or data set"):
        start("--resume").begin()


@dataclass(frozen=True)
class StartedSettings(Settings):
    pretrained: str


def test_other_starting_weights_make_a_finished_run_stale_and_are_not_resumed(start, tmp_path):
    """`pretrained: FILE` here; `synthetic` names a file too. Without either, nothing of a run's identity changes."""
    assert "weights" not in start().identity()
    file = tmp_path / "weights.pth"

    def started(content, *words):
        file.write_bytes(content)
        argv = ["--data-root", str(tmp_path / "data"), "--device", "cpu", "--set", f"pretrained={file}", *words]
        return open_run("my_paper", StartedSettings, argv)

    run = started(b"one")
    assert run.weights == hashlib.sha256(b"one").hexdigest()[:12] == run.identity()["weights"]
    train(run, layer(), epochs=2)
    assert started(b"one").state() == "interrupted"
    assert started(b"two").state() == "different"
    with pytest.raises(UserError, match="from other starting weights"):
        started(b"two", "--resume").begin()
    with pytest.raises(UserError, match=r"belongs to another run \(weights is"):
        started(b"two").restore(model=layer())

    run = started(b"one", "--resume")
    train(run, layer(), epochs=3)
    run.finish({"mAP": 0.5, "rank1": 0.6}, {})
    record = Record.model_validate(json.loads((run.directory / "result.json").read_text()))
    assert record.weights == run.weights
    assert (started(b"one").state(), started(b"two").state()) == ("finished", "stale")
    file.unlink()  # to score a trained network, the weights that it started from are not needed
    reopened = reopen_run("my_paper", StartedSettings, run.directory, "cpu")
    assert reopened.restore_trained(model=layer()) == 3 and reopened.weights == record.weights


def test_changed_data_are_another_run(start, tmp_path):
    train(start(), layer(), epochs=1)
    Image.new("RGB", (4, 9)).save(tmp_path / "data" / "market1501" / "query" / "0009_c1s1_000001_01.jpg")
    assert start().state() == "different"


def test_a_truncated_checkpoint_is_refused_and_the_previous_one_named(start):
    run = start()
    train(run, layer(), epochs=2)
    last = run.directory / "last.pth"
    last.write_bytes(last.read_bytes()[:200])
    with pytest.raises(UserError, match=r"last\.pth is damaged(.|\n)*previous\.pth"):
        start().restore(model=layer())
    (run.directory / "previous.pth").rename(last)
    model = layer()
    assert start().restore(model=model) == 1
    assert model.weight.item() == 1


def test_a_loss_that_is_not_finite_names_its_terms_and_the_last_good_checkpoint(start):
    run = start()
    meter = Meter(run, 3, 8)
    for _ in range(4):
        meter.update({"loss": torch.tensor(1.0)}, 4)
    broken = {"loss": torch.tensor(torch.nan), "triplet_loss": torch.tensor(torch.inf)}
    with pytest.raises(UserError, match=r"epoch 1, step 4: loss nan, triplet_loss inf; no epoch was finished"):
        meter.update(broken, 4)
    train(run, layer(), epochs=1)
    with pytest.raises(UserError, match=r"epoch 2, step 0.*last good checkpoint is .*last\.pth"):
        Meter(run, 3, 8, last_epoch=1).update(broken, 4)


def test_observers_see_every_step_and_may_end_the_training(start, monkeypatch):
    seen = []

    def observer(meter, terms, num_images):
        seen.append((meter.epoch, meter.num_steps, terms["loss"], num_images))
        if len(seen) == 2:
            raise StopIteration

    monkeypatch.setattr(Meter, "observers", [observer])
    meter = Meter(start(), 3, 8)
    meter.update({"loss": torch.tensor(2.0)}, 4)
    with pytest.raises(StopIteration):
        meter.update({"loss": torch.tensor(1.0)}, 3)
    assert seen == [(1, 1, 2.0, 4), (1, 2, 1.0, 3)]


def test_an_unwritable_directory_and_an_unusable_device_are_reported(start, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        start("--run-dir", str(tmp_path / "file" / "run")).begin()
    with pytest.raises(UserError, match="unknown device 'tpu9'"):
        start("--device", "tpu9")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match=r"no GPU here|cannot use it"):
            start("--device", "cuda")


def test_a_run_is_reopened_from_its_directory(start):
    run = start("--variant", "thin", "--seed", "4")
    train(run, layer(), epochs=1)
    again = reopen_run("my_paper", Settings, run.directory, "cpu")
    assert (again.settings, again.seed, again.variant) == (run.settings, 4, "thin")
    assert again.dataset.fingerprint == run.dataset.fingerprint
    with pytest.raises(UserError, match="not of other_paper"):
        reopen_run("other_paper", Settings, run.directory)
    with pytest.raises(UserError, match=r"no run\.json"):
        reopen_run("my_paper", Settings, run.directory.parent)


def test_epochs_of_a_resumed_run_have_the_same_seed(start):
    run = start()
    run.seed_epoch(5)
    first = torch.rand(3)
    run.seed_epoch(5)
    assert torch.equal(torch.rand(3), first)
    run.seed_epoch(6)
    assert not torch.equal(torch.rand(3), first)


def test_a_steps_draws_depend_on_seed_epoch_and_step(start):
    def draw(run, epoch, step):
        return torch.rand(3, generator=run.batch_generator(epoch, step)).tolist()

    run = start()
    assert draw(run, 1, 0) == draw(start(), 1, 0)
    found = [draw(run, 1, 0), draw(run, 1, 1), draw(run, 2, 0), draw(start("--seed", "1"), 1, 0)]
    assert len({tuple(values) for values in found}) == 4
    run.seed_epoch(1)
    assert torch.rand(3).tolist() not in found


def test_a_demo_uses_real_data_only_with_data_root_on_the_command_line(monkeypatch, tmp_path):
    parser = training_command_line("my_paper")
    monkeypatch.setenv("DATA_ROOT", "/real")
    assert str(find_data_root(parser.parse_args([]))) == "/real"
    assert find_data_root(parser.parse_args(["--demo"])) is None
    assert str(find_data_root(parser.parse_args(["--demo", "--data-root", "/other"]))) == "/other"
    monkeypatch.delenv("DATA_ROOT")
    assert find_data_root(parser.parse_args([])) is None
    assert read_json(tmp_path / "absent.json") is None


def test_a_run_without_a_finished_epoch_has_nothing_to_evaluate(start):
    run, model = start(), torch.nn.Linear(1, 1)
    run.begin()
    with pytest.raises(UserError, match="no epoch was finished there"):
        run.restore_trained(model=model)
    train(start("--resume"), model, 1)
    assert start().restore_trained(model=model) == 1


@pytest.mark.parametrize(("interval", "kept"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (7, [5])])
def test_checkpoints_are_written_at_the_interval_and_at_the_end(start, monkeypatch, interval, kept):
    written = []
    monkeypatch.setattr("common.runs.meter.write_checkpoint", lambda _, checkpoint: written.append(checkpoint["epoch"]))
    run = start("--set", f"checkpoint_epochs={interval}", "num_epochs=5")
    train(run, layer(), epochs=5)
    assert written == kept


def test_checkpoints_take_at_most_a_twentieth_of_the_time_where_their_interval_is_auto(start, monkeypatch):
    now, written = [0.0], []
    monkeypatch.setattr("common.runs.meter.time", SimpleNamespace(monotonic=lambda: now[0]))

    def slow_disk(_, checkpoint):
        written.append(checkpoint["epoch"])
        now[0] += 2.0

    monkeypatch.setattr("common.runs.meter.write_checkpoint", slow_disk)
    run = start("--set", "num_epochs=20")
    run.begin()
    object.__setattr__(run.settings, "checkpoint_epochs", "auto")
    meter = Meter(run, 20, 8)
    for _ in range(20):
        meter.update({"loss": torch.tensor(1.0)}, 8)
        now[0] += 10.0  # an epoch
        meter.finish_epoch({}, learning_rate=0.1)
    assert written == [1, 5, 9, 13, 17, 20]  # two seconds of writing in forty of training
    assert run.history.train_seconds == pytest.approx(20 * 10 + 6 * 2)
