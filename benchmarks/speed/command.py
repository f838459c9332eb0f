"""`make speed` (`python -m benchmarks speed [--part NAME ...]` with the Makefile's malloc settings).

Prints one table for training, inference and data, and one each for scoring and re-ranking against the usual code.
Absolute numbers hold for the machine that printed them; compare the ratios. These are not tests: a busy machine gives
other numbers.
"""

import argparse

import torch
from tabulate import tabulate

from common import devices
from common.datasets import open_dataset

from . import scoring
from .training import PARTS

COMPARISONS = {"scoring": (scoring.SCORING, "Scoring"), "reranking": (scoring.RERANKING, "Re-ranking")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    names = [*PARTS, *COMPARISONS]
    parser.add_argument("--part", nargs="+", choices=names, default=names, help="only these")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each bare measurement")


def main(arguments: argparse.Namespace) -> int:
    open_dataset("market1501")  # generate it before anything is timed
    lines = []
    for name in [name for name in arguments.part if name in PARTS]:
        lines.append(PARTS[name](arguments.device, arguments.seconds))
        print(f"{name}: {lines[-1][1]:.1f} images/s", flush=True)
    device = devices.select_device(arguments.device)
    cells = [[what, f"{found:.1f}", other, f"{ratio:.0%}" if ratio else ""] for what, found, other, ratio in lines]
    if cells:
        print(f"\n{device.type}, {torch.get_num_threads()} threads")
        print(tabulate(cells, ["what", "images/s", "against", "ratio"], disable_numparse=True))
    for name in [name for name in arguments.part if name in COMPARISONS]:
        print(scoring.compare_at_full_size(*COMPARISONS[name]))
    return 0
