"""Seconds and memory of several pieces of work on one case, each in its own process, and what they are compared with.

Linux only: memory is read from /proc.
"""

import ctypes
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate


@dataclass(frozen=True)
class Work:
    """work: what is timed, given a case and the result of `prepare`; against: rows to compare with.
    competitor: another process keeps all cores busy meanwhile. missing: why it cannot run here, if it cannot."""

    title: str
    work: Callable
    prepare: Callable | None = None
    against: tuple[str, ...] = ()
    repeats: int = 1
    competitor: bool = False
    missing: str = ""


def compare(works: dict[str, Work], make_case: Callable, title: str) -> str:
    """A table of all rows, and one of their ratios to the rows that they are compared with."""
    found = {}
    for name, work in works.items():
        if work.missing:
            print(f"{name}: skipped, {work.missing}", file=sys.stderr)
            continue
        with _competitor() if work.competitor else nullcontext():
            found[name] = _in_own_process(work, make_case)
        print(f"{name}: {found[name]['seconds']:.2f} s", file=sys.stderr, flush=True)
    rows = [[works[name].title, f"{own['seconds']:.2f}", f"{own['extra']:,.0f}"] for name, own in found.items()]
    rows += [[work.title, "skipped:", work.missing] for work in works.values() if work.missing]
    ratios = [
        _ratio(works[name], works[other], found[name], found[other])
        for name in found
        for other in works[name].against
        if other in found
    ]
    tables = (
        tabulate(rows, ["what", "seconds", "extra MB"], disable_numparse=True),
        tabulate(ratios, ["what", "against", "speed", "memory", "largest difference"], disable_numparse=True),
    )
    return "\n\n".join([f"\n{title}; {processor()}, {torch.get_num_threads()} threads", *tables])


def _ratio(work: Work, other: Work, own: dict, theirs: dict) -> list[str]:
    speed, memory = (theirs[key] / max(own[key], 1e-9) for key in ("seconds", "extra"))
    row = [work.title, other.title, f"{speed:.1f} x" if speed >= 1 else f"1/{1 / speed:.1f}", "", ""]
    if own["result"].shape == theirs["result"].shape:
        row[3] = f"1/{memory:.0f}" if memory >= 1 else f"{1 / memory:.1f} x"
        row[4] = f"{np.abs(own['result'] - theirs['result']).max():.1e}"
    return row


def processor() -> str:
    """The CPU's name, and family and model, since virtual machines often hide the name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    fields = dict(map(str.strip, line.split(":", 1)) for line in reversed(lines) if ":" in line)
    family = f"family {fields['cpu family']} model {fields['model']}" if "cpu family" in fields else "unknown family"
    return f"{fields.get('model name', 'unknown CPU')} ({family})"


def _in_own_process(work: Work, make_case: Callable) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/result.npz"
        process = multiprocessing.get_context("spawn").Process(target=_measure, args=(work, make_case, file))
        process.start()
        process.join()
        if process.exitcode:
            raise RuntimeError(f"{work.title} ended with exit code {process.exitcode}")
        with np.load(file) as values:
            return {"result": values["result"], **{key: float(values[key]) for key in ("seconds", "extra")}}


def _measure(work: Work, make_case: Callable, file: str) -> None:
    """Writes the seconds of the fastest repeat, or the median with a competitor, and the extra memory of the first."""
    case = make_case()
    ready = work.prepare(case) if work.prepare else None
    seconds, extra = [], 0.0
    for repeat in range(work.repeats):
        reset_peak()
        before, started = megabytes("VmRSS"), time.monotonic()
        result = work.work(case, ready)
        seconds.append(time.monotonic() - started)
        if repeat == 0:
            extra = megabytes("VmHWM") - before
    np.savez(file, seconds=np.median(seconds) if work.competitor else min(seconds), extra=extra, result=result)


def megabytes(field: str) -> float:
    """VmRSS (current) or VmHWM (peak since `reset_peak`) of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(field + ":"))


def reset_peak() -> None:
    """Return freed memory to the system and reset the peak, so that new allocations show."""
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:  # glibc
        trim(0)
    Path("/proc/self/clear_refs").write_text("5")


@contextmanager
def _competitor() -> Iterator[None]:
    """Meanwhile another process multiplies matrices with all threads."""
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    process = context.Process(target=_multiply, args=(started,), daemon=True)
    process.start()
    started.wait()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _multiply(started) -> None:
    matrix = torch.ones(1024, 1024)
    while True:
        matrix @ matrix
        started.set()
