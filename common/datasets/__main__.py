"""Make a synthetic data set, check what is on disk against what was published, or look at it.

python -m common.datasets make --like market1501 [--size demo] [--seed 0] [--out DIR]
python -m common.datasets check [NAME] [--data-root DIR]
python -m common.datasets sheet [NAME] [--data-root DIR] [--out sheet.png]
"""

import argparse
import os
import sys
from pathlib import Path

from tabulate import tabulate

from common.datasets import READERS, find_folder, open_dataset, reader_of, synthetic_folder
from common.datasets.base import DataSet
from common.datasets.synthetic import make_dataset
from common.datasets.synthetic.plan import SIZES
from common.datasets.synthetic.write import WRITERS
from common.errors import UserError, command
from common.visualize import sample_sheet


@command
def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or 2 if a data set that was asked for is not there or not readable."""
    parser = argparse.ArgumentParser(prog="python -m common.datasets", description="Make or check data sets.")
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", help="draw synthetic pedestrians in the layout of a real data set")
    make.add_argument("--like", default="market1501", choices=sorted(WRITERS), help="whose layout")
    make.add_argument("--size", default="demo", choices=sorted(SIZES), help="how many identities and images")
    make.add_argument("--seed", type=int, default=0, help="another seed draws other people and places")
    make.add_argument("--out", type=Path, help="folder to make (default: data/synthetic/SIZE/LIKE)")
    check = commands.add_parser("check", help="count what is on disk and compare it with what was published")
    check.add_argument("name", nargs="?", help=f"one of {', '.join(sorted(READERS))}; all of them if left out")
    check.add_argument("--data-root", type=Path, help="folder of the real data sets (default: DATA_ROOT)")
    sheet = commands.add_parser("sheet", help="a picture of some training identities in each camera")
    sheet.add_argument("name", nargs="?", default="market1501", help=f"one of {', '.join(sorted(READERS))}")
    sheet.add_argument("--data-root", type=Path, help="folder of the real data sets (default: the synthetic demo set)")
    sheet.add_argument("--out", type=Path, default=Path("sheet.png"))
    sheet.add_argument("--seed", type=int, default=0, help="another seed shows other identities")
    options = parser.parse_args(arguments)
    if options.command == "make":
        return _make(options)
    if options.command == "sheet":
        print(sample_sheet(open_dataset(options.name, options.data_root).train, options.out, seed=options.seed))
        return 0
    names = [options.name] if options.name else sorted(READERS)
    root = options.data_root or os.environ.get("DATA_ROOT") or None
    return max(_check(name, root) for name in names)


def _make(options: argparse.Namespace) -> int:
    if options.out is None and options.seed != 0:
        raise UserError("the default folder holds the set of seed 0: name another one with --out for another seed")
    folder = options.out or synthetic_folder(options.like, options.size)
    make_dataset(folder, like=options.like, size=options.size, seed=options.seed)
    print(_table(reader_of(options.like).read(folder, options.like)))
    return 0


def _check(name: str, root: str | Path | None) -> int:
    """Print one data set's table. Returns 0, or 2 if it is not there: the other data sets are still to be checked."""
    reader = reader_of(name)
    try:
        synthetic = [synthetic_folder(name, size) for size in ("demo", "full")]
        folders = synthetic if root is None else [find_folder(name, root)]
        present = [folder for folder in folders if folder.is_dir()]
        if not present:
            looked = "\n".join(f"  {folder}" for folder in folders)
            raise UserError(
                f"{name} was not found. No data root was given; looked for the synthetic data in\n{looked}\n"
                f"Make it by `python -m common.datasets make --like {reader.NAME}`, or give --data-root (DATA_ROOT).\n"
                f"Expected below the data root:\n{reader.LAYOUT}"
            )
        for folder in present:
            dataset = reader.read(folder, name)
            print(_table(dataset))
            print("\n".join([*dataset.notes, *differences(dataset, reader.PUBLISHED[name])]) + "\n")
    except UserError as error:
        print(f"error: {error}\n", file=sys.stderr)
        return 2
    return 0


def _table(dataset: DataSet) -> str:
    rows = [(name, c["images"], c["identities"], c["cameras"]) for name, c in dataset.counts.items()]
    title = f"{dataset.name} ({dataset.kind}, fingerprint {dataset.fingerprint}) in {dataset.folder}"
    return title + "\n" + tabulate(rows, headers=("subset", "images", "identities", "cameras"), intfmt=",")


def differences(dataset: DataSet, published: dict[str, tuple[int, int, int]]) -> list[str]:
    """One line for each count that is not as published, or one line that says there is none."""
    lines = []
    for name, counts in published.items():
        if name not in dataset.counts:
            lines.append(f"  {name}: not there, published with {counts[0]:,} images")
            continue
        for what, expected in zip(("images", "identities", "cameras"), counts, strict=True):
            if (found := dataset.counts[name][what]) != expected:
                lines.append(f"  {name}: {found:,} {what}, published {expected:,}")
    if not lines:
        return ["All counts are as published."]
    if dataset.kind not in ("real", "full"):
        return [f"Synthetic, size {dataset.kind}: fewer images than the real data set by design."]
    return ["Not as published:", *lines]


if __name__ == "__main__":
    sys.exit(main())
