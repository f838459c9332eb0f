"""`python -m benchmarks tables-here`: render a user's own pages, runs/tables/, from what has finished."""

import argparse

from benchmarks.records import local_records
from benchmarks.spec import known_papers, load_spec
from common.errors import UserError
from common.paths import runs_folder

from .local import write_local_comparison, write_local_page


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("papers", nargs="*", metavar="PAPER", help="default: all that have a finished run")


def main(arguments: argparse.Namespace) -> int:
    """UserError: no run has finished."""
    runs, written = runs_folder(), 0
    for name in arguments.papers or known_papers():
        paper, finished = load_spec(name), len(local_records(name, runs))
        if not finished:
            continue
        page, summary = write_local_page(paper, runs)
        print(f"{summary}\n\nfrom {finished} finished runs: {page}\n", flush=True)
        written += 1
    if not arguments.papers and (side_by_side := write_local_comparison(runs)):
        print(f"the papers' models side by side: {side_by_side}\n", flush=True)
    if not written:
        raise UserError(
            f"no run has finished in {runs} yet: run one with make reproduce, or name its folder in REID_RUNS"
        )
    return 0
