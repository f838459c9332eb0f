"""Data sets: `open_dataset(name, root)` finds one on disk and reads it, whatever its layout.

With no root the pictures are synthetic: drawn on first use in the real data set's layout, and read by the same reader.
One more data set is one more module like market1501.py and one more entry in MODULES. A module has
* NAME, the layout's name, which is also the synthetic data set's folder;
* FOLDER_NAMES below a data root, and LANDMARKS, any of which tells that a folder is the data set itself;
* LAYOUT, what an error message shows;
* OFFICIAL_COUNTS, {name: {subset: (images, identities, cameras)}}, a name for each way to use the data set, the usual first;
  subsets and counts that were not published are left out, the latter as None;
* read(folder, name) -> DataSet;
* TRIALS, where each of several names is a trial whose mean papers report (RegDB).
"""

import difflib
import json
import os
import sys
from pathlib import Path
from types import ModuleType

from common.datasets import (
    coco_keypoints,
    csv_file,
    cuhk03,
    dukemtmcreid,
    market1501,
    msmt17,
    peta,
    regdb,
    sysu_mm01,
)
from common.datasets.base import SYNTHETIC_MARK, DataSet, Sample, Subset
from common.errors import UserError

__all__ = [
    "READERS",
    "DataSet",
    "Sample",
    "Subset",
    "find_folder",
    "open_dataset",
    "reader_of",
    "synthetic_folder",
    "trial_of",
    "trials_of",
]

MODULES: tuple[ModuleType, ...] = (
    market1501,
    dukemtmcreid,
    msmt17,
    cuhk03,
    sysu_mm01,
    regdb,
    peta,
    coco_keypoints,
    csv_file,
)

READERS: dict[str, ModuleType] = {name: module for module in MODULES for name in module.OFFICIAL_COUNTS}


def open_dataset(name: str, root: Path | None = None, *, size: str = "demo") -> DataSet:
    """The data set called `name`.

    root: a folder that holds data sets under their downloads' names, or the data set's own folder; None takes the
    synthetic data set of this `size` and draws it if absent. (DATA_ROOT is read by the commands, not here.)
    UserError: unknown name, nothing there, or not in the expected layout.
    """
    reader = reader_of(name)
    if root is not None:
        return reader.read(find_folder(name, root), name)
    folder = synthetic_folder(name, size)
    _draw_if_absent(folder, reader.NAME, size)
    return reader.read(folder, name)


def find_folder(name: str, root: Path) -> Path:
    """The data set's folder in `root`, under any of its known names. UserError if it is not there."""
    reader = reader_of(name)
    root = Path(root).expanduser()
    candidates = [root / folder for folder in reader.FOLDER_NAMES]
    found = [folder for folder in candidates if folder.is_dir()]
    if found:
        return found[0]
    if root.is_dir() and root.resolve().name in reader.FOLDER_NAMES:
        return root
    if any((root / landmark).exists() for landmark in reader.LANDMARKS):
        return root
    looked = "\n".join(f"  {folder}" for folder in [*candidates, root])
    raise UserError(f"{name} was not found. Looked in\n{looked}\nExpected below the data root:\n{reader.LAYOUT}")


def synthetic_folder(name: str, size: str) -> Path:
    """Where the drawn data set stands: below `data/` of the repository, or below the environment variable REID_DATA."""
    data = os.environ.get("REID_DATA") or Path(__file__).resolve().parents[2] / "data"
    return Path(data) / "synthetic" / size / reader_of(name).NAME


def reader_of(name: str) -> ModuleType:
    """The module that reads this data set. UserError: unknown name."""
    if name not in READERS:
        near = difflib.get_close_matches(name, READERS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UserError(f"unknown data set {name!r}; known: {', '.join(READERS)}.{hint}")
    return READERS[name]


def trials_of(name: str) -> list[str]:
    """The names under which a data set is trained on, each a trial of its own: ten of RegDB, one of the others."""
    reader = reader_of(name)
    return list(getattr(reader, "TRIALS", ())) if name == reader.NAME and hasattr(reader, "TRIALS") else [name]


def trial_of(name: str) -> str:
    """The data set of which a name is a trial: `regdb` for regdb-3, the name itself for most."""
    reader = reader_of(name)
    return reader.NAME if name in getattr(reader, "TRIALS", ()) else name


def _draw_if_absent(folder: Path, name: str, size: str) -> None:
    # Imported here: drawing needs the readers, and reading real data needs no drawing.
    from common.datasets.synthetic import make_dataset
    from common.datasets.synthetic.difficulty import generator_version
    from common.datasets.synthetic.write import WRITERS

    mark = folder / SYNTHETIC_MARK
    if mark.is_file():
        if json.loads(mark.read_text())["generator_version"] == generator_version(name):
            return
        print(f"{folder} was drawn by another version of the generator: drawing it anew", file=sys.stderr)
    elif name not in WRITERS:
        raise UserError(
            f"{name} is not drawn, it needs a data root (--data-root or DATA_ROOT). Expected there:\n"
            f"{reader_of(name).LAYOUT}\nDrawn without one: {', '.join(WRITERS)}"
        )
    else:
        print(f"no data root given: drawing the synthetic {name} ({size}) into {folder}", file=sys.stderr)
    make_dataset(folder, like=name, size=size)
