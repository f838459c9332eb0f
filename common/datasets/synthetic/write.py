"""Writes a synthetic data set to disk in the layout of a real one. `WRITERS` has one function for each layout.

Each module of layouts/ has `write(folder, size, seed, processes)`, which fills an existing folder, and a plan that
lists the images without rendering them. `seed` is the data set's own (seeds.py).
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from common.datasets.base import SYNTHETIC_MARK
from common.datasets.synthetic.difficulty import generator_version
from common.datasets.synthetic.layouts import (
    coco_keypoints,
    cuhk03,
    dukemtmcreid,
    market1501,
    msmt17,
    peta,
    regdb,
    sysu_mm01,
)
from common.datasets.synthetic.seeds import MAX_SEED, people_seed
from common.datasets.synthetic.splits import SIZES
from common.errors import UserError

WRITERS: dict[str, Callable[[Path, str, int, int], None]] = {
    "market1501": market1501.write,
    "dukemtmcreid": dukemtmcreid.write,
    "msmt17": msmt17.write,
    "cuhk03": cuhk03.write,
    "sysu_mm01": sysu_mm01.write,
    "regdb": regdb.write,
    "peta": peta.write,
    "coco_keypoints": coco_keypoints.write,
}


def make_dataset(
    folder: Path, *, like: str = "market1501", size: str = "demo", seed: int = 0, processes: int | None = None
) -> Path:
    """Generate a data set in `folder` and return `folder`.

    folder: created with its parents; an earlier synthetic data set there is replaced, anything else is a UserError.
    like: the data set whose layout is written, a key of WRITERS; size: a key of SIZES; processes: default one a core.
    The files are written to a temporary folder beside `folder`, which is renamed at the end: `folder` never holds an
    incomplete data set. The same like, size and seed give bitwise identical files, whatever the number of processes.
    """
    folder = Path(folder)
    if like not in WRITERS:
        raise UserError(f"no synthetic data set has the layout of {like!r}; known layouts: {', '.join(WRITERS)}")
    if size not in SIZES:
        raise UserError(f"unknown size {size!r}; sizes: {', '.join(SIZES)}")
    if not 0 <= seed <= MAX_SEED:
        raise UserError(f"the seed must be from 0 to {MAX_SEED}, got {seed}")
    _refuse_foreign(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-unfinished-", dir=folder.parent))
    try:
        unfinished.chmod(0o755)
        mark = {"like": like, "size": size, "seed": seed, "generator_version": generator_version(like)}
        (unfinished / SYNTHETIC_MARK).write_text(json.dumps(mark, indent=1) + "\n")
        WRITERS[like](unfinished, size, people_seed(like, seed), processes or os.cpu_count() or 1)
        _put_in_place(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _refuse_foreign(folder: Path) -> None:
    if folder.exists() and not (folder / SYNTHETIC_MARK).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"{folder} exists and is not a synthetic data set (it has no {SYNTHETIC_MARK}): not overwriting it. "
            "Choose another folder, or remove this one yourself."
        )


def _put_in_place(unfinished: Path, folder: Path) -> None:
    """Rename `unfinished` to `folder`. If another process finished a data set there meanwhile, that one stays."""
    if folder.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-replaced-", dir=folder.parent))
        folder.rename(old / folder.name)
        shutil.rmtree(old)
    try:
        unfinished.rename(folder)
    except OSError:
        if not (folder / SYNTHETIC_MARK).is_file():
            raise
