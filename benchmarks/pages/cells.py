"""The text of a table's headings and cells."""

from collections.abc import Sequence

from benchmarks.spec import UNITS, Column, Document, Row

from .markdown import joined
from .sources import Source, Summary

NOT_APPLICABLE = "–"


def heading(column: Column) -> str:
    return column.title if column.unit in ("count", "year") else f"{column.title} ({column.unit})"


def column_title(document: Document, column: Column) -> str:
    """The column's title, with its unit unless it is a score, which the pages' legend says to be in per cent."""
    return column.title if is_score(document, column) else heading(column)


def is_score(document: Document, column: Column) -> bool:
    return column.unit == "%" and document.average_precision is not None


def method_name(row: Row) -> str:
    reference = f" [{row.ref}]" if row.ref is not None else ""
    return f"{row.method}{reference}" + (f" ({row.venue})" if row.venue else "")


def reported_cell(row: Row, column: Column) -> str:
    value = row.reported.get(column.id)
    return NOT_APPLICABLE if value is None else column.text(value)


def num_seeds(document: Document, row: Row, columns: Sequence[Column], source: Source) -> str:
    """How many runs the row's numbers are means over; nothing without any."""
    found = [source.summary(document, row, column) for column in columns]
    return joined(summary.count for summary in found if summary)


def summary_text(summary: Summary, column: Column, *, seeds: bool = True) -> str:
    """`60.1 ± 0.4 (n=3, se 1.2)`, or `60.1 (se 1.2)` for one run; counts are printed without either. seeds: with n.

    The standard error has one decimal, however many the score has: it is an estimate itself.
    """
    factor = UNITS[column.unit][0]
    text, notes = column.text(summary.mean * factor), []
    if summary.deviation is not None and column.unit != "count":
        text += f" ± {column.text(summary.deviation * factor)}"
        notes += [f"n={summary.count}"] if seeds else []
    if summary.error is not None:
        notes.append(f"se {summary.error * factor:.1f}")
    return f"{text} ({', '.join(notes)})" if notes else text


def difference_cell(document: Document, row: Row, column: Column, source: Source) -> str:
    """Reproduced minus reported, in the column's unit."""
    summary, reported = source.summary(document, row, column), row.reported.get(column.id)
    if summary is None or reported is None:
        return NOT_APPLICABLE
    factor = UNITS[column.unit][0]
    return f"{summary.mean * factor - reported:+,.{column.places}f}"
