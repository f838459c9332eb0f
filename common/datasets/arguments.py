"""The command line of every program that reads a data set, and the data set that it names."""

import argparse
import os
from pathlib import Path

from common import distributed
from common.datasets import open_dataset
from common.datasets.base import DataSet


def add_dataset_arguments(parser: argparse.ArgumentParser, dataset: str = "market1501") -> None:
    """`--demo`, `--dataset`, `--data-root` and `--device`. dataset: the default of `--dataset`."""
    parser.add_argument(
        "--demo", action="store_true", help="demo size: synthetic pedestrians, takes minutes on two cores"
    )
    parser.add_argument("--dataset", default=dataset, help=f"default: {dataset}; see python -m common.datasets check")
    parser.add_argument("--data-root", type=Path, help="folder of the real data sets (also the DATA_ROOT variable)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")


def find_data_root(arguments: argparse.Namespace) -> Path | None:
    """--data-root, else DATA_ROOT; a --demo run uses real data only with --data-root."""
    if arguments.data_root is not None:
        return arguments.data_root
    variable = os.environ.get("DATA_ROOT")
    return Path(variable) if variable and not arguments.demo else None


def dataset_of(arguments: argparse.Namespace) -> DataSet:
    """The data set that a command line names; a synthetic one is generated if it is missing."""
    size = "demo" if arguments.demo else "full"
    with distributed.main_process_first():  # it may have to generate the data
        return open_dataset(arguments.dataset, find_data_root(arguments), size=size)
