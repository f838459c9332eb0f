"""SYSU-MM01's evaluation files: the test identities and the gallery images of each trial (sysu_mm01.py)."""

from pathlib import Path

import numpy as np
import scipy.io

from common.errors import UserError

NUM_TRIALS = 10

Key = tuple[int, int]  # camera, person


def read_identities(folder: Path, half: str, layout: str) -> list[int]:
    """Sorted identities of `train`, `val` or `test`: {half}_id.txt, or {half}_id.mat (variable `id`, 1 x n).

    UserError: neither file exists, or it holds no numbers.
    """
    text, matlab = folder / f"{half}_id.txt", folder / f"{half}_id.mat"
    try:
        if text.is_file():
            persons = [int(field) for field in text.read_text().replace("\n", ",").split(",") if field.strip()]
        elif matlab.is_file():
            persons = [int(value) for value in scipy.io.loadmat(matlab)["id"].ravel()]
        else:
            raise UserError(f"{text} is missing, and so is {matlab.name}. Expected:\n{layout}")
    except (ValueError, KeyError, TypeError, NotImplementedError) as error:
        path = text if text.is_file() else matlab
        raise UserError(f"{path} is not a list of identities ({type(error).__name__}: {error})") from None
    if not persons:
        raise UserError(f"{text if text.is_file() else matlab} names no identities: copy it again from the download")
    return sorted(set(persons))


def read_permutations(path: Path, counts: dict[Key, int]) -> dict[Key, np.ndarray]:
    """{(camera, person): (10, n) int64 positions from 0 among the person's images in that camera, sorted by name}.

    path: the official rand_perm_cam.mat, whose variable is a 6 x 1 cell of cameras, each a cell of identities (some
    cameras hold 333, some 533), each 10 x n indices from 1, empty where the camera did not see the identity.
    counts: number of images on disk for each camera and test identity, 0 included.
    UserError: another kind of file, or one for other images (an index beyond those on disk, images without an entry).
    """
    try:
        cameras = scipy.io.loadmat(path)["rand_perm_cam"].ravel()
        permutations = {key: _entry(cameras, *key) for key in counts}
    except (ValueError, KeyError, TypeError, IndexError, NotImplementedError) as error:
        raise UserError(f"{path} is not SYSU-MM01's rand_perm_cam.mat ({type(error).__name__}: {error})") from None
    for (camera, person), permutation in permutations.items():
        found, expected = counts[camera, person], permutation.max(initial=-1) + 1
        if expected > found or bool(found) != bool(permutation.size):
            raise UserError(
                f"{path} does not match the images: identity {person} has {found} in cam{camera}/{person:04d}, the "
                f"file chooses among {expected}. Copy that folder again; to use our own trials, remove the file."
            )
    return {key: permutation for key, permutation in permutations.items() if permutation.size}


def _entry(cameras: np.ndarray, camera: int, person: int) -> np.ndarray:
    persons = cameras[camera - 1].ravel()
    entry = np.asarray(persons[person - 1], dtype=np.int64) if person <= len(persons) else np.zeros((0, 0), np.int64)
    if not entry.size:
        return np.zeros((NUM_TRIALS, 0), np.int64)
    if entry.ndim != 2 or len(entry) != NUM_TRIALS or entry.min() < 1:
        raise ValueError(f"camera {camera}, identity {person}: {entry.shape} in place of 10 x n numbers from 1")
    return entry - 1


def draw_permutations(counts: dict[Key, int]) -> dict[Key, np.ndarray]:
    """As read_permutations, but random: trial t (0 to 9) uses `numpy.random.default_rng(t)` and takes from it one
    `permutation(n)` for each (camera, person) in sorted order.
    """
    generators = [np.random.default_rng(trial) for trial in range(NUM_TRIALS)]
    return {key: np.stack([generator.permutation(counts[key]) for generator in generators]) for key in sorted(counts)}
