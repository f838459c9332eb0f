"""`python -m benchmarks reproduce PAPER ...`: run what is missing under runs/, then write runs/tables/PAPER.md.

Finished runs are reused, interrupted ones resume after their last epoch. A published record never replaces a run.
One run after another at this terminal, or with --jobs or --launcher the runs of all papers at once.
"""

import argparse
import os
import sys
from pathlib import Path

from tabulate import tabulate

from benchmarks.pages.commands import ASK_ABOVE_SECONDS
from benchmarks.pages.local import write_local_comparison, write_local_page
from benchmarks.records import local_records, published_records
from benchmarks.spec import PaperSpec, load_spec
from common.errors import UserError
from common.paths import runs_folder
from common.runs.lock import hold

from .estimate import duration_text, estimate
from .execute import execute
from .figures import draw_from_runs
from .launch import Launch, add_launch_arguments, launch_of
from .plan import COMPARISON, PAIRS, Plan, make_plan
from .progress import raise_failures
from .slurm import Detached

WHAT_HAPPENS = {
    "new": "to run",
    "interrupted": "resumes at its last checkpoint",
    "finished": "finished, reused",
    "stale": "finished with other source code or starting weights, reused and marked stale (FORCE=1 trains it again)",
    "different": "run with other settings or data, to be replaced",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("papers", nargs="+", metavar="PAPER")
    parser.add_argument("--scope", choices=(PAIRS, "headline", "all", "decisions", COMPARISON), default="headline")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--data-root", type=Path, help="real data at the paper's settings (also the DATA_ROOT variable)"
    )
    parser.add_argument(
        "--demo", action="store_true", help="synthetic data at demo size: the default without a data root"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--gpus", type=int, metavar="N", help="train each run in N processes, one GPU each")
    add_launch_arguments(parser)
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="documents (table5) or variants (baseline)"
    )
    parser.add_argument("--force", action="store_true", help="train finished runs again, from scratch")
    parser.add_argument(
        "--yes",
        action="store_true",
        help="run a plan of more than two hours (refused otherwise, but for the headline demo)",
    )


def main(arguments: argparse.Namespace) -> int:
    """Print the plans of all papers, then run them. Returns 0, or 130 after Ctrl-C. UserError: a run failed."""
    launch, runs = launch_of(arguments), runs_folder()
    for name in arguments.papers:
        load_spec(name)
        hold(runs / name, "wait for that command or stop it; `make tables-here` renders what has finished")
    plans = make_plans(arguments, launch)
    confirm(plans, arguments, launch)
    to_do = [run for _, plan in plans for run in plan.to_do]
    failures = []
    try:
        if launch.at_once:
            failures = launch.execute(to_do)
        for paper, plan in plans:
            if not launch.at_once:
                execute(plan, launch.num_processes)
            draw_from_runs(paper, plan, runs / "tables" / paper.paper)
            page, summary = write_local_page(paper, runs)
            print(f"\n{summary}\n\nreported, committed and reproduced here: {page}", flush=True)
        if len(plans) > 1 and (side_by_side := write_local_comparison(runs)):
            print(f"\nthe papers' models side by side: {side_by_side}", flush=True)
    except Detached as detached:
        print(f"\n{detached}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("\nstopped; the same command resumes at the last checkpoint", file=sys.stderr)
        return 130
    raise_failures(failures, len(to_do))
    return 0


def confirm(plans: list[tuple[PaperSpec, Plan]], arguments: argparse.Namespace, launch: Launch) -> None:
    """Print the time of several papers. UserError: a long plan that is not confirmed. The demo of the headline
    documents needs no confirmation: it is what a newcomer runs first, and a slow machine's only fault is to be slow."""
    seconds = launch.wall_seconds([run for _, plan in plans for run in plan.to_do])
    if (len(plans) > 1 or launch.at_once) and seconds:
        what = [f"all {len(plans)} papers"] if len(plans) > 1 else []
        what += [f"{launch.jobs} runs at once"] if launch.at_once else []
        print(f"\n{', '.join(what)}: about {duration_text(seconds)}", flush=True)
    first = (
        arguments.scope in (PAIRS, "headline") and not arguments.only and all(plan.kind == "demo" for _, plan in plans)
    )
    if seconds > ASK_ABOVE_SECONDS and not (arguments.yes or first):
        raise UserError(
            f"this takes about {duration_text(seconds)} here: confirm with YES=1 (--yes), or run less with "
            "ONLY= or SEEDS="
        )


def make_plans(arguments: argparse.Namespace, launch: Launch) -> list[tuple[PaperSpec, Plan]]:
    """Make and print the plan of each paper. UserError: none of the papers can be run."""
    root, plans, refused = data_root(arguments), [], []
    several = len(arguments.papers) > 1
    for name in arguments.papers:
        paper = load_spec(name)
        try:
            plan = make_plan(
                paper,
                scope=arguments.scope,
                only=arguments.only,
                seeds=arguments.seeds,
                data_root=root,
                device=launch.planning_device,
                force=arguments.force,
            )
        except UserError as error:
            if not several:
                raise
            refused.append(error)
            print(f"{name} is left out: {error}\n", file=sys.stderr)
            continue
        if launch.estimates:
            estimate(plan, local_records(name, runs_folder()), published_records(name))
        print(f"{paper.short}\n{describe(plan)}\n" if several else describe(plan), flush=True)
        plans.append((paper, plan))
    if not plans:
        raise refused[0]
    return plans


def data_root(arguments: argparse.Namespace) -> Path | None:
    """--data-root, else DATA_ROOT; None (synthetic data at demo size) with --demo."""
    variable = os.environ.pop("DATA_ROOT", None)  # runs get it only as an argument
    root = None if arguments.demo else arguments.data_root or variable
    return Path(root).expanduser().resolve() if root else None


def describe(plan: Plan) -> str:
    """The plan as text."""
    cells = [
        [run.name, WHAT_HAPPENS[run.state], f"about {duration_text(run.seconds)}" if run.to_do and run.seconds else ""]
        for run in plan.runs
    ]
    lines = [tabulate(cells, ["run", "state", "time"], tablefmt="simple", disable_numparse=True)]
    lines += [f"left out: {line}" for line in plan.left_out]
    total = f", about {duration_text(plan.seconds)} in total" if plan.seconds else ""
    total = total if plan.to_do else ", nothing to train, only to render"
    lines.append(f"{len(plan.to_do)} of {len(plan.runs)} runs to do{total}")
    return "\n".join(lines)
