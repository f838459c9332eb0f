"""The result records behind the tables: published ones in `results/`, and those of runs on this machine."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from common.runs.record import Record, read_record

BENCHMARKS = Path(__file__).parent
KINDS = {
    "real": "the real data set",
    "demo": "the synthetic stand-in, demo size",
    "full": "the synthetic stand-in, full size",
}


def read_records(files: Iterable[Path]) -> list[Record]:
    """The records in the files, sorted by run. UserError: a file is not a record."""
    records = [read_record(file) for file in files]
    return sorted(records, key=lambda record: (record.kind, record.dataset, record.variant, record.seed))


def published_records(paper: str, folder: Path = BENCHMARKS) -> list[Record]:
    return read_records((folder / "results" / paper).glob("*.json"))


def local_records(paper: str, runs: Path) -> list[Record]:
    """The records of finished runs in the runs folder."""
    return read_records((runs / paper).glob("*/result.json"))


def of_kind(records: list[Record], kind: str) -> tuple[Record, ...]:
    return tuple(record for record in records if record.kind == kind)


def look_up(record: Record, path: str) -> float | None:
    """The number at a dotted path of a record, or None. `last` is the last entry of its log."""
    value: Any = record
    for key in path.split("."):
        if isinstance(value, tuple):
            value = value[-1] if key == "last" and value else None
        else:
            value = value.get(key) if isinstance(value, Mapping) else getattr(value, key, None)
    return value
