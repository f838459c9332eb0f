"""The result records behind the tables: published ones in `results/`, and those of runs on this machine."""

from collections.abc import Iterable
from pathlib import Path

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
