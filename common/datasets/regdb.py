"""RegDB (Nguyen et al., "Person Recognition System Based on a Combination of Body Images from Visible Light and Thermal
Cameras", Sensors 2017), in the ten trials of Ye et al., AAAI 2018: each trains on half of the 412 people.

A trial needs a model of its own, so each has a name: `regdb` is trial 1, `regdb-2` to `regdb-10` are the others. Papers
report the mean of the ten. Camera 1 is visible, camera 2 thermal.

Labels are those of the lists: 0 to 205 in the training half, and again in the test half for other people.
"""

from pathlib import Path

from common.datasets.base import DataSet, Sample, Search, Subset, data_kind
from common.datasets.list_files import read_list, refuse_missing
from common.errors import UserError

NAME = "regdb"
FOLDER_NAMES = ("regdb", "RegDB")
LANDMARKS = ("Thermal", "Visible")
NUM_TRIALS = 10

LAYOUT = """\
regdb/                       (or RegDB/)
  Visible/                   285/male_back_v_05528_285.bmp: folders of identities
  Thermal/                   285/male_back_t_06175_285.bmp
  idx/                       for each trial t from 1 to 10:
    train_visible_t.txt      lines `Visible/285/male_back_v_05528_285.bmp 0`: image, label
    train_thermal_t.txt
    test_visible_t.txt
    test_thermal_t.txt"""

TRIALS = {NAME: 1} | {f"{NAME}-{trial}": trial for trial in range(2, NUM_TRIALS + 1)}

OFFICIAL_COUNTS = {  # (images, identities, cameras)
    name: {"train": (4_120, 206, 2), "visible": (2_060, 206, 1), "thermal": (2_060, 206, 1)} for name in TRIALS
}

_CAMERAS = {"visible": 1, "thermal": 2}


def read(folder: Path, name: str = NAME) -> DataSet:
    """The trial called `name` in `folder`. Subsets: `train` (visible, then thermal images), and `visible` and `thermal`
    of the test half. UserError: a folder, list or listed image missing, or a line that cannot be read.
    """
    for part in ("Visible", "Thermal", "idx"):
        if not (folder / part).is_dir():
            raise UserError(f"{folder / part} is missing. Expected:\n{LAYOUT}")
    trial = TRIALS[name]
    train = [sample for modality in _CAMERAS for sample in _samples(folder, "train", modality, trial)]
    test = {modality: Subset(modality, tuple(_samples(folder, "test", modality, trial))) for modality in _CAMERAS}
    searches = (
        Search("visible_to_thermal", test["visible"], test["thermal"], "regdb"),
        Search("thermal_to_visible", test["thermal"], test["visible"], "regdb"),
    )
    subsets = {"train": Subset("train", tuple(train)), **test}
    return DataSet(name, folder, subsets, searches, data_kind(folder), (f"trial {trial} of {NUM_TRIALS}",))


def _samples(folder: Path, half: str, modality: str, trial: int) -> list[Sample]:
    path = folder / "idx" / f"{half}_{modality}_{trial}.txt"
    entries = read_list(path, LAYOUT)
    samples = [Sample(folder / image, label, _CAMERAS[modality], modality) for image, label in entries]
    refuse_missing((sample.path for sample in samples), path)
    return samples
