"""Writes a synthetic data set to disk in the layout of a real one. `WRITERS` has one function for each layout.

A layout is a module of layouts/ with `write(folder, size, seed, processes)`, which fills a folder that exists, and a plan
of its pictures that can be made, and counted, without drawing them. `seed` is the data set's own (seeds.py).
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
from common.datasets.synthetic.seeds import people_seed
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
    """Draw a whole data set into `folder` and return it.

    folder: made with its parents; an earlier synthetic set there is replaced, anything else is left alone (UserError).
    like: whose layout, a key of WRITERS; size: a key of SIZES; processes: None takes one for each core.
    The pictures are drawn beside `folder` and moved there at the end, so that no half-made set ever stands there. The
    same like, size and seed give the same bytes in every file, whatever the number of processes.
    """
    folder = Path(folder)
    if like not in WRITERS:
        raise UserError(f"cannot draw a data set like {like!r}; layouts that can be drawn: {', '.join(WRITERS)}")
    if size not in SIZES:
        raise UserError(f"unknown size {size!r}; sizes: {', '.join(SIZES)}")
    if seed < 0:
        raise UserError(f"the seed must be 0 or more, got {seed}")
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
            f"{folder} exists and is no synthetic data set (it has no {SYNTHETIC_MARK}): not overwriting it. "
            "Name another folder, or remove this one yourself."
        )


def _put_in_place(unfinished: Path, folder: Path) -> None:
    """Rename, after moving away what stood there; a set that another process finished meanwhile may win."""
    if folder.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-replaced-", dir=folder.parent))
        folder.rename(old / folder.name)
        shutil.rmtree(old)
    try:
        unfinished.rename(folder)
    except OSError:
        if not (folder / SYNTHETIC_MARK).is_file():
            raise
