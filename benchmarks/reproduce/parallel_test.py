"""Runs at once: what each is bound to, one log a run, failures, and Ctrl-C."""

import os
import signal
import sys
import textwrap
import threading
import time

import pytest

from benchmarks.reproduce import parallel
from benchmarks.reproduce.parallel import Slot, execute_at_once, num_devices, slots_of
from benchmarks.reproduce.plan import PlannedRun
from benchmarks.reproduce.progress import Progress, log_file, raise_failures
from common.errors import UserError


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """fake(name, body): a planned run of a module with this body; sys.argv[1] is its directory."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # some machines set it
    monkeypatch.setattr(parallel, "POLL_SECONDS", 0.02)

    def make(name, body, *, module=None, run=None, seconds=60.0):
        (tmp_path / f"module_{name}.py").write_text(f"import os, sys, time, pathlib\n{textwrap.dedent(body)}")
        directory = tmp_path / "runs" / "paper" / name
        directory.mkdir(parents=True)
        return PlannedRun(name, directory, module or f"module_{name}", [str(directory)], "new", 100, 10, run, seconds)

    return make


SLOTS = [Slot("GPU 0", {"CUDA_VISIBLE_DEVICES": "0"}), Slot("GPU 1", {"CUDA_VISIBLE_DEVICES": "1"})]


def test_each_run_has_a_gpu_of_its_own_from_the_free_ones_and_a_log_of_its_own(fake, capfd):
    body = """
        print("on GPU", os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
        place = pathlib.Path(sys.argv[1]).parent / ("gpu" + os.environ["CUDA_VISIBLE_DEVICES"])
        place.mkdir()  # fails while another run is on this GPU
        time.sleep(0.1)
        place.rmdir()
        """
    runs = [fake(f"r{number}", body, run=object()) for number in range(5)]
    assert execute_at_once(runs, SLOTS) == []
    for run in runs:
        first, second = log_file(run).read_text().splitlines()
        assert "python -m module_r" in first and second in ("on GPU 0", "on GPU 1")
    shown = capfd.readouterr()
    lines = shown.err.splitlines()
    assert len(lines) == 10 and "\x1b" not in shown.err and shown.out == ""  # one line an event
    assert lines[0].startswith("started   paper/r0  (GPU 0, log ") and lines[-1].startswith("finished  paper/r")
    assert "5 of 5 runs ended" in lines[-1]


def test_a_failed_run_does_not_take_the_others_down_and_is_named_with_the_end_of_its_log(fake):
    failing = fake("bad", "print(*range(40), sep='\\n'); sys.exit('no disk')", run=object())
    killed = fake("dead", "os.kill(os.getpid(), 9)", run=object())
    good = [fake(f"g{number}", "(pathlib.Path(sys.argv[1]) / 'done').touch()", run=object()) for number in range(2)]
    failures = execute_at_once([failing, killed, *good], SLOTS)
    assert all((run.directory / "done").is_file() for run in good)
    with pytest.raises(UserError) as error:
        raise_failures(failures, 4)
    said = str(error.value)
    assert said.startswith("2 of 4 runs failed, the others are finished. The same command resumes these:")
    assert f"paper/bad: exit code 1; {log_file(failing)} ends with" in said and "    no disk" in said
    assert "    39" in said and "    20" not in said
    assert "paper/dead: killed by SIGKILL" in said


def test_a_papers_own_program_runs_by_itself_and_first(fake):
    body = "(pathlib.Path(sys.argv[1]) / 'at').write_text(str(time.time())); "
    training = [fake(f"t{number}", body + "time.sleep(0.1)", run=object()) for number in range(2)]
    program = fake("latency", body + "time.sleep(0.3)")
    assert execute_at_once([*training, program], SLOTS) == []
    began = [float((run.directory / "at").read_text()) for run in [program, *training]]
    assert min(began[1:]) > began[0] + 0.3


def test_the_longest_runs_start_first_but_for_those_that_others_wait_for(fake, capfd):
    names = {"short": 1.0, "long": 9.0, "start": 2.0, "middle": 5.0, "after": 7.0}
    runs = {name: fake(name, "", run=object(), seconds=seconds) for name, seconds in names.items()}
    runs["after"].after = runs["start"].directory
    assert execute_at_once(list(runs.values()), SLOTS[:1]) == []
    started = [line.split()[1] for line in capfd.readouterr().err.splitlines() if line.startswith("started")]
    assert started == [f"paper/{name}" for name in ("start", "long", "after", "middle", "short")]


def test_a_run_waits_for_the_one_that_it_starts_from_and_others_do_not(fake):
    start = """
        place, deadline = pathlib.Path(sys.argv[1]), time.monotonic() + 20
        while not (place.parent / "other" / "begun").is_file():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        (place / "weights").touch()
        """
    runs = [
        fake("start", start, run=object()),
        fake("after", "assert (pathlib.Path(sys.argv[1]).parent / 'start' / 'weights').is_file()", run=object()),
        fake("other", "(pathlib.Path(sys.argv[1]) / 'begun').touch()", run=object()),
    ]
    runs[1].after, runs[2].after = runs[0].directory, runs[0].directory.with_name("finished before")
    assert execute_at_once(runs, SLOTS) == []


SLOW = """
    import signal
    def stopped(*_):
        (pathlib.Path(sys.argv[1]) / 'stopped').touch()
        sys.exit(130)
    signal.signal(signal.SIGTERM, stopped)
    (pathlib.Path(sys.argv[1]) / 'begun').touch()
    time.sleep(60)
    """


def wait_for(*files):
    deadline = time.monotonic() + 20
    while not all(file.is_file() for file in files):
        assert time.monotonic() < deadline, files
        time.sleep(0.02)


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_a_terminated_command_and_a_closed_terminal_stop_all_runs(fake, name):
    runs = [fake(f"r{number}", SLOW, run=object()) for number in range(3)]
    begun = [run.directory / "begun" for run in runs[:2]]

    def interrupt():
        wait_for(*begun)
        os.kill(os.getpid(), name)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started pytest without
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            execute_at_once(runs, SLOTS)
    finally:
        signal.signal(signal.SIGINT, before)
        thread.join()
    assert [(run.directory / "stopped").is_file() for run in runs] == [True, True, False]
    assert not (runs[2].directory / "begun").exists()


def test_gpus_are_those_visible_and_shared_where_there_are_too_few(monkeypatch):
    monkeypatch.setattr(parallel.torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [slot.place for slot in slots_of(4, "auto")] == ["GPU 0", "GPU 1", "GPU 2", "GPU 3"]
    assert [slot.place for slot in slots_of(3, "cuda", 2)] == ["GPUs 0, 1", "GPUs 2, 3", "GPUs 0, 1"]
    assert num_devices(slots_of(3, "cuda", 2)) == 2 and num_devices(slots_of(3, "cpu")) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3,5,7")
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots_of(2, "auto")] == ["2", "3"]
    with pytest.raises(UserError, match=r"cuda:1 is one GPU.*use DEVICE=cuda"):
        slots_of(2, "cuda:1")
    with pytest.raises(UserError, match=r"GPUS=8 processes a run need as many GPUs, but there are 4"):
        slots_of(2, "auto", 8)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_without_gpus_runs_share_the_cores(monkeypatch, fake):
    monkeypatch.setattr(parallel.os, "sched_getaffinity", lambda _: {0, 1, 4, 5, 6})
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    two = slots_of(2, "cpu")
    assert [(slot.cores, slot.environment) for slot in two] == [
        ([0, 1], {"OMP_NUM_THREADS": "2"}),
        ([4, 5], {"OMP_NUM_THREADS": "2"}),
    ]
    assert [slot.cores for slot in slots_of(7, "cpu")] == [[0], [1], [4], [5], [6], [0], [1]]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_a_run_is_bound_to_the_cores_of_its_share(fake):
    core = min(os.sched_getaffinity(0))
    run = fake("r", "time.sleep(0.2); print(os.sched_getaffinity(0), os.environ['OMP_NUM_THREADS'])", run=object())
    assert execute_at_once([run], [Slot("core", {"OMP_NUM_THREADS": "1"}, [core])]) == []
    assert log_file(run).read_text().splitlines()[-1] == f"{{{core}}} 1"


def test_on_a_terminal_a_block_is_drawn_in_place(fake, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    run = fake("r", "", run=None)
    progress = Progress([run, fake("other", "")], at_once=2)
    progress.started(run, "GPU 0")
    capsys.readouterr()
    progress.refresh()
    drawn = capsys.readouterr().err
    assert drawn.startswith("\x1b[2A\x1b[J0 of 2 runs ended, about 60 s left; 1 running\n  paper/r  GPU 0  ")
    progress.ended(run)
    assert "\x1b[2A\x1b[Jfinished  paper/r  (in 1 s; 1 of 2 runs ended" in capsys.readouterr().err
