"""The progress of runs that are executed at once: a line an event, and on a terminal a block drawn in place."""

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError

from .estimate import duration_text
from .plan import PlannedRun

SHOWN_LINES = 15  # of a failed run's log


def label(planned: PlannedRun) -> str:
    """paper/run: several papers have runs of one name."""
    return f"{planned.directory.parent.name}/{planned.name}"


def log_file(planned: PlannedRun) -> Path:
    """All output of a run, of all times that it was started."""
    return planned.directory.parent / "logs" / f"{planned.name}.log"


@dataclass(frozen=True)
class Failure:
    planned: PlannedRun
    problem: str


def raise_failures(failures: Sequence[Failure], num_runs: int) -> None:
    """UserError that names the failed runs with the end of their logs; nothing if there are none."""
    if not failures:
        return
    lines = [f"{len(failures)} of {num_runs} runs failed, the others are finished. The same command resumes these:"]
    for failure in failures:
        file = log_file(failure.planned)
        lines += ["", f"{label(failure.planned)}: {failure.problem}; {file} ends with"]
        lines += [f"    {line}" for line in last_lines(file)]
    raise UserError("\n".join(lines))


def last_lines(file: Path) -> list[str]:
    if not file.is_file():
        return ["(nothing was written)"]
    return file.read_text(errors="replace").splitlines()[-SHOWN_LINES:]


@dataclass
class Row:
    """A run that was started. place: its GPU, cores or job; state: shown instead of its time where it is queued."""

    planned: PlannedRun
    place: str
    started: float
    state: str = ""


class Progress:
    """Call `started`, `ended` and `said` at events and `refresh` in between.

    runs: all that will be started; at_once: how many share the estimated time, 0 where there is no estimate; slowdown:
    of runs that share a device, until the first has ended.
    """

    def __init__(self, runs: Sequence[PlannedRun], at_once: int = 0, slowdown: float = 1.0):
        self.total, self.at_once, self.slowdown = len(runs), at_once, slowdown
        self.waiting = {run.directory: run for run in runs}
        self.rows: dict[Path, Row] = {}
        self.failures: list[Failure] = []
        self.num_ended = 0
        self.estimated = self.measured = 0.0  # seconds of ended training runs
        self.drawn = 0  # lines of the block on the terminal

    def started(self, planned: PlannedRun, place: str, *, verb: str = "started", state: str = "") -> None:
        self.waiting.pop(planned.directory, None)
        self.rows[planned.directory] = Row(planned, place, time.monotonic(), state)
        self.said(verb, planned, f"{place}, log {log_file(planned)}")

    def ended(self, planned: PlannedRun, problem: str = "") -> None:
        """problem: why it failed."""
        seconds = time.monotonic() - self.rows.pop(planned.directory).started
        self.num_ended += 1
        if problem:
            self.failures.append(Failure(planned, problem))
        elif planned.images:
            self.estimated += planned.seconds
            self.measured += seconds
        outcome = f"{problem} after" if problem else "in"
        self.said("FAILED" if problem else "finished", planned, f"{outcome} {duration_text(seconds)}; {self.summary()}")

    def said(self, verb: str, planned: PlannedRun, more: str) -> None:
        """Print an event."""
        self._clear()
        print(f"{verb:<9} {label(planned)}  ({more})", file=sys.stderr, flush=True)
        self.refresh()

    def summary(self) -> str:
        parts = [f"{self.num_ended} of {self.total} runs ended"]
        parts += [f"{len(self.failures)} failed"] if self.failures else []
        parts += [f"about {duration_text(self.seconds_left())} left"] if self.at_once and self._left() else []
        return ", ".join(parts)

    def _left(self) -> list[float]:
        now = time.monotonic()
        running = [max(row.planned.seconds - (now - row.started), 0.0) for row in self.rows.values()]
        return [*(run.seconds for run in self.waiting.values()), *running]

    def seconds_left(self) -> float:
        """Estimated, and corrected by measured over estimated time of the runs that have ended."""
        correction = self.measured / self.estimated if self.estimated else self.slowdown
        left = self._left()
        return max([sum(left) / self.at_once, *left]) * correction

    def refresh(self) -> None:
        """Draw the block, if this is a terminal."""
        if not sys.stderr.isatty():
            return
        self._clear()
        width = shutil.get_terminal_size().columns - 1
        running = sum(not row.state for row in self.rows.values())
        lines = [f"{self.summary()}; {running} running"]
        lines += [f"  {label(row.planned)}  {row.place}  {self._state(row)}" for row in self.rows.values()]
        height = max(shutil.get_terminal_size().lines - 2, 2)
        if len(lines) > height:
            lines = [*lines[: height - 1], f"  and {len(lines) - height + 1} more"]
        sys.stderr.write("".join(f"{line[:width]}\n" for line in lines))
        sys.stderr.flush()
        self.drawn = len(lines)

    def _state(self, row: Row) -> str:
        if row.state:
            return row.state
        elapsed = duration_text(time.monotonic() - row.started)
        log = row.planned.directory / "log.jsonl"
        if row.planned.run is None or not log.is_file():
            return elapsed
        with open(log) as stream:
            finished = sum(1 for _ in stream)
        return f"epoch {finished} of {row.planned.run.settings.num_epochs} finished  {elapsed}"

    def _clear(self) -> None:
        if self.drawn:
            sys.stderr.write(f"\x1b[{self.drawn}A\x1b[J")  # to the block's first line, and erase from there
            self.drawn = 0
