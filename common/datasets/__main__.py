"""Generate a synthetic data set, check the data on disk against the published counts, or show sample images.

python -m common.datasets make --like market1501 [--size demo] [--seed 0] [--out DIR]
python -m common.datasets check [NAME] [--data-root DIR]
python -m common.datasets sheet [NAME] [--data-root DIR] [--out sheet.png]
"""

import argparse
import os
import sys
from pathlib import Path

from tabulate import tabulate

from common.datasets import MODULES, READERS, cuhk03, find_folder, open_dataset, reader_of, synthetic_folder
from common.datasets.base import DataSet
from common.datasets.synthetic import make_dataset
from common.datasets.synthetic.splits import SIZES
from common.datasets.synthetic.write import WRITERS
from common.errors import UserError, command
from common.visualize.sheets import sample_sheet


@command
def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or 2 if the named data set is absent or unreadable. `check` without a name: 2 if there is none at
    all or one that is there is unreadable, as nobody has them all."""
    parser = argparse.ArgumentParser(prog="python -m common.datasets", description="Generate, check or show data sets.")
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", help="generate synthetic pedestrians in the layout of a real data set")
    make.add_argument(
        "--like",
        nargs="+",
        default=["market1501"],
        choices=sorted(WRITERS),
        help="layouts to write",
    )
    make.add_argument("--size", default="demo", choices=sorted(SIZES), help="number of identities and images")
    make.add_argument("--seed", type=int, default=0, help="another seed gives other people and places")
    make.add_argument("--out", type=Path, help="folder to write (default: data/synthetic/SIZE/LIKE)")
    check = commands.add_parser("check", help="count what is on disk and compare it with the published counts")
    check.add_argument(
        "name",
        nargs="?",
        help=f"one of {', '.join(READERS)}; by default all except regdb-2 to -10 and msmt17-train",
    )
    check.add_argument("--data-root", type=Path, help="folder of the real data sets (default: DATA_ROOT)")
    sheet = commands.add_parser("sheet", help="save a contact sheet of some training identities in each camera")
    sheet.add_argument("name", nargs="?", default="market1501", help=f"one of {', '.join(READERS)}")
    sheet.add_argument("--data-root", type=Path, help="folder of the real data sets (default: the synthetic demo set)")
    sheet.add_argument("--out", type=Path, default=Path("sheet.png"))
    sheet.add_argument("--seed", type=int, default=0, help="another seed shows other identities")
    options = parser.parse_args(arguments)
    if options.command == "make":
        return _make(options)
    if options.command == "sheet":
        print(sample_sheet(open_dataset(options.name, options.data_root).train, options.out, seed=options.seed))
        return 0
    root = options.data_root or os.environ.get("DATA_ROOT") or None
    if options.name:
        return 0 if _check(options.name, root) == "read" else 2
    return _check_all(root)


def _make(options: argparse.Namespace) -> int:
    if options.out is None and options.seed != 0:
        raise UserError("the default folder holds the data set of seed 0: for another seed, choose a folder with --out")
    if options.out is not None and len(options.like) > 1:
        raise UserError("--out is the folder of one data set: give one layout with it")
    for like in options.like:
        folder = options.out or synthetic_folder(like, options.size)
        make_dataset(folder, like=like, size=options.size, seed=options.seed)
        print(_table(reader_of(like).read(folder, like)))
    return 0


def _check_all(root: str | Path | None) -> int:
    """Each layout once: other names of a module read the same images from other lists, except CUHK03's two boxes."""
    outcomes = []
    for module in MODULES:
        outcomes.append(_check(next(iter(module.OFFICIAL_COUNTS)), root))
        if module is cuhk03 and outcomes[-1] != "absent":
            outcomes.append(_check(cuhk03.LABELED, root))
    return 0 if "read" in outcomes and "unreadable" not in outcomes else 2


def _check(name: str, root: str | Path | None) -> str:
    """Print one data set's table, or the error. Returns `read`, `absent` or `unreadable`."""
    reader = reader_of(name)
    try:
        folders = _present_folders(name, root)
    except UserError as error:
        print(f"error: {error}\n", file=sys.stderr)
        return "absent"
    outcome = "read"
    for folder in folders:
        try:
            dataset = reader.read(folder, name)
            print(_table(dataset))
            print("\n".join([*dataset.notes, *differences(dataset, reader.OFFICIAL_COUNTS[name])]) + "\n")
        except UserError as error:
            print(f"error: {error}\n", file=sys.stderr)
            outcome = "unreadable"
    return outcome


def _present_folders(name: str, root: str | Path | None) -> list[Path]:
    """The data set's folder below `root`, or its synthetic ones. UserError: there is none."""
    if root is not None:
        return [find_folder(name, root)]
    folders = [synthetic_folder(name, size) for size in ("demo", "full")]
    present = [folder for folder in folders if folder.is_dir()]
    if not present:
        reader = reader_of(name)
        looked = "\n".join(f"  {folder}" for folder in folders)
        has_synthetic = reader.NAME in WRITERS
        way = f"Run `python -m common.datasets make --like {reader.NAME}`, or give" if has_synthetic else "Give"
        raise UserError(
            f"{name} was not found. No data root was given; looked for the synthetic data in\n{looked}\n"
            f"{way} --data-root (DATA_ROOT).\nExpected below the data root:\n{reader.LAYOUT}"
        )
    return present


def _table(dataset: DataSet) -> str:
    rows = [(name, c["images"], c["identities"], c["cameras"]) for name, c in dataset.counts.items()]
    title = f"{dataset.name} ({dataset.kind}, fingerprint {dataset.fingerprint}) in {dataset.folder}"
    return title + "\n" + tabulate(rows, headers=("subset", "images", "identities", "cameras"), intfmt=",")


def differences(dataset: DataSet, published: dict[str, tuple[int | None, int | None, int | None]]) -> list[str]:
    """One line for each count that differs from the published one, or one line that says there is none.

    published: {subset: (images, identities, cameras)}, None where nothing was published.
    """
    if not published:
        return ["There are no published counts to compare with."]
    lines = []
    for name, counts in published.items():
        if name not in dataset.counts:
            images = "" if counts[0] is None else f", published with {counts[0]:,} images"
            lines.append(f"  {name}: missing{images}")
            continue
        for what, expected in zip(("images", "identities", "cameras"), counts, strict=True):
            if expected is not None and (found := dataset.counts[name][what]) != expected:
                lines.append(f"  {name}: {found:,} {what}, published {expected:,}")
    if not lines:
        return ["All counts are as published."]
    if dataset.kind not in ("real", "full"):
        return [f"Synthetic, size {dataset.kind}: fewer images than the real data set by design."]
    return ["Differences from the published counts:", *lines]


if __name__ == "__main__":
    sys.exit(main())
