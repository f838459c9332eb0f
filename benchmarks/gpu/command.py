"""`make gpu` (`python -m benchmarks gpu [PAPER ...] [--part NAME ...]`): agreement, speed and an epoch on a GPU.

Writes runs/gpu/<GPU>.json and, beside it, the same as a page. Each measurement is kept as soon as it is finished. A
part begins no measurement after its time; the same command goes on with what is left, and measures again only what has
changed: the source that is measured or measures, its settings, the GPU or torch.
"""

import argparse
import functools
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.spec import known_papers
from common import devices
from common.errors import UserError
from common.paths import runs_folder
from common.runs.lock import hold
from common.runs.provenance import describe_machine, source_commit
from common.runs.source import source_hash

from . import agree, epoch, speed
from .page import DIFFERS, FAILED, results_page, shown, verdicts
from .results import Entry, Results, message_of, read_results, slug
from .subject import OutOfTime, Scale, Subject, free_memory, spec_of

PARTS = {"agree": agree, "speed": speed, "epoch": epoch}
SECONDS = 480.0  # of a part
SECONDS_IN_ALL = 1200.0
ON_A_CPU = "On a CPU, `make test` checks the papers and `make speed` measures their speed"
HOW_TO_SEND = 'CONTRIBUTING.md, "A result on a GPU", says how to send both files'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("papers", nargs="*", metavar="PAPER", help="default: all")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS), help="only these")
    parser.add_argument("--device", default="auto", help="auto, cuda or cuda:N")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"for each part (default: {SECONDS:.0f})")


def main(arguments: argparse.Namespace) -> int:
    """0; 1 if the GPU and the CPU differ, or could not be compared. UserError: there is no GPU."""
    papers = arguments.papers or known_papers()
    for paper in papers:
        spec_of(paper)
    check = Check(gpu_of(arguments.device), papers, arguments.seconds)
    left = check.run(arguments.part)
    print(check.summary(left), flush=True)
    return int(any(verdict.verdict in (DIFFERS, FAILED) for verdict in verdicts(check.results)))


def gpu_of(name: str) -> torch.device:
    """UserError: the name is a CPU's, or there is no GPU that torch can use."""
    if not torch.cuda.is_available():
        problem = devices.UNUSABLE_GPU if devices.NVIDIA_DRIVER.is_file() else "there is no GPU here"
        raise UserError(f"{problem}. {ON_A_CPU}")
    device = devices.select_device(name)
    if device.type != "cuda":
        raise UserError(f"make gpu measures a GPU, not {name}. {ON_A_CPU}")
    return device


def driver_version() -> str:
    """Of the NVIDIA driver."""
    text = devices.NVIDIA_DRIVER.read_text() if devices.NVIDIA_DRIVER.is_file() else ""
    found = re.search(r"\b\d+\.\d+(\.\d+)*\b", text)
    return found.group() if found else "unknown"


hash_of = functools.cache(source_hash)  # of a source that does not change while it is measured


@dataclass(frozen=True)
class Task:
    """One measurement of one paper."""

    part: str
    what: str
    subject: Subject
    identity: dict[str, Any]

    @property
    def paper(self) -> str:
        return self.subject.spec.paper

    @property
    def name(self) -> str:
        return f"{self.part}: {self.subject.spec.short}, {self.what}"


class Check:
    """One call of the command. scale: smaller in tests."""

    def __init__(
        self, device: torch.device, papers: Sequence[str], seconds: float = SECONDS, scale: Scale | None = None
    ):
        self.device, self.papers, self.seconds, self.scale = device, papers, seconds, scale or Scale()
        machine = describe_machine(device, devices.select_precision("auto", device))
        name = slug(machine["gpu"] or machine["device"])
        self.file = runs_folder() / "gpu" / f"{name}.json"
        self.page = self.file.with_suffix(".md")
        self.runs = self.file.with_name(f"{name}-runs")
        hold(self.file.with_suffix(""), "wait until that command has ended, or stop it; nothing was changed")
        self.results = read_results(self.file) or Results(machine={})
        self.results.machine = machine | {"driver": driver_version()}
        self.results.commit, self.results.uncommitted_changes = source_commit().values()
        self.settings: dict[str, list[str]] = {}
        self.forget_what_changed()

    def run(self, parts: Sequence[str]) -> list[str]:
        """Measure what is missing; returns the names of what is left for another time."""
        begun, left = time.monotonic(), []
        for part in parts:
            started = time.monotonic()
            end = min(started + self.seconds, begun + SECONDS_IN_ALL)
            left += [task.name for task in self.run_part(part, end)]
        return left

    def run_part(self, part: str, end: float) -> list[Task]:
        """Measure what is missing of a part until its end; returns what is left.

        Nothing is begun that would not end in time if it took as long as the longest of its kind so far.
        """
        waiting, longest, measured = self.tasks(part), {}, False
        while waiting:
            task = waiting[0]
            now = time.monotonic()
            if now > end or (measured and now + longest.get(task.what, 0.0) > end):
                break
            try:
                self.measure(replace(task, subject=replace(task.subject, deadline=end)))
            except OutOfTime:
                break
            longest[task.what] = max(longest.get(task.what, 0.0), time.monotonic() - now)
            measured = True
            waiting.pop(0)
        return waiting

    def tasks(self, part: str) -> list[Task]:
        """What is not finished, failed measurements last."""
        new, failed = [], []
        for what in PARTS[part].MEASUREMENTS:
            for paper in self.papers:
                entry = self.results.entry(part, what, paper)
                if entry is None or entry.error:
                    task = Task(part, what, self.subject(paper), self.identity(paper, part, what))
                    (failed if entry else new).append(task)
        return new + failed

    def forget_what_changed(self) -> None:
        """Keep only measurements of what is here today."""
        for part, what, paper in list(self.results.keys()):
            known = part in PARTS and what in PARTS[part].MEASUREMENTS and paper in known_papers()
            if not known or self.results.entry(part, what, paper).identity != self.identity(paper, part, what):
                self.results.remove(part, what, paper)

    def subject(self, paper: str) -> Subject:
        """Its runs are resumed only by the same source."""
        return self.subject_in(self.runs / f"{hash_of(f'{paper}.train')}-{self.settings_of(paper)[0]}", paper)

    def settings_of(self, paper: str) -> list[str]:
        """Hashes, computed once."""
        if paper not in self.settings:
            self.settings[paper] = self.subject_in(self.runs, paper).settings_hashes()
        return self.settings[paper]

    def subject_in(self, folder: Path, paper: str) -> Subject:
        return Subject(spec_of(paper), self.device, folder, self.scale)

    def identity(self, paper: str, part: str, what: str) -> dict[str, Any]:
        """What a measurement depends on: if all of it is equal, the measurement is kept."""
        found = {
            "source": [hash_of(f"{paper}.{program}") for program in ("train", "evaluate")],
            "measured_by": hash_of(PARTS[part].__name__),
            "settings": self.settings_of(paper),
            "on_gpu": spec_of(paper).on_gpu.model_dump(exclude={"note"}),
            "gpu": self.results.machine["gpu"],
            "torch": torch.__version__,
        }
        if what == "scores":
            found["committed"] = [record.finished for record in agree.committed_records(self.subject(paper))]
        return found

    def measure(self, task: Task) -> None:
        """Measure, and keep the result or the error. OutOfTime: it was stopped and will resume."""
        print(f"{task.name} ...", flush=True)
        free_memory()
        started = time.monotonic()
        result, error = {}, ""
        try:
            result = PARTS[task.part].MEASUREMENTS[task.what](task.subject)
        except OutOfTime:
            raise
        except Exception as problem:  # a failure is a result too; the rest is measured nevertheless
            error = message_of(problem)
        seconds = round(time.monotonic() - started, 1)
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        entry = Entry(identity=task.identity, finished=finished, seconds=seconds, result=result, error=error)
        self.results.add(task.part, task.what, task.paper, entry)
        self.write()
        print(f"{task.name}: {shown(task.part, entry)} ({seconds:.0f} s)", flush=True)

    def write(self) -> None:
        self.results.write(self.file)
        self.page.write_text(results_page(self.results))

    def summary(self, left: Sequence[str]) -> str:
        lines = ["", *(verdict.text for verdict in verdicts(self.results)), ""]
        lines += [f"{self.page} and {self.file.name}; {HOW_TO_SEND}"]
        if left:
            lines += [f"{len(left)} measurements are left for the same command: {'; '.join(left)}"]
        return "\n".join(lines)
