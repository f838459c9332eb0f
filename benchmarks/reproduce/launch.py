"""How the runs of a plan are started: one after another, several at once on this machine, or as jobs of a cluster."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field

from common.errors import UserError

from .parallel import Slot, execute_at_once, num_devices, slots_of
from .plan import PlannedRun
from .progress import Failure
from .slurm import Cluster, execute_as_jobs, load_submitit


def add_launch_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="N runs at once, each bound to a GPU or cores")
    parser.add_argument("--launcher", choices=("local", "slurm"), default="local", help="slurm: each run is a job")
    parser.add_argument("--partition", help="of Slurm; default: the cluster's")
    parser.add_argument("--time", type=int, default=240, metavar="MINUTES", help="of a job, which resumes after it")
    parser.add_argument("--gpus-per-job", type=int, metavar="N", help="default: --gpus, or 0 with --device cpu")
    parser.add_argument("--cpus-per-job", type=int, default=4, metavar="N", help="default: 4")


@dataclass(frozen=True)
class Launch:
    """num_processes: of each training run."""

    device: str
    num_processes: int = 1
    slots: list[Slot] = field(default_factory=list)  # several runs at once on this machine
    cluster: Cluster | None = None

    @property
    def jobs(self) -> int:
        return max(len(self.slots), 1)

    @property
    def at_once(self) -> bool:
        return bool(self.slots or self.cluster)

    @property
    def planning_device(self) -> str:
        """A job has another device than the machine on which it is submitted."""
        return "auto" if self.cluster else self.device

    @property
    def estimates(self) -> bool:
        """Whether this machine's speed tells how long the runs take."""
        return self.cluster is None

    def wall_seconds(self, runs: Sequence[PlannedRun]) -> float:
        """0 where it is unknown."""
        if self.cluster:
            return 0.0
        return max([sum(run.seconds for run in runs) / num_devices(self.slots), *(run.seconds for run in runs)])

    def execute(self, runs: Sequence[PlannedRun]) -> list[Failure]:
        """The runs that failed. KeyboardInterrupt and Detached pass."""
        if self.cluster:
            return execute_as_jobs(runs, self.cluster)
        return execute_at_once(runs, self.slots, self.num_processes)


def launch_of(arguments: argparse.Namespace) -> Launch:
    """UserError: numbers that do not fit each other or this machine."""
    numbers = ("jobs", "gpus", "time", "cpus_per_job")
    wrong = [name for name in numbers if getattr(arguments, name) is not None and getattr(arguments, name) < 1]
    if wrong or (arguments.gpus_per_job or 0) < 0:
        name = (wrong or ["gpus_per_job"])[0]
        raise UserError(f"{name.upper()}={getattr(arguments, name)}: a number from {1 if wrong else 0} on is needed")
    if arguments.launcher == "slurm":
        return _on_slurm(arguments)
    processes = arguments.gpus or 1
    if arguments.jobs == 1:
        return Launch(arguments.device, processes)
    return Launch(arguments.device, processes, slots_of(arguments.jobs, arguments.device, processes))


def _on_slurm(arguments: argparse.Namespace) -> Launch:
    load_submitit()
    on_cpu = arguments.device == "cpu"
    gpus = arguments.gpus_per_job if arguments.gpus_per_job is not None else 0 if on_cpu else arguments.gpus or 1
    processes = arguments.gpus or max(gpus, 1)
    if not on_cpu and gpus and processes > gpus:
        raise UserError(f"GPUS={processes} processes a run need as many GPUs, but GPUS_PER_JOB={gpus}")
    cluster = Cluster(
        partition=arguments.partition,
        minutes=arguments.time,
        gpus=gpus,
        cpus=arguments.cpus_per_job,
        num_processes=processes,
        device=arguments.device,
    )
    return Launch(arguments.device, processes, cluster=cluster)
