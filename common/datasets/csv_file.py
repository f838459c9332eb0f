"""A user's own data set: a folder with dataset.csv, which lists images in any layout.

The first line names the columns, in any order: `path` (relative to the CSV's folder, or absolute), `person`, `camera`,
`split` (train, query or gallery) and, optionally, `modality` (`visible` where missing or empty). Other columns are
ignored.

Cameras are integers. If all persons are integers, they keep their numbers, and -1 is junk as in Market-1501. Otherwise
all are names, which are sorted and numbered from 0.
"""

import csv
from pathlib import Path

from common.datasets.base import DataSet, Sample, Subset, data_kind
from common.datasets.list_files import refuse_missing
from common.datasets.market_layout import single_query
from common.errors import UserError
from common.metrics import JUNK

NAME = "csv"
FOLDER_NAMES = ("csv",)
LANDMARKS = ("dataset.csv",)

LAYOUT = """\
csv/                      (or the folder itself as the data root)
  dataset.csv             path,person,camera,split
                          images/anna_1.jpg,anna,1,train
                          images/ben_2.jpg,ben,2,query
  images/                 wherever the paths point"""

OFFICIAL_COUNTS: dict[str, dict] = {NAME: {}}  # nothing to compare a user's own data with

SPLITS = ("train", "query", "gallery")
MISSING_SHOWN = 20

_NEEDED = ("path", "person", "camera", "split")

Row = tuple[int, dict[str, str]]  # line number, {column: text}


def read(folder: Path, name: str = NAME) -> DataSet:
    """The data set in `folder`. UserError: no dataset.csv, a column missing, an invalid value (with line and
    column), a split without images, images that are not on disk.
    """
    path = folder / "dataset.csv"
    rows = _rows(path)
    numbers = _person_numbers(rows)
    parts: dict[str, list[Sample]] = {split: [] for split in SPLITS}
    for line, row in rows:
        if row["split"] not in SPLITS:
            raise UserError(f"{path}, line {line}, column split: {row['split']!r} is none of {', '.join(SPLITS)}")
        if not _is_integer(row["camera"]):
            raise UserError(f"{path}, line {line}, column camera: {row['camera']!r} is not an integer")
        if row["split"] == "train" and numbers[row["person"]] == JUNK:
            raise UserError(f"{path}, line {line}, column person: {JUNK} is junk, which cannot be trained on")
        modality = row.get("modality") or "visible"
        sample = Sample(folder / row["path"], numbers[row["person"]], int(row["camera"]), modality)
        parts[row["split"]].append(sample)
    for split, samples in parts.items():
        if not samples:
            raise UserError(f"{path}: no line has the split {split}; train, query and gallery are all needed")
    refuse_missing((sample.path for samples in parts.values() for sample in samples), path, MISSING_SHOWN)
    subsets = {split: Subset(split, tuple(samples)) for split, samples in parts.items()}
    return DataSet(name, folder, subsets, single_query(subsets), data_kind(folder))


def _rows(path: Path) -> list[Row]:
    """The lines that are not blank. UserError: no file, not text, a column missing, a required field empty."""
    if not path.is_file():
        raise UserError(f"{path} is missing. Expected:\n{LAYOUT}")
    try:
        # utf-8-sig: spreadsheets put a byte order mark before the first column's name.
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            columns = [column.strip() for column in reader.fieldnames or ()]
            reader.fieldnames = columns
            rows = [(reader.line_num, {c: (row[c] or "").strip() for c in columns}) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as CSV ({error}): save it as UTF-8 with commas") from None
    absent = [column for column in _NEEDED if column not in columns]
    if absent:
        raise UserError(
            f"{path}, line 1: no column {', '.join(absent)}; columns: {', '.join(columns) or 'none'}. "
            f"Needed: {', '.join(_NEEDED)}"
        )
    rows = [(line, row) for line, row in rows if any(row.values())]
    for line, row in rows:
        for column in _NEEDED:
            if not row[column]:
                raise UserError(f"{path}, line {line}, column {column}: empty")
    if not rows:
        raise UserError(f"{path} lists no images. Expected:\n{LAYOUT}")
    return rows


def _person_numbers(rows: list[Row]) -> dict[str, int]:
    persons = sorted({row["person"] for _, row in rows})
    if all(_is_integer(person) for person in persons):
        return {person: int(person) for person in persons}
    return {person: number for number, person in enumerate(persons)}


def _is_integer(text: str) -> bool:
    return text.removeprefix("-").isdecimal()
