"""Draws the pictures of a data set and writes them, in any number of processes."""

import io
import multiprocessing
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from common.datasets.synthetic.render import Shot, render

Job = tuple[str, Any]  # file name in the data set's folder, what to draw
Draw = Callable[[Any], tuple[Image.Image, int, Any]]  # what to draw -> pixels, JPEG quality, what to note about it


def draw_person(shot: Shot) -> tuple[Image.Image, int, np.ndarray]:
    """Pixels, JPEG quality and (17, 3) joints."""
    picture = render(shot)
    return picture.pixels, picture.quality, picture.joints


def draw_jobs(folder: Path, jobs: list[Job], processes: int, draw: Draw = draw_person) -> Iterable[tuple[str, Any]]:
    """Draw and write every job; yields (file name, its notes) in the jobs' order, with a progress bar.

    The files' endings say how they are written: .jpg, .png or .bmp. Their folders are made where they are missing.
    """
    for parent in sorted({(folder / name).parent for name, _ in jobs}):
        parent.mkdir(parents=True, exist_ok=True)
    work = partial(_draw_job, folder, draw)
    bar = partial(tqdm, total=len(jobs), desc="drawing", unit="image", disable=not sys.stderr.isatty())
    if processes == 1:
        yield from bar(map(work, jobs))
        return
    # Workers need numpy and PIL only: forking is safe beside torch, and works in scripts without a main guard.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    with multiprocessing.get_context(method).Pool(processes) as pool:
        yield from bar(pool.imap(work, jobs, chunksize=32))


def _draw_job(folder: Path, draw: Draw, job: Job) -> tuple[str, Any]:
    name, subject = job
    pixels, quality, notes = draw(subject)
    encoded = io.BytesIO()
    if name.endswith(".jpg"):
        pixels.save(encoded, "JPEG", quality=quality)
    elif name.endswith(".png"):
        pixels.save(encoded, "PNG", compress_level=1)  # a third larger than the usual 6, and far faster
    else:
        pixels.save(encoded, "BMP")
    (folder / name).write_bytes(encoded.getvalue())
    return name, notes
