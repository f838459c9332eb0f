"""Result records, and how a table reads them: which records belong to a row, their mean and their spread over seeds.

Records are the result.json files that runs write (see common/runs.py); published ones are copies of them.
"""

import json
import statistics
from dataclasses import dataclass
from pathlib import Path

from common.datasets import trial_of
from common.errors import UserError

from .spec import Column, Document, Row, value_of

BENCHMARKS = Path(__file__).parent
KINDS = {
    "real": "the real data set",
    "demo": "the synthetic stand-in, demo size",
    "full": "the synthetic stand-in, full size",
}


@dataclass(frozen=True)
class Summary:
    """A row's number over its seeds, as in the records (fractions, pieces, seconds)."""

    mean: float
    deviation: float | None  # sample standard deviation; None for one run
    count: int
    stale: bool = False  # a run behind it was made by other source code


@dataclass(frozen=True)
class Source:
    """Where a column's numbers come from: records of one kind of data, and how the column is headed."""

    title: str
    short: str  # for narrow tables
    kind: str  # real | demo | full
    records: tuple[dict, ...]
    difference: bool = False  # followed by a column of the difference from the reported number
    here: bool = False  # this machine's runs, not published records
    source_hash: str | None = None  # today's source; runs with another one are marked as stale

    def of(self, label: str, dataset: str) -> list[dict]:
        """The records of a variant on a data set, one for each seed and each trial of the data set."""
        wanted = (label, dataset)
        return [record for record in self.records if (record["variant"], trial_of(record["dataset"])) == wanted]

    def summary(self, document: Document, row: Row, column: Column) -> Summary | None:
        """The row's number in a column; None without a record that has it."""
        if column.value is None or row.run is None or not row.fits(self.kind):
            return None
        records = self.of(row.run.label, document.data_set_of(row, column))
        values = [value for record in records if (value := value_of(record, column, row)) is not None]
        if not values:
            return None
        return Summary(
            statistics.fmean(values),
            statistics.stdev(values) if len(values) > 1 else None,
            len(values),
            any(self.is_stale(record) for record in records),
        )

    def is_stale(self, record: dict) -> bool:
        return self.source_hash is not None and record["source_hash"] != self.source_hash

    def covers(self, document: Document) -> bool:
        """Whether any row of the document has a record here."""
        return any(row.fits(self.kind) and self.of(row.run.label, dataset) for row, dataset in document.runs())


def read_records(files: list[Path]) -> list[dict]:
    """The records in the files, sorted by run; raises UserError for a file that is not one."""
    records = []
    for file in files:
        try:
            record = json.loads(file.read_text())
            record["run"], record["kind"], record["variant"], record["dataset"], record["seed"], record["scores"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise UserError(f"{file} is not a result record ({error!r}): remove it, or restore it") from None
        records.append(record)
    return sorted(records, key=lambda record: (record["kind"], record["dataset"], record["variant"], record["seed"]))


def published_records(paper: str, folder: Path = BENCHMARKS) -> list[dict]:
    return read_records(sorted((folder / "results" / paper).glob("*.json")))


def local_records(paper: str, runs: Path) -> list[dict]:
    """Finished runs below the runs folder."""
    return read_records(sorted((runs / paper).glob("*/result.json")))


def of_kind(records: list[dict], kind: str) -> tuple[dict, ...]:
    return tuple(record for record in records if record["kind"] == kind)


def committed_sources(records: list[dict]) -> list[Source]:
    """The columns of the committed page."""
    return [
        Source("reproduced on real data", "real data", "real", of_kind(records, "real"), difference=True),
        Source("synthetic stand-in, demo size", "demo size", "demo", of_kind(records, "demo")),
        Source("synthetic stand-in, full size", "full size", "full", of_kind(records, "full")),
    ]


def local_sources(published: list[dict], local: list[dict], source_hash: str) -> list[Source]:
    """The columns of a user's page: for each kind of data used here, the committed records and this machine's."""
    sources = []
    for kind in [kind for kind in KINDS if of_kind(local, kind)] or ["demo"]:
        of = KINDS[kind].removeprefix("the ")
        sources += [
            Source(f"committed record ({of})", f"committed, {kind}", kind, of_kind(published, kind)),
            Source(
                f"this machine ({of})",
                f"here, {kind}",
                kind,
                of_kind(local, kind),
                difference=kind == "real",
                here=True,
                source_hash=source_hash,
            ),
        ]
    return sources
