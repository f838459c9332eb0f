"""CUHK03 (Li et al., "DeepReID: Deep Filter Pairing Neural Network for Person Re-identification", CVPR 2014) in the new
protocol of Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017: 767 training
and 700 test identities, scored with Market-1501's protocol.

Reads the CUHK03-NP folders, which have Market-1501's layout, with:
* `cuhk03`: detected boxes, which papers report first;
* `cuhk03-labeled`: annotators' boxes.
"""

from pathlib import Path

from common.datasets.base import DataSet, data_kind
from common.datasets.market_layout import FOLDERS, read_folders, single_query
from common.errors import UserError

NAME = "cuhk03"
LABELED = "cuhk03-labeled"
FOLDER_NAMES = ("cuhk03", "CUHK03-NP", "cuhk03-np")
LANDMARKS = ("detected", "labeled", "cuhk-03.mat")

LAYOUT = """\
cuhk03/                     (or CUHK03-NP/, cuhk03-np/)
  detected/                 for cuhk03; for cuhk03-labeled the same folders below labeled/
    bounding_box_train/     0001_c1_1.png: identity, camera, number; png or jpg
    query/
    bounding_box_test/      the gallery"""

OFFICIAL_COUNTS = {  # (images, identities, cameras)
    NAME: {"train": (7_365, 767, 2), "query": (1_400, 700, 2), "gallery": (5_332, 700, 2)},
    LABELED: {"train": (7_368, 767, 2), "query": (1_400, 700, 2), "gallery": (5_328, 700, 2)},
}

_BOXES = {NAME: "detected", LABELED: "labeled"}


def read(folder: Path, name: str = NAME) -> DataSet:
    """The data set in `folder`. UserError: a folder missing, empty or unreadable, or only the raw MATLAB file."""
    boxes = folder / _BOXES[name]
    if not boxes.is_dir():
        raw = next(
            (path for path in (folder / "cuhk-03.mat", folder / "cuhk03_release" / "cuhk-03.mat") if path.exists()),
            None,
        )
        if raw:
            raise UserError(
                f"{raw} is the raw data set. Convert it to the folders of the new protocol (CUHK03-NP, page "
                f"https://github.com/zhunzhong07/person-re-ranking) and put them here:\n{LAYOUT}"
            )
        raise UserError(f"{boxes} is missing. Expected:\n{LAYOUT}")
    subsets = read_folders(boxes, FOLDERS, LAYOUT, (".png", ".jpg"))
    return DataSet(name, folder, subsets, single_query(subsets), data_kind(folder), (f"{_BOXES[name]} boxes",))
