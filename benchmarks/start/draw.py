"""The images that the starting weights are learned from: crops of people in several worlds of the generator.

A world has its own people, places and cameras (seeds.start_seed); the last one is for testing only. Every choice
depends on the world's seed, the person's number and the frame's, so images can be drawn in any order.
"""

import io
import multiprocessing
import os
import shutil
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from benchmarks.start.attributes import GRAY, KINDS, labels_of
from common.datasets.synthetic.cameras.framing import CROP_HEIGHT, CROP_WIDTH
from common.datasets.synthetic.render import Shot, render
from common.datasets.synthetic.seeds import PLAN, START_WORLDS, generator, start_seed
from common.errors import UserError
from common.files import written_atomically
from common.images import SPARE_BYTES

NUM_CAMERAS = 6  # of a world; the first `world % 4` of them are indoors
KIND_SHARES = (0.50, 0.15, 0.20, 0.15)  # of KINDS among a person's images
ANNOTATED_SHARE = 0.2  # of images with an annotator's box, as CUHK03 and RegDB have; others have a detector's
TEST_PERSONS = 250


@dataclass(frozen=True)
class Drawn:
    """How much is drawn: `worlds` to learn from, each with `persons`, each with `frames` images, and a world to test.

    UserError: too many worlds.
    """

    worlds: int = 12
    persons: int = 500
    frames: int = 8
    test_persons: int = TEST_PERSONS

    def __post_init__(self) -> None:
        if min(self.worlds, self.persons, self.frames, self.test_persons) < 1 or self.worlds >= len(START_WORLDS):
            raise UserError(f"--worlds is from 1 to {len(START_WORLDS) - 1}, the other numbers are at least 1: {self}")

    def people(self, *, test: bool) -> list[tuple[int, int]]:
        """(world, person) of everybody to learn from, or to test on."""
        worlds, persons = ([self.worlds], self.test_persons) if test else (range(self.worlds), self.persons)
        return [(world, person) for world in worlds for person in range(1, persons + 1)]


def shots_of(world: int, person: int, frames: int) -> list[tuple[str, Shot]]:
    """(kind, shot) of a person's images. Frames go through the world's cameras in turn, from a random one on."""
    seed = start_seed(world)
    rng = generator(seed, PLAN, person)
    first = int(rng.integers(NUM_CAMERAS))
    shots = []
    for index in range(frames):
        kind = KINDS[int(rng.choice(len(KINDS), p=KIND_SHARES))]
        box = "annotated" if rng.random() < ANNOTATED_SHARE else "detected"
        camera = (first + index) % NUM_CAMERAS
        modality, indoor = "visible" if kind == GRAY else kind, camera < world % 4
        shots.append((kind, Shot(seed, "train", person, camera, NUM_CAMERAS, index, box, modality, indoor=indoor)))
    return shots


@dataclass(frozen=True)
class Images:
    """pixels: (n, 3, 128, 64) uint8; labels: (n, attributes) int64, HIDDEN where not shown; kinds: (n,) of KINDS."""

    pixels: np.ndarray
    labels: np.ndarray
    kinds: np.ndarray


def images_of(people: list[tuple[int, int]], frames: int, file: Path, processes: int | None = None) -> Images:
    """The images of these people, drawn into `file` by all cores unless it is there already.

    UserError: too little disk space.
    """
    count = len(people) * frames
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        needed = count * 3 * CROP_HEIGHT * CROP_WIDTH + SPARE_BYTES
        if (free := shutil.disk_usage(file.parent).free) < needed:
            raise UserError(f"{file.parent} has {free / 1e9:.1f} GB free, and {needed / 1e9:.1f} GB are needed")
        with written_atomically(file) as partial_file:
            _draw(people, frames, partial_file, processes or os.cpu_count() or 1)
    kinds, labels = np.empty(count, dtype=np.int64), []
    for position, (world, person) in enumerate(people):
        own = [KINDS.index(kind) for kind, _ in shots_of(world, person, frames)]
        kinds[position * frames : (position + 1) * frames] = own
        labels.append(labels_of(start_seed(world), person)[own])
    return Images(np.load(file, mmap_mode="r"), np.concatenate(labels), kinds)


def _draw(people: list[tuple[int, int]], frames: int, file: Path, processes: int) -> None:
    shape = (len(people) * frames, 3, CROP_HEIGHT, CROP_WIDTH)
    images = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)
    work = partial(_draw_person, frames)
    progress = partial(tqdm, total=len(people), desc="drawing", unit="person", disable=not sys.stderr.isatty())
    # As in image_files.py: workers need numpy and PIL only, so forking is safe beside torch.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    with multiprocessing.get_context(method).Pool(processes) as pool:
        for position, drawn in enumerate(progress(pool.imap(work, people, chunksize=8))):
            images[position * frames : (position + 1) * frames] = drawn
        pool.close()  # as in image_files.py
        pool.join()
    images.flush()


def _draw_person(frames: int, person: tuple[int, int]) -> np.ndarray:
    """(frames, 3, 128, 64) uint8."""
    return np.stack([_pixels(kind, shot) for kind, shot in shots_of(*person, frames)])


def _pixels(kind: str, shot: Shot) -> np.ndarray:
    """(3, 128, 64) uint8, after JPEG compression with the camera's quality."""
    crop = render(shot)
    encoded = io.BytesIO()
    crop.pixels.save(encoded, "JPEG", quality=crop.quality)
    with Image.open(encoded) as image:
        image = image.convert("L") if kind == GRAY else image
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
