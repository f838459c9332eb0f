"""`python -m benchmarks reproduce PAPER ...`: run what is missing under runs/, then write runs/tables/PAPER.md.

Finished runs are used again, interrupted ones go on from their last epoch. A published record never stands in for a
run.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from tabulate import tabulate

from common.errors import UserError
from common.provenance import REPOSITORY, source_hash
from common.runs import read_json, runs_folder

from . import figures
from .estimate import estimate, print_duration
from .pages import write_local_page
from .plan import Plan, PlannedRun, make_plan
from .records import local_records, published_records
from .spec import Paper, load_spec

ASK_ABOVE_SECONDS = 2 * 3600
WHAT_HAPPENS = {
    "new": "to run",
    "interrupted": "goes on from its last epoch",
    "finished": "finished, used again",
    "stale": "finished with other source code, used again and marked (FORCE=1 trains it again)",
    "different": "replaced: it was run with other settings or data",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("papers", nargs="+", metavar="PAPER")
    parser.add_argument("--scope", choices=("headline", "all"), default="headline")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--data-root", type=Path, help="real data at the paper's settings (also the DATA_ROOT variable)"
    )
    parser.add_argument(
        "--demo", action="store_true", help="synthetic data at demo size: the default without a data root"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--gpus", type=int, default=1, metavar="N", help="train each run in N processes, a GPU each")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="documents (table5) or variants (baseline)"
    )
    parser.add_argument("--force", action="store_true", help="train again what is finished")
    parser.add_argument("--yes", action="store_true", help="do not ask before a plan of more than two hours")


def main(arguments: argparse.Namespace) -> int:
    """Returns the exit code: 0, or 130 after Ctrl-C. Raises UserError for what its user can mend.

    Of several papers all plans stand first, then the papers are run one after another.
    """
    plans = make_plans(arguments)
    seconds = sum(plan.seconds for _, plan in plans)
    if len(plans) > 1:
        print(f"\nin all {len(plans)} papers: about {print_duration(seconds)}", flush=True)
    if seconds > ASK_ABOVE_SECONDS and not arguments.yes:
        raise UserError(
            f"this takes about {print_duration(seconds)} here: confirm with YES=1 (--yes), or choose less with "
            "ONLY= or SEEDS="
        )
    runs = runs_folder()
    for paper, plan in plans:
        try:
            execute(plan, arguments.gpus)
            figures.draw_from_runs(paper, plan, runs / "tables" / paper.paper)
        except KeyboardInterrupt:
            print("\nstopped; the same command goes on from the last finished epoch", file=sys.stderr)
            return 130
        page, summary = write_local_page(paper, runs, source_hash(paper.paper))
        print(f"\n{summary}\n\nreported, committed and reproduced here: {page}", flush=True)
    return 0


def make_plans(arguments: argparse.Namespace) -> list[tuple[Paper, Plan]]:
    """Each paper with its plan, printed. UserError when not one of them can be run."""
    root, plans, refused = data_root(arguments), [], []
    together = arguments.scope == "headline" and len(arguments.papers) > 1
    for name in arguments.papers:
        paper = load_spec(name)
        try:
            plan = make_plan(
                paper,
                scope="together" if together else arguments.scope,
                only=arguments.only,
                seeds=arguments.seeds,
                data_root=root,
                device=arguments.device,
                force=arguments.force,
            )
        except UserError as error:
            if len(arguments.papers) == 1:
                raise
            refused.append(error)
            print(f"{name} is left out: {error}\n", file=sys.stderr)
            continue
        estimate(plan, local_records(name, runs_folder()), published_records(name))
        print(f"{paper.short}\n{describe(plan)}\n" if len(arguments.papers) > 1 else describe(plan), flush=True)
        plans.append((paper, plan))
    if not plans:
        raise refused[0]
    return plans


def data_root(arguments: argparse.Namespace) -> Path | None:
    """--data-root, else DATA_ROOT; None (synthetic data at demo size) with --demo."""
    variable = os.environ.pop("DATA_ROOT", None)  # the runs get it as an argument, or not at all
    root = None if arguments.demo else arguments.data_root or variable
    return Path(root).expanduser().resolve() if root else None


def describe(plan: Plan) -> str:
    """The plan as text for the terminal."""
    cells = [
        [run.name, WHAT_HAPPENS[run.state], f"about {print_duration(run.seconds)}" if run.to_do else ""]
        for run in plan.runs
    ]
    lines = [tabulate(cells, ["run", "state", "time"], tablefmt="simple", disable_numparse=True)]
    lines += [f"left out: {line}" for line in plan.left_out]
    total = f"about {print_duration(plan.seconds)} in all" if plan.to_do else "nothing to train, only to render"
    lines.append(f"{len(plan.to_do)} of {len(plan.runs)} runs to do, {total}")
    return "\n".join(lines)


def execute(plan: Plan, num_processes: int = 1) -> None:
    """Run what is to do, one after another, each in its own process (or processes) at this terminal.

    What is left is corrected by how the runs so far compared with their estimates.
    """
    to_do = plan.to_do
    estimated = measured = 0.0
    for position, planned in enumerate(to_do):
        correction = measured / estimated if estimated else 1.0
        left = sum(run.seconds for run in to_do[position:]) * correction
        print(
            f"\n[{position + 1}/{len(to_do)}] {planned.name}  about {print_duration(left)} left in all",
            file=sys.stderr,
            flush=True,
        )
        run_one(planned, num_processes)
        record = read_json(planned.directory / "result.json")
        if planned.images and planned.state != "interrupted":  # an interrupted run's record holds its earlier time too
            estimated += planned.seconds
            measured += sum(record["seconds"].values())


def run_one(planned: PlannedRun, num_processes: int = 1) -> None:
    """Run one module to its end. Raises UserError when it fails; waits for it when Ctrl-C stops both.

    num_processes: for a training run; more than one are started by torchrun.
    """
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_processes)]
    several = torchrun if planned.run and num_processes > 1 else []
    command = [sys.executable, *several, "-m", planned.module, *planned.arguments]
    process = subprocess.Popen(command, cwd=REPOSITORY)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.wait()  # the terminal has sent it the same signal
        raise
    if code in (130, -2):
        raise KeyboardInterrupt
    if code:
        raise UserError(
            f"{planned.name} ended with exit code {code}; its message is above. When that is mended, the same command "
            "goes on from here"
        )
