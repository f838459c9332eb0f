"""The command line that every paper's train.py has."""

import argparse
import os
from pathlib import Path


def command_line(paper: str, dataset: str = "market1501") -> argparse.ArgumentParser:
    """`--demo`, `--dataset`, `--variant`, `--set` and the rest; `--help` says what each is.

    dataset: the one that the paper is trained on unless another is named.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {paper}.train", description=f"Train and evaluate {paper}.")
    parser.add_argument("--demo", action="store_true", help="demo size: synthetic pedestrians, minutes on two cores")
    parser.add_argument("--dataset", default=dataset, help=f"default: {dataset}; see python -m common.datasets check")
    parser.add_argument("--data-root", type=Path, help="folder of the real data sets (also the DATA_ROOT variable)")
    parser.add_argument("--variant", default="full", help="a section of variants in config.yaml")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="change a setting")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--run-dir", type=Path, help="default: runs/<paper>/<dataset>-<kind>-<variant>-s<seed>")
    parser.add_argument("--resume", action="store_true", help="go on from the last finished epoch, if there is one")
    parser.add_argument("--force", action="store_true", help="train again, replacing what is in the run directory")
    return parser


def find_data_root(arguments: argparse.Namespace) -> Path | None:
    """--data-root, else DATA_ROOT; a --demo run takes real data only when asked by --data-root."""
    if arguments.data_root is not None:
        return arguments.data_root
    variable = os.environ.get("DATA_ROOT")
    return Path(variable) if variable and not arguments.demo else None
