"""Runs at once on this machine: each with its own GPUs or its share of the cores, and one log a run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from benchmarks.spec import BASELINES_MODULE
from common.errors import UserError
from common.paths import REPOSITORY

from .execute import words_of
from .job import UNBUFFERED, begin_log
from .plan import PlannedRun
from .progress import Failure, Progress, log_file

POLL_SECONDS = 0.5
STOP_SECONDS = 60.0  # for a run to end after Ctrl-C, if it is writing a checkpoint


@dataclass(frozen=True)
class Slot:
    """What one run at a time is bound to."""

    place: str
    environment: dict[str, str]
    cores: list[int] = field(default_factory=list)  # empty: not bound to cores


def visible_gpus() -> list[str]:
    """The GPUs as CUDA_VISIBLE_DEVICES names them."""
    asked = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return [name.strip() for name in asked.split(",")][:count] if asked else [str(gpu) for gpu in range(count)]


def slots_of(jobs: int, device: str, num_processes: int = 1) -> list[Slot]:
    """One slot for each of the runs at once.

    device: of the runs; num_processes: of each run, one GPU each. Where there are fewer GPUs than asked for, runs share
    them. UserError: a device that not every run can have.
    """
    if device.startswith("cuda:"):
        raise UserError(f"DEVICE={device} is one GPU, but each of JOBS={jobs} runs gets its own: use DEVICE=cuda")
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []  # not on macOS
    share = max((len(cores) or os.cpu_count() or 1) // jobs, 1)
    threads = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(share)}
    gpus = [] if device == "cpu" else visible_gpus()
    if not gpus and not cores:
        return [Slot("CPU", threads)] * jobs
    if not gpus:
        firsts = [position * share % len(cores) for position in range(jobs)]
        own = [cores[first : first + share] for first in firsts]
        return [Slot(_named("core", list(map(str, numbers))), threads, numbers) for numbers in own]
    if num_processes > len(gpus):
        raise UserError(f"GPUS={num_processes} processes a run need as many GPUs, but there are {len(gpus)}")
    groups = [gpus[start : start + num_processes] for start in range(0, len(gpus), num_processes)]
    groups = [group for group in groups if len(group) == num_processes]
    chosen = [groups[position % len(groups)] for position in range(jobs)]
    return [Slot(_named("GPU", group), {"CUDA_VISIBLE_DEVICES": ",".join(group), **threads}) for group in chosen]


def num_devices(slots: Sequence[Slot]) -> int:
    """How many times as fast as one run all are together: runs on a CPU share the cores that one would have."""
    return len({slot.environment.get("CUDA_VISIBLE_DEVICES", "CPU") for slot in slots}) or 1


def _named(thing: str, names: Sequence[str]) -> str:
    return f"{thing}{'s' if len(names) > 1 else ''} {', '.join(names)}"


def execute_at_once(runs: Sequence[PlannedRun], slots: Sequence[Slot], num_processes: int = 1) -> list[Failure]:
    """Execute the runs, as many at once as there are slots, each after the one that it starts from, the longest first
    so that all slots end together; returns those that failed. Ctrl-C stops them all."""
    awaited = {run.after for run in runs}
    waiting = sorted(runs, key=lambda run: (not measures_alone(run), run.directory not in awaited, -run.seconds))
    progress, free, running = Progress(waiting, len(slots), len(slots) / num_devices(slots)), list(slots), {}

    def startable() -> PlannedRun | None:
        at_work = [run for run, _ in running.values()]
        unfinished = {run.directory for run in [*waiting, *at_work]}
        ready = next((run for run in waiting if run.after not in unfinished), None)
        if not free or ready is None or (at_work and any(map(measures_alone, [ready, *at_work]))):
            return None
        return ready

    with signals_interrupt():
        try:
            while waiting or running:
                while planned := startable():
                    waiting.remove(planned)
                    slot = free.pop(0)
                    running[start(planned, slot, num_processes)] = planned, slot
                    progress.started(planned, slot.place)
                time.sleep(POLL_SECONDS)
                for process in [process for process in running if process.poll() is not None]:
                    planned, slot = running.pop(process)
                    free.append(slot)
                    progress.ended(planned, problem_of(process.returncode))
                progress.refresh()
        finally:
            stop(list(running))
    return progress.failures


def measures_alone(planned: PlannedRun) -> bool:
    """A paper's own programs run first and one by one: some measure time (latency), others train what runs share."""
    return planned.run is None and planned.module != BASELINES_MODULE


def start(planned: PlannedRun, slot: Slot, num_processes: int) -> subprocess.Popen:
    """Start a run that writes to its log. Ctrl-C does not reach it: `stop` does."""
    words = words_of(planned, num_processes)
    begin_log(log_file(planned), words, slot.place)
    with open(log_file(planned), "a") as log:
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=REPOSITORY,
            env=UNBUFFERED | os.environ | slot.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    if slot.cores:
        os.sched_setaffinity(process.pid, slot.cores)
    return process


def problem_of(code: int) -> str:
    """Why a process with this exit code failed; nothing if it did not."""
    if code in (130, -signal.SIGINT, -signal.SIGTERM):
        return "stopped by a signal"
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}" if code else ""


def stop(processes: Sequence[subprocess.Popen]) -> None:
    """Stop runs as Ctrl-C does, and wait until they have ended. A second Ctrl-C kills them."""
    for process in processes:
        process.terminate()  # Run.begin makes of it what Ctrl-C is; a shell may have made children ignore SIGINT
    deadline = time.monotonic() + STOP_SECONDS
    try:
        for process in processes:
            process.wait(max(deadline - time.monotonic(), 0.1))
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        for process in processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """SIGTERM and a closed terminal act as Ctrl-C in the block."""
    before = {name: signal.signal(name, signal.default_int_handler) for name in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
