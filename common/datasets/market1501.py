"""Market-1501 (Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015).

Reads the folders of the download, with:
* junk (-1) and distractors (0000) kept in the gallery under their own labels, for the protocol to handle;
* `gt_bbox`, the annotators' boxes, as the subset `multi_query` if present.
"""

from pathlib import Path

from common.datasets.base import DataSet, data_kind
from common.datasets.market_layout import FOLDERS, read_folders, single_query

NAME = "market1501"
FOLDER_NAMES = ("market1501", "Market-1501-v15.09.15", "Market-1501")
LANDMARKS = ("bounding_box_train",)

LAYOUT = """\
market1501/               (or Market-1501-v15.09.15/, Market-1501/)
  bounding_box_train/     0002_c1s1_000451_03.jpg: identity, camera, sequence, frame, detection
  query/                  0001_c1s1_001051_00.jpg
  bounding_box_test/      the gallery; -1_c... is junk, 0000_c... are distractors
  gt_bbox/                optional, for the multi-query protocol"""

# (images, identities, cameras). The gallery has 750 identities plus label 0, its distractors.
OFFICIAL_COUNTS = {
    NAME: {
        "train": (12_936, 751, 6),
        "query": (3_368, 750, 6),
        "gallery": (19_732, 751, 6),
        "multi_query": (25_259, 1_501, 6),
    }
}

_MULTI_QUERY = "gt_bbox"


def read(folder: Path, name: str = NAME) -> DataSet:
    """The data set in `folder`, which holds the folders of LAYOUT. UserError if one is missing, empty or unreadable."""
    folders = FOLDERS | ({"multi_query": _MULTI_QUERY} if (folder / _MULTI_QUERY).is_dir() else {})
    subsets = read_folders(folder, folders, LAYOUT)
    return DataSet(name, folder, subsets, single_query(subsets), data_kind(folder))
