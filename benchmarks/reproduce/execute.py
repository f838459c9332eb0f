"""Run a plan, one run after another."""

import subprocess
import sys

from common.errors import UserError
from common.paths import REPOSITORY
from common.runs.record import read_record

from .estimate import duration_text
from .plan import Plan, PlannedRun


def execute(plan: Plan, num_processes: int = 1) -> None:
    """Execute the runs that are to do in order, each in its own process (or processes) at this terminal.

    The printed time left is scaled by measured over estimated time of the runs so far.
    """
    to_do = plan.to_do
    estimated = measured = 0.0
    for position, planned in enumerate(to_do):
        correction = measured / estimated if estimated else 1.0
        left = sum(run.seconds for run in to_do[position:]) * correction
        print(
            f"\n[{position + 1}/{len(to_do)}] {planned.name}  about {duration_text(left)} left in total",
            file=sys.stderr,
            flush=True,
        )
        run_one(planned, num_processes)
        record = read_record(planned.directory / "result.json")
        if planned.images and planned.state != "interrupted":  # a resumed run's record includes its earlier time
            estimated += planned.seconds
            measured += record.total_seconds


def words_of(planned: PlannedRun, num_processes: int = 1) -> list[str]:
    """What follows the interpreter on the command line of a run. num_processes: of a training run."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_processes)]
    several = torchrun if planned.run and num_processes > 1 else []
    return [*several, "-m", planned.module, *planned.arguments]


def run_one(planned: PlannedRun, num_processes: int = 1) -> None:
    """Run one module to its end, also after Ctrl-C, which stops both. UserError: it failed.

    num_processes: of a training run; more than one are started by torchrun.
    """
    process = subprocess.Popen([sys.executable, *words_of(planned, num_processes)], cwd=REPOSITORY)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.wait()  # the terminal has sent the same signal to it
        raise
    if code in (130, -2):
        raise KeyboardInterrupt
    if code:
        raise UserError(
            f"{planned.name} ended with exit code {code}; its message is above. After fixing it, the same command "
            "resumes here"
        )
