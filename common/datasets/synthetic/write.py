"""Writes a synthetic data set to disk in the layout of a real one. `WRITERS` has one function for each layout."""

import io
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from common.datasets import market1501
from common.datasets.base import SYNTHETIC_MARK
from common.datasets.poses import write_poses
from common.datasets.synthetic.attribute_file import write_market_attributes
from common.datasets.synthetic.difficulty import GENERATOR_VERSION
from common.datasets.synthetic.plan import NUM_CAMERAS, SIZES, Planned, Size, plan
from common.datasets.synthetic.render import Shot, identity, render
from common.errors import UserError

Job = tuple[str, Shot]  # file name in the data set's folder, what to draw


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
        mark = {"like": like, "size": size, "seed": seed, "generator_version": GENERATOR_VERSION}
        (unfinished / SYNTHETIC_MARK).write_text(json.dumps(mark, indent=1) + "\n")
        WRITERS[like](unfinished, SIZES[size], seed, processes or os.cpu_count() or 1)
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


def draw_jobs(folder: Path, jobs: list[Job], processes: int) -> Iterable[tuple[str, np.ndarray]]:
    """Draw and write every job; yields (file name, (17, 3) joints) in the jobs' order, with a progress bar."""
    work = partial(_draw_job, folder)
    bar = partial(tqdm, total=len(jobs), desc="drawing", unit="image", disable=not sys.stderr.isatty())
    if processes == 1:
        yield from bar(map(work, jobs))
        return
    # Workers need numpy and PIL only: forking is safe beside torch, and works in scripts without a main guard.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    with multiprocessing.get_context(method).Pool(processes) as pool:
        yield from bar(pool.imap(work, jobs, chunksize=32))


def _draw_job(folder: Path, job: Job) -> tuple[str, np.ndarray]:
    name, shot = job
    picture = render(shot)
    encoded = io.BytesIO()
    picture.pixels.save(encoded, "JPEG", quality=picture.quality)
    (folder / name).write_bytes(encoded.getvalue())
    return name, picture.joints


_MARKET_FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test", "drawn": "gt_bbox"}


def _market_job(seed: int, planned: Planned) -> Job:
    person = "-1" if planned.person < 0 else f"{planned.person:04d}"
    name = f"{person}_c{planned.camera + 1}s{planned.sequence}_{planned.frame:06d}_{planned.detection:02d}.jpg"
    box = {-1: "junk", 0: "distractor"}.get(planned.person, "drawn" if planned.subset == "drawn" else "detected")
    split = "train" if planned.subset == "train" else "test"
    shot = Shot(seed, split, planned.subject, planned.camera, NUM_CAMERAS, planned.index, box)
    return f"{_MARKET_FOLDERS[planned.subset]}/{name}", shot


def write_market1501(folder: Path, size: Size, seed: int, processes: int) -> None:
    """Market-1501: four folders of JPEG files, a Thumbs.db as in the download, attributes and joints."""
    for name in _MARKET_FOLDERS.values():
        (folder / name).mkdir()
    pictures = plan(size, seed)
    train_persons = {p.person for p in pictures if p.subset == "train"}
    jobs = [_market_job(seed, planned) for planned in pictures]
    # An annotator's box shows the same moment as the detection: a training person's stays in the training places.
    jobs = [
        (name, Shot(s.seed, "train", s.person, s.camera, s.num_cameras, s.index, s.box)
        if s.box == "drawn" and s.person in train_persons else s)
        for name, s in jobs
    ]  # fmt: skip
    poses = {}
    for (name, joints), planned in zip(draw_jobs(folder, jobs, processes), pictures, strict=True):
        if planned.person > 0 and planned.subset != "drawn":
            poses[name] = joints
    (folder / "bounding_box_train" / "Thumbs.db").write_bytes(b"not a picture: Windows leaves such files behind\n")
    test_persons = {p.person for p in pictures if p.subset == "query"}
    write_market_attributes(
        folder / "market_attribute.mat",
        {person: identity(seed, person) for person in sorted(train_persons)},
        {person: identity(seed, person) for person in sorted(test_persons)},
    )
    write_poses(folder / "poses.json", market1501.read(folder), poses)


WRITERS: dict[str, Callable[[Path, Size, int, int], None]] = {"market1501": write_market1501}
