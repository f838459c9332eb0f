"""Renders the images of a data set and writes their files, in any number of processes."""

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

Job = tuple[str, Any]  # file name in the data set's folder, what to render
Renderer = Callable[[Any], tuple[Image.Image, int, Any]]  # what to render -> pixels, JPEG quality, annotations


def render_crop(shot: Shot) -> tuple[Image.Image, int, np.ndarray]:
    """Pixels, JPEG quality and (17, 3) joints."""
    crop = render(shot)
    return crop.pixels, crop.quality, crop.joints


def write_images(
    folder: Path, jobs: list[Job], processes: int, renderer: Renderer = render_crop
) -> Iterable[tuple[str, Any]]:
    """Render every job and write its file. Yields (file name, annotations) in the order of the jobs.

    The suffix of a file name decides its format: .jpg, .png or .bmp. Missing folders are created.
    """
    for parent in sorted({(folder / name).parent for name, _ in jobs}):
        parent.mkdir(parents=True, exist_ok=True)
    work = partial(_write_image, folder, renderer)
    bar = partial(tqdm, total=len(jobs), desc="rendering", unit="image", disable=not sys.stderr.isatty())
    if processes == 1:
        yield from bar(map(work, jobs))
        return
    # Workers need numpy and PIL only: forking is safe beside torch, and works in scripts without a main guard.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    with multiprocessing.get_context(method).Pool(processes) as pool:
        yield from bar(pool.imap(work, jobs, chunksize=32))
        # Leaving the block sends SIGTERM. A run's handler of it would be inherited, and Python forgets a signal that
        # comes while it forks: a worker that had nothing to do would never end, and be waited for.
        pool.close()
        pool.join()


def _write_image(folder: Path, renderer: Renderer, job: Job) -> tuple[str, Any]:
    name, subject = job
    pixels, quality, annotations = renderer(subject)
    encoded = io.BytesIO()
    if name.endswith(".jpg"):
        pixels.save(encoded, "JPEG", quality=quality)
    elif name.endswith(".png"):
        pixels.save(encoded, "PNG", compress_level=1)  # a third larger than at the usual level 6, and far faster
    else:
        pixels.save(encoded, "BMP")
    (folder / name).write_bytes(encoded.getvalue())
    return name, annotations
