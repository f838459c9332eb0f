"""The source of a column's numbers: the records of one kind of data."""

import statistics
from dataclasses import dataclass, replace

from benchmarks.records import KINDS, of_kind
from benchmarks.spec import Column, Document, Row, value_of
from common.datasets import trial_of
from common.runs.record import Record

from .staleness import Today


@dataclass(frozen=True)
class Summary:
    """A row's number over its seeds, in the records' units (fractions, counts, seconds)."""

    mean: float
    deviation: float | None  # sample standard deviation; None for one run
    count: int
    stale: str = ""  # what has changed since one of its runs, if anything
    error: float | None = None  # standard error over the test people, mean over the runs; None where records have none


WORDS = {"real": "real", "demo": "synthetic", "full": "full size"}  # kind of data -> its word in a column's heading


@dataclass(frozen=True)
class Source:
    """Records of one kind of data. title: the word that stands behind a score in their column's heading."""

    title: str
    kind: str  # real | demo | full
    records: tuple[Record, ...]
    today: Today
    difference: bool = False  # followed by a column of differences from the reported numbers
    here: bool = False  # this machine's runs, not published records

    def of(self, label: str, dataset: str) -> list[Record]:
        """The records of a variant on a data set, one per seed and trial."""
        wanted = (label, dataset)
        return [record for record in self.records if (record.variant, trial_of(record.dataset)) == wanted]

    def of_row(self, row: Row, dataset: str) -> list[Record]:
        """Those of a row's run, with the settings that the row needs."""
        return [record for record in self.of(row.run.label, dataset) if row.needs.items() <= record.config.items()]

    def summary(self, document: Document, row: Row, column: Column) -> Summary | None:
        """The row's number in a column; None if no record has it."""
        if column.value is None or row.run is None or not row.fits(self.kind):
            return None
        records = self.of_row(row, document.data_set_of(row, column))
        values = [value for record in records if (value := value_of(record, column, row)) is not None]
        if not values:
            return None
        errors = [error for record in records if (error := value_of(record, column, row, "_error")) is not None]
        return Summary(
            statistics.fmean(values),
            statistics.stdev(values) if len(values) > 1 else None,
            len(values),
            next(filter(None, map(self.today.change, records)), ""),
            statistics.fmean(errors) if errors else None,
        )

    def is_stale(self, document: Document) -> bool:
        """Whether anything has changed since one of the document's runs."""
        found = [record for row, dataset in document.runs() for record in self.of_row(row, dataset)]
        return any(map(self.today.change, found))

    def of_one_age(self, document: Document) -> "Source":
        """Without stale records, where any row of the document has one of today's: the two are not compared."""
        fresh = replace(self, records=tuple(record for record in self.records if not self.today.change(record)))
        return fresh if fresh.covers(document) else self

    def covers(self, document: Document) -> bool:
        """Whether any row of the document has a record here."""
        return any(row.fits(self.kind) and self.of_row(row, dataset) for row, dataset in document.runs())


def committed_sources(records: list[Record], today: Today) -> list[Source]:
    """The columns of the committed page."""
    return [
        Source(word, kind, of_kind(records, kind), today, difference=kind == "real") for kind, word in WORDS.items()
    ]


def local_sources(published: list[Record], local: list[Record], today: Today) -> list[Source]:
    """The columns of a user's page: for each kind of data used here, the committed records and this machine's."""
    sources = []
    for kind in [kind for kind in KINDS if of_kind(local, kind)] or ["demo"]:
        for where, records in (("committed", published), ("here", local)):
            here = where == "here"
            title = f"{WORDS[kind]}, {where}"
            sources.append(
                Source(title, kind, of_kind(records, kind), today, difference=kind == "real" and here, here=here)
            )
    return sources
