"""A run as a job of a cluster, which may be stopped and started again at any time. Imports nothing heavy."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common.paths import REPOSITORY

UNBUFFERED = {"PYTHONUNBUFFERED": "1"}  # a log shows each line when it is printed, and the error at its end
POLL_SECONDS = 0.2
STOP_SECONDS = 20  # for a run to stop before its job is queued again
DECISION_SECONDS = 120  # within which Slurm ends a job whose processes it has sent a signal (KillWait, GraceTime)


@dataclass
class RunJob:
    """Call it to execute a run; submitit pickles it. The same job is called again when it was preempted, has timed out
    or its node has failed: it then resumes.

    words: of the command line, of a training without --resume and --force; replaces: see `stamp`, of the run that
    --force is to replace.
    """

    words: list[str]
    directory: Path
    log: Path
    threads: int
    trains: bool  # else a program, which starts from scratch
    replaces: int | None = None

    def __call__(self) -> int:
        """The exit code of the run."""
        self.stopped = False
        signal.signal(signal.SIGTERM, self._note)
        words = [*self.words, *self._how_to_start()]
        begin_log(self.log, words, _job_name())
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                [sys.executable, *words],
                cwd=REPOSITORY,
                env=UNBUFFERED | {"OMP_NUM_THREADS": str(self.threads)} | os.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        while (code := self.process.poll()) is None:  # a blocking wait() would block the one in `checkpoint` too
            time.sleep(POLL_SECONDS)
        if self.stopped or code in (130, -signal.SIGINT, -signal.SIGTERM, -signal.SIGUSR2):
            # Slurm has signalled all processes of the job and kills or requeues it. An end of our own would be final.
            time.sleep(DECISION_SECONDS)
        return code

    def _note(self, *_: Any) -> None:
        self.stopped = True

    def _how_to_start(self) -> list[str]:
        if not self.trains:
            return []
        return ["--force"] if self.replaces is not None and stamp(self.directory) == self.replaces else ["--resume"]

    def checkpoint(self) -> Any:
        """Called by submitit when the job is preempted or times out: stops the run and returns what is submitted."""
        from submitit.helpers import DelayedSubmission

        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
        return DelayedSubmission(replace(self))


def begin_log(log: Path, words: Sequence[str], place: str) -> None:
    """Write a line that says what is started where; what an earlier start wrote stays above."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a") as stream:
        stream.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}  {place}  python {' '.join(words)}\n")


def stamp(directory: Path) -> int | None:
    """Changes whenever a run begins in the directory; None where none has."""
    file = directory / "run.json"
    return file.stat().st_mtime_ns if file.is_file() else None


def _job_name() -> str:
    restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
    return f"job {os.environ.get('SLURM_JOB_ID', 'local')}" + (f", restart {restarts}" if restarts != "0" else "")
