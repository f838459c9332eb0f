"""Runs as jobs, by submitit's executor for processes of this machine; slurm_check.sh does it with a real Slurm."""

import builtins
import json
import textwrap
from argparse import ArgumentParser
from types import SimpleNamespace

import pytest

from benchmarks.reproduce import command, slurm
from benchmarks.reproduce.job import RunJob, stamp
from benchmarks.reproduce.launch import launch_of
from benchmarks.reproduce.plan import PlannedRun
from benchmarks.reproduce.progress import log_file
from benchmarks.reproduce.slurm import Cluster, Detached, execute_as_jobs, job_of
from common.errors import UserError

HERE = Cluster(gpus=0, cpus=1, device="cpu", name="local")


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """fake(name, body, *arguments): a planned training run of a module with this body; `run` is its directory."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # some machines set it
    monkeypatch.setattr(slurm, "POLL_SECONDS", 0.05)

    def make(name, body, *arguments):
        directory = tmp_path / "runs" / "paper" / name
        text = f"import os, signal, sys, time, pathlib\nrun = pathlib.Path({str(directory)!r})\n{textwrap.dedent(body)}"
        (tmp_path / f"module_{name}.py").write_text(text)
        directory.mkdir(parents=True)
        return PlannedRun(name, directory, f"module_{name}", list(arguments), "new", 100, 10, object())

    return make


PREEMPTED = """
    print("arguments", *sys.argv[1:])
    epochs = run / "epochs"
    if "--force" in sys.argv:
        epochs.unlink(missing_ok=True)
        (run / "run.json").write_text("a new run")
    finished = int(epochs.read_text()) if epochs.is_file() else 0
    for epoch in range(finished + 1, 4):
        epochs.write_text(str(epoch))
        print("epoch", epoch)
        if epoch == 2:
            os.kill(os.getppid(), signal.SIGUSR2)  # as Slurm does before the time limit
            time.sleep(60)
    """


def test_a_preempted_job_resumes_and_its_force_is_not_repeated_and_a_failed_one_is_named(fake, capfd):
    preempted = fake("preempted", PREEMPTED, "--device", "auto", "--force")
    (preempted.directory / "run.json").write_text("the run to be replaced")
    (preempted.directory / "epochs").write_text("3")
    failing = fake("failing", "sys.exit('no disk')")
    (failure,) = execute_as_jobs([preempted, failing], HERE)
    assert failure.planned is failing and failure.problem == "exit code 1"
    assert log_file(failing).read_text().splitlines()[-1] == "no disk"
    lines = [line for line in log_file(preempted).read_text().splitlines() if not line.startswith("---")]
    assert lines == [
        "arguments --device cpu --force",
        "epoch 1",
        "epoch 2",
        "arguments --device cpu --resume",
        "epoch 3",
    ]
    shown = capfd.readouterr().err
    assert "submitted paper/preempted  (job " in shown and "finished  paper/preempted" in shown
    assert "FAILED    paper/failing" in shown


def test_a_job_that_starts_again_before_its_run_began_still_forces_and_a_program_starts_from_scratch(fake):
    run = fake("r", "", "--force")
    (run.directory / "run.json").touch()
    job = job_of(run, HERE)
    assert job.replaces == stamp(run.directory) and job._how_to_start() == ["--force"]
    run.run = None
    program = job_of(run, HERE)
    assert program.words[-1] == "--force" and program._how_to_start() == []
    assert RunJob([], run.directory, log_file(run), 1, trains=True)._how_to_start() == ["--resume"]


def queue_of(*answers):
    """queue(), with one answer after another; the last one stays."""
    answers = list(answers)
    return lambda: answers.pop(0) if len(answers) > 1 else answers[0]


def test_the_states_of_jobs_come_from_the_queue_and_from_their_results(tmp_path, monkeypatch):
    monkeypatch.setattr(slurm, "GONE_SECONDS", -1)
    results = [tmp_path / name for name in ("one", "two", "three")]
    jobs = {
        number: SimpleNamespace(job_id=str(number), paths=SimpleNamespace(result_pickle=file))
        for number, file in enumerate(results)
    }
    results[2].touch()
    queue = {"0": ("RUNNING", "a"), "1": ("PENDING", "b"), "2": ("COMPLETING", "c")}
    ask = slurm._Over(queue_of(queue))
    monkeypatch.setattr(slurm, "GONE_SECONDS", 60)
    assert ask(jobs) == {0: "running", 1: "queued", 2: "over"}
    gone = slurm._Over(queue_of({}))
    assert set(gone({0: jobs[0]}).values()) == {"running"}  # its result may still be on its way
    monkeypatch.setattr(slurm, "GONE_SECONDS", -1)
    assert gone({0: jobs[0]}) == {0: "over"}
    assert slurm.problem_of_job(jobs[0]) == "job 0 was cancelled or killed"


@pytest.fixture
def on_slurm(monkeypatch):
    """on_slurm(queue): a Slurm with this queue; returns what is submitted."""
    submitted = []

    class Executor:
        def __init__(self, folder, **_):
            self.folder = folder

        def update_parameters(self, **parameters):
            submitted.append(parameters)

        def submit(self, job):
            return Job(self.folder, str(100 + len(submitted)))

    def Job(folder, job_id):
        return SimpleNamespace(job_id=job_id, paths=SimpleNamespace(result_pickle=folder / f"{job_id}.pkl"))

    def install(queue):
        monkeypatch.setattr(slurm, "queue", queue)
        submitit = SimpleNamespace(AutoExecutor=Executor, SlurmJob=Job)
        monkeypatch.setattr(slurm, "load_submitit", lambda: submitit)
        return submitted

    return install


def test_ctrl_c_leaves_the_jobs_and_the_same_command_finds_them_again(fake, on_slurm, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    runs = [fake("a", ""), fake("b", "")]
    submitted = on_slurm(dict)
    with monkeypatch.context() as patch:
        patch.setattr(slurm, "follow", interrupted)
        with pytest.raises(Detached, match=r"2 jobs go on.*make tables-here renders.*scancel 101 102$"):
            execute_as_jobs(runs, Cluster(partition="gpu", minutes=60, gpus=2))
        first = submitted[0]
        assert (first["slurm_partition"], first["timeout_min"], first["gpus_per_node"]) == ("gpu", 60, 2)
        on_slurm(lambda: {"101": ("RUNNING", "paper/a"), "102": ("RUNNING", "of another user's time")})
        capsys.readouterr()
        with pytest.raises(Detached, match=r"scancel 101 103$"):
            execute_as_jobs(runs, Cluster())
    shown = capsys.readouterr().err
    assert "found     paper/a  (job 101" in shown and "submitted paper/b  (job 103" in shown
    assert json.loads((runs[1].directory.parent / "jobs" / "b.json").read_text()) == {"job": "103"}


def test_a_run_is_queued_until_the_job_of_the_one_that_it_starts_from_has_ended(fake, on_slurm, monkeypatch):
    runs, submitted = [fake("start", ""), fake("after", ""), fake("other", "")], on_slurm(dict)
    runs[1].after, runs[2].after = runs[0].directory, runs[0].directory.with_name("finished before")
    monkeypatch.setattr(slurm, "follow", lambda *_: None)
    execute_as_jobs(runs, Cluster())
    found = [parameters["slurm_additional_parameters"].get("dependency") for parameters in submitted]
    assert found == [None, "afterany:101", None]


def parsed(*words):
    parser = ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(["ndmf_net", *words])


def test_a_job_asks_for_the_gpus_of_its_processes(on_slurm):
    on_slurm(dict)

    def asked(*words):
        cluster = launch_of(parsed("--launcher", "slurm", *words)).cluster
        return cluster.gpus, cluster.num_processes

    assert asked() == (1, 1) and asked("--device", "cpu") == (0, 1)
    assert asked("--gpus", "4") == asked("--gpus-per-job", "4") == asked("--gpus", "4", "--gpus-per-job", "4") == (4, 4)
    assert asked("--gpus-per-job", "2", "--gpus", "1") == (2, 1)
    with pytest.raises(UserError, match=r"GPUS=4 processes a run need as many GPUs, but GPUS_PER_JOB=2"):
        asked("--gpus", "4", "--gpus-per-job", "2")
    with pytest.raises(UserError, match=r"JOBS=0: a number from 1 on"):
        launch_of(parsed("--jobs", "0"))


def test_without_submitit_only_slurm_is_refused_with_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *more, **named):
        if name == "submitit":
            raise ModuleNotFoundError("No module named 'submitit'", name=name)
        return real(name, *more, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    assert not launch_of(parsed()).at_once
    assert launch_of(parsed("--jobs", "2", "--device", "cpu")).jobs == 2
    with pytest.raises(UserError, match=r"LAUNCHER=slurm needs submitit, which .* -m pip install submitit==\d"):
        launch_of(parsed("--launcher", "slurm"))


def test_without_slurm_the_message_says_where_to_run_it(fake, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"there is no Slurm here \(no squeue\): run this on a login node"):
        execute_as_jobs([fake("r", "")], Cluster())
