"""Running a plan: what is printed, failures, Ctrl-C, the confirmation of long plans, and where the page goes."""

import os
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from benchmarks.pages import here
from benchmarks.reproduce import command, execute, launch
from benchmarks.reproduce.launch import launch_of
from benchmarks.reproduce.plan import Plan, PlannedRun
from benchmarks.reproduce.progress import Failure
from benchmarks.reproduce.slurm import Detached
from common.errors import UserError
from common.paths import REPOSITORY
from common.runs.lock import lock_file


def planned(tmp_path, name, *, seconds=60.0, state="new"):
    return PlannedRun(name, tmp_path / name, "a_module", [], state, images=100, evaluated=10, seconds=seconds)


@pytest.fixture
def finishing(monkeypatch, make_record):
    """finishing(seconds): runs end at once with this measured time; returns their names in order."""
    ran = []

    def install(measured):
        def run_one(run, num_processes):
            ran.append(run.name)
            run.directory.mkdir()
            record = make_record(seconds={"train": measured, "evaluate": 0.0})
            (run.directory / "result.json").write_text(record.model_dump_json())

        monkeypatch.setattr(execute, "run_one", run_one)
        return ran

    return install


def test_runs_are_executed_in_order_and_the_time_left_is_corrected(tmp_path, finishing, capsys):
    ran = finishing(120.0)  # twice the estimate
    runs = [planned(tmp_path, name) for name in ("a", "b", "c")]
    runs.insert(1, planned(tmp_path, "reused", state="finished"))
    execute.execute(Plan([], runs, [], "demo"))
    assert ran == ["a", "b", "c"]
    lines = [line for line in capsys.readouterr().err.split("\n") if line]
    assert lines == [
        "[1/3] a  about 3 min left in total",
        "[2/3] b  about 4 min left in total",
        "[3/3] c  about 2 min left in total",
    ]


def module(tmp_path, monkeypatch, body):
    """A module that a planned run can start."""
    (tmp_path / "a_module.py").write_text(body)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return planned(tmp_path, "a")


def test_a_failing_run_stops_the_command_and_says_how_to_resume(tmp_path, monkeypatch):
    run = module(tmp_path, monkeypatch, "raise SystemExit(2)")
    with pytest.raises(UserError, match=r"a ended with exit code 2.*resumes here"):
        execute.run_one(run)


def test_a_run_that_was_interrupted_interrupts_the_plan(tmp_path, monkeypatch):
    # If a shell starts this test in the background, its child processes ignore Ctrl-C.
    listening = "import os, signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    run = module(tmp_path, monkeypatch, f"{listening}; os.kill(os.getpid(), signal.SIGINT)")
    with pytest.raises(KeyboardInterrupt):
        execute.run_one(run)


def arguments(*more):
    parser = ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(["ndmf_net", *more])


@pytest.fixture
def long_plan(tmp_path, monkeypatch):
    """A plan of three hours, with an empty runs folder."""
    monkeypatch.setenv("REID_RUNS", str(tmp_path / "runs"))
    plan = Plan([], [planned(tmp_path, "long", seconds=3 * 3600)], ["x: not there"], "demo")
    monkeypatch.setattr(command, "make_plan", lambda *_, **__: plan)
    monkeypatch.setattr(command, "estimate", lambda *_: None)
    return plan


@pytest.mark.parametrize(("more", "kind"), [((), "real"), (("--scope", "all"), "demo"), (("--only", "table5"), "demo")])
def test_more_than_two_hours_need_confirmation(long_plan, monkeypatch, capsys, more, kind):
    monkeypatch.setattr(command, "make_plan", lambda *_, **__: replace(long_plan, kind=kind))
    monkeypatch.setattr(execute, "run_one", lambda *_: pytest.fail("it ran"))
    with pytest.raises(UserError, match=r"about 3\.0 h here: confirm with YES=1"):
        command.main(arguments(*more))
    printed = capsys.readouterr().out
    assert "to run" in printed and "left out: x: not there" in printed and "1 of 1 runs to do, about 3.0 h" in printed


def test_the_first_command_of_a_newcomer_runs_however_slow_the_machine_is(long_plan, monkeypatch):
    ran = []
    monkeypatch.setattr(command, "execute", lambda plan, _: ran.append(plan))
    monkeypatch.setattr(command, "draw_from_runs", lambda *_: None)
    monkeypatch.setattr(command, "write_local_page", lambda paper, *_: (Path(f"{paper.paper}.md"), "its table"))
    assert command.main(arguments()) == 0 and ran == [long_plan]


def test_several_papers_are_planned_before_the_first_is_run(long_plan, monkeypatch, capsys):
    ran = []
    monkeypatch.setattr(command, "execute", lambda *_: ran.append(capsys.readouterr().out))
    monkeypatch.setattr(command, "draw_from_runs", lambda *_: None)
    monkeypatch.setattr(command, "write_local_page", lambda paper, *_: (Path(f"{paper.paper}.md"), "its table"))
    monkeypatch.setattr(command, "write_local_comparison", lambda runs: runs / "tables" / "comparison.md")
    parsed = arguments("--yes")
    parsed.papers = ["ndmf_net", "mgre"]
    assert command.main(parsed) == 0
    assert "NDMF-Net\n" in ran[0] and "MGRe\n" in ran[0] and "all 2 papers: about 6.0 h" in ran[0]
    last = capsys.readouterr().out
    assert "ndmf_net.md" in ran[1] and "mgre.md" in last and "side by side" in last and "comparison.md" in last


def test_a_paper_without_data_is_left_out_and_the_others_run(long_plan, monkeypatch, capsys):
    def some(paper, **_):
        if paper.paper == "dfw_crossmodal":
            raise UserError("nothing can be run: sysu_mm01 was not found")
        return long_plan

    monkeypatch.setattr(command, "make_plan", some)
    parsed = arguments()
    parsed.papers = ["dfw_crossmodal", "mgre"]
    assert [paper.paper for paper, _ in command.make_plans(parsed, launch_of(parsed))] == ["mgre"]
    assert "dfw_crossmodal is left out: nothing can be run" in capsys.readouterr().err
    parsed.papers = ["dfw_crossmodal"]
    with pytest.raises(UserError, match="sysu_mm01 was not found"):
        command.make_plans(parsed, launch_of(parsed))


def test_ctrl_c_ends_with_130_and_says_how_to_resume(long_plan, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(execute, "run_one", interrupted)
    assert command.main(arguments("--yes")) == 130
    assert "resumes at the last checkpoint" in capsys.readouterr().err


def test_a_second_command_for_the_same_runs_is_refused_before_it_plans(tmp_path, monkeypatch):
    monkeypatch.setenv("REID_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(command, "make_plan", lambda *_, **__: pytest.fail("it plans"))
    file = lock_file(tmp_path / "runs" / "ndmf_net")
    file.parent.mkdir()
    file.write_text("process 12 on a_host since today")
    with (
        FileLock(file),
        pytest.raises(UserError, match=r"ndmf_net is in use by process 12 on a_host since today: wait"),
    ):
        command.main(arguments())


def test_failed_runs_are_named_after_the_pages_of_the_others(long_plan, tmp_path, monkeypatch, capsys, make_record):
    def failing(runs, slots, num_processes):
        assert [run.name for run in runs] == ["long"] and len(slots) == 2
        return [Failure(runs[0], "exit code 1")]

    monkeypatch.setattr(launch, "execute_at_once", failing)
    with pytest.raises(UserError, match=r"1 of 1 runs failed(.|\n)*/long: exit code 1; .*long.log ends with"):
        command.main(arguments("--jobs", "2", "--device", "cpu", "--yes"))
    printed = capsys.readouterr().out
    assert "2 runs at once: about 3.0 h" in printed and "ndmf_net.md" in printed


def test_jobs_that_go_on_end_the_command_with_how_to_render_them(long_plan, monkeypatch, capsys):
    def detached(*_):
        raise Detached("2 jobs go on")

    long_plan.runs[0].seconds = 0.0  # nothing is estimated for another machine
    monkeypatch.setattr(launch, "load_submitit", lambda: None)
    monkeypatch.setattr(launch, "execute_as_jobs", detached)
    assert command.main(arguments("--launcher", "slurm")) == 130
    shown = capsys.readouterr()
    assert "2 jobs go on" in shown.err and "about" not in shown.out


def test_pages_are_rendered_from_what_has_finished(tmp_path, monkeypatch, capsys, make_record, write_run):
    monkeypatch.setenv("REID_RUNS", str(tmp_path / "runs"))
    with pytest.raises(UserError, match="no run has finished"):
        here.main(Namespace(papers=[]))
    write_run(tmp_path / "runs", make_record(mAP=0.612))
    assert here.main(Namespace(papers=[])) == 0
    assert "from 1 finished runs" in capsys.readouterr().out
    assert [file.name for file in (tmp_path / "runs" / "tables").glob("*.md")] == ["ndmf_net.md"]


def test_a_finished_plan_only_renders_and_prints_our_rows(
    long_plan, tmp_path, monkeypatch, capsys, make_record, write_run
):
    long_plan.runs[0].state = "finished"
    write_run(tmp_path / "runs", make_record(mAP=0.612))
    monkeypatch.setattr(execute, "run_one", lambda *_: pytest.fail("it ran"))
    assert command.main(arguments()) == 0
    printed = capsys.readouterr().out
    assert "nothing to train, only to render" in printed
    assert "NDMF-Net (ours)" in printed and "61.2" in printed and "OSNet" not in printed
    page = tmp_path / "runs" / "tables" / "ndmf_net.md"
    assert str(page) in printed and "61.2" in page.read_text()
    assert (tmp_path / "runs" / "tables" / "ndmf_net" / "curves-demo.png").is_file()


def test_the_data_root_is_an_argument_or_a_variable_and_unused_in_a_demo(monkeypatch, tmp_path):
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "environment"))
    assert command.data_root(arguments()) == tmp_path / "environment"
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "environment"))
    assert command.data_root(arguments("--data-root", str(tmp_path / "given"))) == tmp_path / "given"
    assert command.data_root(arguments("--data-root", "~/reid")) == Path.home() / "reid"
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "environment"))
    assert command.data_root(arguments("--demo")) is None
    assert "DATA_ROOT" not in os.environ  # so that no run reads it either


def test_runs_use_this_interpreter(tmp_path, monkeypatch):
    out = tmp_path / "out"
    run = module(tmp_path, monkeypatch, f"import sys; open({str(out)!r}, 'w').write(sys.executable)")
    execute.run_one(run)
    assert out.read_text() == sys.executable


def test_training_in_several_processes_is_started_by_torchrun_and_baselines_are_not(tmp_path, monkeypatch):
    started = []

    class Finished:
        def __init__(self, command, cwd):
            started.append(command[1:])

        def wait(self):
            return 0

    monkeypatch.setattr(execute.subprocess, "Popen", Finished)
    baseline, training = planned(tmp_path, "baseline"), planned(tmp_path, "training")
    training.run = object()
    execute.run_one(baseline, 4)
    execute.run_one(training, 1)
    execute.run_one(training, 4)
    assert started[0] == started[1] == ["-m", "a_module"]
    assert started[2] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4", "-m", "a_module"]


@pytest.mark.parametrize(
    ("words", "scope"),
    [
        ("reproduce", "pairs"),
        ("reproduce SCOPE=headline", "headline"),
        ("reproduce SCOPE=all", "all"),
        ("reproduce PAPER=my_idea", "headline"),
        ("reproduce-mgre", "headline"),
        ("reproduce-mgre SCOPE=decisions", "decisions"),
    ],
)
def test_make_trains_the_pairs_of_all_papers_and_the_headline_rows_of_one(words, scope):
    environment = {key: value for key, value in os.environ.items() if key not in ("SCOPE", "PAPER", "MAKEFLAGS")}
    asked = ["make", "-n", *words.split(), f"PYTHON={sys.executable}"]
    done = subprocess.run(asked, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True)
    assert f"--scope {scope} " in done.stdout
