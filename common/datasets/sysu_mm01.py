"""SYSU-MM01 (Wu et al., "RGB-Infrared Cross-Modality Person Re-Identification", ICCV 2017): four visible cameras
(1, 2 indoors, 4, 5 outdoors) and two infrared ones (3 indoors, 6 outdoors).

Reads the folders of the download, with:
* `train`: all images of the identities of train_id and val_id, both modalities (395 identities, as papers count);
* `query`: all infrared images of the test identities; `gallery`: their visible images, `gallery_indoor`: those of
  cameras 1 and 2. The trials of a search choose from these;
* four searches of ten trials: `all` and `indoor` with one image for each identity and visible camera (single shot),
  `all_multi_shot` and `indoor_multi_shot` with ten (all where there are fewer).

A trial takes the first images of a permutation of each identity's images in each camera: the official permutations if
rand_perm_cam.mat is in the folder or in exp/, else ours (sysu_trials.py). A note says which.
"""

from pathlib import Path

import numpy as np

from common.datasets.base import DataSet, Sample, Search, Subset, data_kind
from common.datasets.sysu_trials import NUM_TRIALS, draw_permutations, read_identities, read_permutations
from common.errors import UserError

NAME = "sysu_mm01"
FOLDER_NAMES = ("sysu_mm01", "SYSU-MM01")
LANDMARKS = ("cam1",)

LAYOUT = """\
sysu_mm01/                (or SYSU-MM01/)
  cam1/ ... cam6/         0001/0001.jpg: folders of identities; 1 2 4 5 are visible, 3 6 infrared
  exp/
    train_id.txt          one line, numbers between commas; or train_id.mat with the variable id
    val_id.txt            or .mat
    test_id.txt           or .mat
  rand_perm_cam.mat       optional, here or in exp/: the official choice of gallery images"""

# (images, identities, cameras). Train: 22,258 visible and 11,909 infrared images. The gallery's counts are those of
# the official permutations of the 96 test identities (their query lengths add up to the published 3,803).
OFFICIAL_COUNTS = {
    NAME: {
        "train": (34_167, 395, 6),
        "query": (3_803, 96, 2),
        "gallery": (6_775, 96, 4),
        "gallery_indoor": (2_939, 56, 2),
    }
}

VISIBLE_CAMERAS = (1, 2, 4, 5)
INDOOR_CAMERAS = (1, 2)
INFRARED_CAMERAS = (3, 6)
IMAGES_MULTI_SHOT = 10

_ALL_CAMERAS = tuple(range(1, 7))


def read(folder: Path, name: str = NAME) -> DataSet:
    """The data set in `folder`. UserError: a camera's folder or a list of identities missing or unreadable, no images,
    or permutations that do not match the images.
    """
    for camera in _ALL_CAMERAS:
        if not (folder / f"cam{camera}").is_dir():
            raise UserError(f"{folder / f'cam{camera}'} is missing. Expected:\n{LAYOUT}")
    train, val, test = (read_identities(folder / "exp", half, LAYOUT) for half in ("train", "val", "test"))
    gallery = _subset(folder, "gallery", VISIBLE_CAMERAS, test)
    subsets = {
        "train": _subset(folder, "train", _ALL_CAMERAS, sorted({*train, *val})),
        "query": _subset(folder, "query", INFRARED_CAMERAS, test),
        "gallery": gallery,
        "gallery_indoor": _subset(folder, "gallery_indoor", INDOOR_CAMERAS, test),
    }
    groups = _groups(gallery)
    official = [path for path in (folder / "rand_perm_cam.mat", folder / "exp" / "rand_perm_cam.mat") if path.is_file()]
    if official:
        candidates = [(camera, person) for camera in VISIBLE_CAMERAS for person in test]
        permutations = read_permutations(official[0], {key: len(groups.get(key, ())) for key in candidates})
        source = f"official permutations, {official[0].relative_to(folder)}"
    else:
        permutations = draw_permutations({key: len(positions) for key, positions in groups.items()})
        source = "our own draw: the official rand_perm_cam.mat is not in the folder"
    searches = tuple(
        Search(
            search + suffix,
            subsets["query"],
            subsets[choice],
            "sysu_mm01",
            _trials(_groups(subsets[choice]), permutations, num_images),
        )
        for suffix, num_images in (("", 1), ("_multi_shot", IMAGES_MULTI_SHOT))
        for search, choice in (("all", "gallery"), ("indoor", "gallery_indoor"))
    )
    sizes = [f"{s.name}: {len(s.trials[0]):,} gallery images in each of {len(s.trials)} trials" for s in searches]
    return DataSet(name, folder, subsets, searches, data_kind(folder), (f"gallery images: {source}", *sizes))


def _subset(folder: Path, name: str, cameras: tuple[int, ...], persons: list[int]) -> Subset:
    """Sorted by camera, identity and file name. An identity without a folder in a camera was not seen there."""
    samples = []
    for camera in cameras:
        modality = "infrared" if camera in INFRARED_CAMERAS else "visible"
        for person in persons:
            images = (folder / f"cam{camera}" / f"{person:04d}").glob("*.jpg")
            paths = sorted(path for path in images if not path.name.startswith("._"))
            samples += [Sample(path, person, camera, modality) for path in paths]
    if not samples:
        places = ", ".join(f"cam{camera}" for camera in cameras)
        raise UserError(f"{folder}: no images of the {name} identities in {places}. Expected:\n{LAYOUT}")
    return Subset(name, tuple(samples))


def _groups(subset: Subset) -> dict[tuple[int, int], np.ndarray]:
    """{(camera, person): positions in the subset, sorted by file name}."""
    groups: dict[tuple[int, int], list[int]] = {}
    for position, sample in enumerate(subset.samples):
        groups.setdefault((sample.camera, sample.person), []).append(position)
    return {key: np.array(positions, dtype=np.int64) for key, positions in groups.items()}


def _trials(groups: dict, permutations: dict, num_images: int) -> tuple[np.ndarray, ...]:
    """For each trial the first `num_images` positions of each group's permutation, in order of the gallery."""
    return tuple(
        np.sort(np.concatenate([groups[key][permutations[key][trial][:num_images]] for key in groups]))
        for trial in range(NUM_TRIALS)
    )
