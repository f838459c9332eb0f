"""MSMT17 (Wei et al., "Person Transfer GAN to Bridge Domain Gap for Person Re-Identification", CVPR 2018).

Reads the folders and lists of the download, with:
* `msmt17`: train and val lists together, 32,621 images of 1,041 identities, which papers count as training images;
* `msmt17-train`: the train list alone; its authors meant val for choosing settings, and no subset holds it;
* V1 and V2 (the same images, with faces masked in V2), recognised by their folder names; a note says which.

Labels are those of the lists. Train and val share labels. Train and test labels both start at 0, so that label 0 is one
person in `train` and another in `query` and `gallery`.
"""

from pathlib import Path

from common.datasets.base import DataSet, Sample, Subset, data_kind
from common.datasets.list_files import read_list, refuse_missing
from common.datasets.market_layout import single_query
from common.errors import UserError

NAME = "msmt17"
TRAIN_ONLY = "msmt17-train"
FOLDER_NAMES = ("msmt17", "MSMT17", "MSMT17_V1", "MSMT17_V2")
LANDMARKS = ("list_train.txt", "mask_train_v2")

LAYOUT = """\
msmt17/                   (or MSMT17/, MSMT17_V1/, MSMT17_V2/)
  train/                  V1; in V2 mask_train_v2/: 0000/0000_045_12_0303morning_0006_2.jpg, the third field the camera
  test/                   V1; in V2 mask_test_v2/
  list_train.txt          lines `0000/0000_045_12_0303morning_0006_2.jpg 0`: image, label
  list_val.txt
  list_query.txt
  list_gallery.txt"""

_TEST = {"query": (11_659, 3_060, 15), "gallery": (82_161, 3_060, 15)}
OFFICIAL_COUNTS = {  # (images, identities, cameras)
    NAME: {"train": (32_621, 1_041, 15), **_TEST},
    TRAIN_ONLY: {"train": (30_248, 1_041, 15), **_TEST},
}

_VERSIONS = {"V2": ("mask_train_v2", "mask_test_v2"), "V1": ("train", "test")}


def read(folder: Path, name: str = NAME) -> DataSet:
    """The data set in `folder`. UserError: a folder, list or listed image missing, or a line that cannot be read."""
    version, train, test = _version(folder)
    lists = {"train": [("list_train.txt", train)]}
    if name == NAME:
        lists["train"].append(("list_val.txt", train))
    lists |= {"query": [("list_query.txt", test)], "gallery": [("list_gallery.txt", test)]}
    subsets = {
        subset: Subset(subset, tuple(sample for file, images in files for sample in _samples(folder / file, images)))
        for subset, files in lists.items()
    }
    notes = (f"MSMT17 {version}, training images: {' + '.join(file for file, _ in lists['train'])}",)
    return DataSet(name, folder, subsets, single_query(subsets), data_kind(folder), notes)


def _version(folder: Path) -> tuple[str, Path, Path]:
    """Version, folder of the training images, folder of the test images."""
    for version, names in _VERSIONS.items():
        present = [name for name in names if (folder / name).is_dir()]
        if len(present) == 2:
            return version, folder / names[0], folder / names[1]
        if present:
            absent = next(name for name in names if name not in present)
            raise UserError(f"{folder / absent} is missing, though {present[0]} is there. Expected:\n{LAYOUT}")
    raise UserError(f"{folder} has neither train/ and test/ nor mask_train_v2/ and mask_test_v2/. Expected:\n{LAYOUT}")


def _samples(path: Path, images: Path) -> list[Sample]:
    entries = read_list(path, LAYOUT)
    samples = []
    for image, label in entries:
        fields = Path(image).name.split("_")
        if len(fields) < 3 or not fields[2].isdigit():
            raise UserError(
                f"{path}: {image} does not name a camera as its third field, as in 0000_045_12_0303morning_0006_2.jpg"
            )
        samples.append(Sample(images / image, label, int(fields[2])))
    refuse_missing((sample.path for sample in samples), path)
    return samples
