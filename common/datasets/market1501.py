"""Market-1501 (Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015), and the layouts like it.

This is the reader of the folders as they are in the download, with:
* junk (-1) and distractors (0000) kept in the gallery under their own labels: the protocol decides about them;
* `gt_bbox`, annotators' boxes, as the subset `multi_query` when it is there.
"""

import re
from pathlib import Path

from common.datasets.base import DataSet, Sample, Subset, kind_of
from common.errors import UserError

NAME = "market1501"
FOLDER_NAMES = ("market1501", "Market-1501-v15.09.15", "Market-1501")
FIRST_FOLDER = "bounding_box_train"  # by which a folder is known to be the data set itself

LAYOUT = """\
market1501/               (or Market-1501-v15.09.15/, Market-1501/)
  bounding_box_train/     0002_c1s1_000451_03.jpg: identity, camera, sequence, frame, detection
  query/                  0001_c1s1_001051_00.jpg
  bounding_box_test/      the gallery; -1_c... is junk, 0000_c... are distractors
  gt_bbox/                optional, for the multi-query protocol"""

# As published: (images, identities, cameras). The gallery's 750 identities and the label 0 of its distractors.
PUBLISHED = {
    "train": (12_936, 751, 6),
    "query": (3_368, 750, 6),
    "gallery": (19_732, 751, 6),
    "multi_query": (25_259, 1_501, 6),
}

_FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test", "multi_query": "gt_bbox"}
_OPTIONAL = {"multi_query"}
_FILE_NAME = re.compile(r"([-\d]+)_c(\d)")


def read(folder: Path) -> DataSet:
    """The data set in `folder`, which holds the folders of LAYOUT. UserError if one is missing, empty or unreadable."""
    subsets = {}
    for name, directory in _FOLDERS.items():
        path = folder / directory
        if name in _OPTIONAL and not path.is_dir():
            continue
        subsets[name] = Subset(name, tuple(_samples(path)))
    return DataSet(NAME, folder, subsets, kind_of(folder))


def _samples(folder: Path) -> list[Sample]:
    if not folder.is_dir():
        raise UserError(f"{folder} is missing. Market-1501 is expected as\n{LAYOUT}")
    # The download has Thumbs.db beside the pictures, copies made on a Mac have ._0002_c1... beside each.
    names = sorted(p.name for p in folder.iterdir() if p.suffix.lower() == ".jpg" and not p.name.startswith("._"))
    if not names:
        raise UserError(f"{folder} has no .jpg files. Market-1501 is expected as\n{LAYOUT}")
    samples = []
    for name in names:
        match = _FILE_NAME.match(name)
        if not match:
            raise UserError(
                f"{folder / name}: the name does not begin with identity and camera, as in 0002_c1s1_000451_03.jpg. "
                "Remove the file, or rename it."
            )
        samples.append(Sample(folder / name, int(match[1]), int(match[2])))
    return samples
