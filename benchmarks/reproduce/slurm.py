"""Runs as jobs of a Slurm cluster, through submitit, which is imported only here.

The folders of the code, the data and the runs must be shared by the nodes. Jobs go on without this command; the same
command finds them again. submitit's files are in runs/<paper>/jobs, and so is <run>.json with the last job of each run.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from common.errors import UserError
from common.files import read_json, write_text
from common.paths import REPOSITORY

from .execute import words_of
from .job import RunJob, stamp
from .parallel import problem_of
from .plan import PlannedRun
from .progress import Failure, Progress, label, log_file

POLL_SECONDS = 3.0
GONE_SECONDS = 15.0  # from a job's absence in the queue to its result on a shared file system
SIGNAL_SECONDS = 60  # from Slurm's warning to the time limit
MOST_TIMEOUTS = 50  # of one job


@dataclass(frozen=True)
class Cluster:
    """What each job asks for. minutes: it is queued again when they are over."""

    partition: str | None = None
    minutes: int = 240
    gpus: int = 1
    cpus: int = 4
    num_processes: int = 1  # of a training run, one GPU each
    device: str = "auto"
    name: str = "slurm"  # submitit's; `local` (processes of this machine) in tests


class Detached(Exception):
    """Ctrl-C: the jobs go on."""


def load_submitit() -> Any:
    """UserError: it is not installed."""
    try:
        import submitit
    except ModuleNotFoundError:
        lines = (REPOSITORY / "requirements.txt").read_text().split("\n")
        wanted = next(line for line in lines if line.startswith("submitit"))
        raise UserError(
            f"LAUNCHER=slurm needs submitit, which {sys.executable} does not have: {sys.executable} -m pip install "
            f"{wanted}, or run here without LAUNCHER"
        ) from None
    return submitit


def execute_as_jobs(runs: Sequence[PlannedRun], cluster: Cluster) -> list[Failure]:
    """Submit the runs, unless they are queued already, and wait for them; returns those that failed. A run that starts
    from another one is queued until that one's job has ended.

    Detached: Ctrl-C was pressed, the jobs go on. UserError: no Slurm, or it refuses a job.
    """
    progress, jobs = Progress(runs), {}
    queued = queue() if cluster.name == "slurm" else {}
    for planned in runs:
        try:
            start = jobs.get(planned.after)
            jobs[planned.directory], verb = find_or_submit(planned, cluster, queued or {}, start and start.job_id)
        except Exception as error:  # sbatch's message, which submitit wraps in several types
            raise UserError(
                f"{label(planned)} cannot be submitted: {error}. {len(jobs)} jobs were submitted"
            ) from error
        progress.started(planned, f"job {jobs[planned.directory].job_id}", verb=verb, state="queued")
    try:
        follow({planned.directory: planned for planned in runs}, jobs, progress, cluster)
    except KeyboardInterrupt:
        left = " ".join(jobs[directory].job_id for directory in progress.rows)
        raise Detached(
            f"{len(progress.rows)} jobs go on without this command. The same command follows them again, make "
            f"tables-here renders what has finished. To stop them: scancel {left}"
        ) from None
    return progress.failures


def find_or_submit(
    planned: PlannedRun, cluster: Cluster, queued: dict[str, tuple[str, str]], after: str | None = None
) -> tuple[Any, str]:
    """(job, `found` or `submitted`). queued: see `queue`; after: the job that must have ended before it starts."""
    submitit = load_submitit()
    folder = planned.directory.parent / "jobs"
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / f"{planned.name}.json"
    before = (read_json(note) or {}).get("job")
    if before in queued and queued[before][1] == label(planned):
        return submitit.SlurmJob(folder, before), "found"
    executor = submitit.AutoExecutor(folder, cluster=cluster.name, slurm_max_num_timeout=MOST_TIMEOUTS)
    executor.update_parameters(
        name=label(planned),
        timeout_min=cluster.minutes,
        gpus_per_node=cluster.gpus or None,
        cpus_per_task=cluster.cpus,
        stderr_to_stdout=True,
        slurm_partition=cluster.partition,
        slurm_signal_delay_s=SIGNAL_SECONDS,
        slurm_srun_args=[f"--cpus-per-task={cluster.cpus}"],  # since Slurm 22.05 srun does not take it from sbatch
        slurm_additional_parameters={"requeue": True, "chdir": str(REPOSITORY)}
        | ({"dependency": f"afterany:{after}"} if after else {}),
    )
    job = executor.submit(job_of(planned, cluster))
    write_text(note, json.dumps({"job": job.job_id}))
    return job, "submitted"


def job_of(planned: PlannedRun, cluster: Cluster) -> RunJob:
    words = words_of(planned, cluster.num_processes)
    replaced = stamp(planned.directory) if "--force" in words else None
    if planned.run:
        words = [word for word in words if word not in ("--force", "--resume")]
    if "--device" in words:  # the plan was made for this machine, which may have no GPU
        words[words.index("--device") + 1] = cluster.device
    return RunJob(
        words=words,
        directory=planned.directory.absolute(),
        log=log_file(planned).absolute(),
        threads=max(cluster.cpus // cluster.num_processes, 1),
        trains=planned.run is not None,
        replaces=replaced,
    )


def queue() -> dict[str, tuple[str, str]] | None:
    """{job id: (state, name)} of the user's queued and running jobs; None if Slurm does not answer."""
    words = ["squeue", "--noheader", "--user", str(os.getuid()), "--format", "%i|%T|%j"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        raise UserError("there is no Slurm here (no squeue): run this on a login node, or without LAUNCHER") from None
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        return None
    rows = [line.split("|", 2) for line in done.stdout.splitlines()]
    return {job: (state, name) for job, state, name in rows}


def follow(runs: dict, jobs: dict, progress: Progress, cluster: Cluster) -> None:
    """Show the jobs' states until all have ended."""
    over = _over_locally if cluster.name == "local" else _Over()
    while progress.rows:
        for directory, state in over({directory: jobs[directory] for directory in progress.rows}).items():
            if state == "over":
                progress.ended(runs[directory], problem_of_job(jobs[directory]))
                continue
            row = progress.rows[directory]
            if state == "running" and row.state:
                row.started = time.monotonic()
            if state != (row.state or "running"):
                progress.said("running" if state == "running" else "requeued", runs[directory], row.place)
            row.state = "" if state == "running" else state
        progress.refresh()
        time.sleep(POLL_SECONDS)


def _over_locally(jobs: dict) -> dict:
    return {directory: "over" if job.done() else "running" for directory, job in jobs.items()}


class _Over:
    """The state of each job: queued, running or over (with its result written, or gone from the queue for a while).

    squeue and the results are asked, not submitit: it asks sacct, which needs Slurm's accounting.
    """

    def __init__(self, ask: Callable[[], dict | None] = queue):
        self.ask = ask
        self.seen: dict = {}  # directory -> when its job was last in the queue

    def __call__(self, jobs: dict) -> dict:
        queued, now, states = self.ask(), time.monotonic(), {}
        for directory, job in jobs.items():
            state = (queued or {}).get(job.job_id, ("",))[0]
            if state or queued is None:
                self.seen[directory] = now
            gone = now - self.seen.setdefault(directory, now) > GONE_SECONDS
            waits = state in ("PENDING", "REQUEUED", "CONFIGURING", "REQUEUE_HOLD", "SUSPENDED")
            states[directory] = (
                "over" if job.paths.result_pickle.is_file() or gone else "queued" if waits else "running"
            )
        return states


def problem_of_job(job: Any) -> str:
    """Why a job that is over failed; nothing if it did not."""
    if not job.paths.result_pickle.is_file():
        return f"job {job.job_id} was cancelled or killed"
    error = job.exception()  # of submitit: a run that fails has an exit code
    if error is None:
        return problem_of(job.result())
    return next((line for line in reversed(str(error).split("\n")) if "Error" in line), str(error))
