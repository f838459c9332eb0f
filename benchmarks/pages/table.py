"""One table of a page: its rows, its columns and the text of each cell.

A cell without a run says `not run`, and a note under the table says why.
"""

from dataclasses import dataclass, field
from pathlib import Path

from tabulate import tabulate

from benchmarks.spec import UNITS, Column, Document, PaperSpec, Row
from common.datasets import reader_of

from .sources import Source, Summary

NOT_APPLICABLE = "–"


@dataclass
class Footnotes:
    """The notes under one table, lettered in the order in which its cells refer to them."""

    texts: list[str] = field(default_factory=list)

    def mark(self, text: str) -> str:
        if text not in self.texts:
            self.texts.append(text)
        return f"({chr(ord('a') + self.texts.index(text))})"

    def lines(self) -> list[str]:
        return [f"- {self.mark(text)} {text}" for text in self.texts]


@dataclass(frozen=True)
class Page:
    """What a page is made from.

    figures: the folder of the page's figures; those that exist are linked. figure_data: {(document id, kind): what the
    figure shows}.
    """

    paper: PaperSpec
    sources: list[Source]
    figures: Path
    figure_data: dict[tuple[str, str], dict]

    def missing(self, document: Document, source: Source) -> str:
        """Why a cell has no number."""
        command = make_command(self.paper, document, source.kind)
        return f"no finished run on this machine: `{command}`" if source.here else f"no run published: `{command}`"


def make_command(paper: PaperSpec, document: Document, kind: str) -> str:
    """The command that runs a document on data of a kind."""
    data = {"demo": "", "real": " DATA_ROOT=DIR", "full": " DATA_ROOT=data/synthetic/full"}[kind]
    layouts = " ".join(dict.fromkeys(reader_of(dataset).NAME for _, dataset in document.runs()))
    made = f"python -m common.datasets make --like {layouts} --size full && " if kind == "full" else ""
    return f"{made}{paper.command}{data} ONLY={document.id}"


def wide_table(
    page: Page,
    document: Document,
    sources: list[Source],
    notes: Footnotes,
    group: str | None = None,
    *,
    baselines: bool = False,
    ours_only: bool = False,
    compact: bool = False,
) -> list[str]:
    """One row per method; a block of the document's columns per source. compact: for the terminal."""
    columns = [column for column in document.columns if column.group == group]
    reported = not baselines and any(row.reported for row in document.rows)
    rows = [row for row in (document.baselines if baselines else document.rows) if row.run or not ours_only]
    headers = [document.x or "Method"]

    def head(block: str) -> list[str]:
        return [f"{block}\n{heading(column)}" if compact else f"{heading(column)}, {block}" for column in columns]

    headers += head("reported") if reported else []
    for source in sources:
        headers += head(source.short if compact else source.title)
        headers += head("difference") if source.difference and reported else []
    cells = []
    for row in rows:
        line = [method_name(row)]
        line += [reported_cell(row, column) for column in columns if reported]
        for source in sources:
            line += [cell(page, document, row, column, source, notes) for column in columns]
            if source.difference and reported:
                line += [difference_cell(document, row, column, source) for column in columns]
        cells.append(line)
    alignment = ["left"] + ["right"] * (len(headers) - 1)
    return tabulate(
        cells, headers, tablefmt="simple" if compact else "pipe", disable_numparse=True, colalign=alignment
    ).split("\n")


def long_table(page: Page, document: Document, sources: list[Source], notes: Footnotes) -> list[str]:
    """One row per method and column, for documents with too many columns for a page."""
    headers = ["", "", "reported"]
    for source in sources:
        headers += [source.title, "difference"] if source.difference else [source.title]
    cells = []
    for row in document.rows:
        for column in document.columns:
            line = [method_name(row), column.title, reported_cell(row, column)]
            for source in sources:
                line.append(cell(page, document, row, column, source, notes))
                line += [difference_cell(document, row, column, source)] if source.difference else []
            cells.append(line)
    alignment = ["left", "left"] + ["right"] * (len(headers) - 2)
    return tabulate(cells, headers, tablefmt="pipe", disable_numparse=True, colalign=alignment).split("\n")


def matrices(page: Page, document: Document, sources: list[Source], notes: Footnotes) -> list[str]:
    """A table of rows and columns for the reported numbers and one for each source: many columns of short cells."""
    headers = ["", *(heading(column) for column in document.columns)]
    blocks = {"reported": lambda row, column: reported_cell(row, column)}
    for source in sources:
        blocks[source.title] = lambda row, column, source=source: cell(page, document, row, column, source, notes)
    lines = []
    for title, text in blocks.items():
        cells = [[method_name(row), *(text(row, column) for column in document.columns)] for row in document.rows]
        table = tabulate(cells, headers, tablefmt="pipe", disable_numparse=True)
        lines += [f"**{title}**", "", *table.split("\n"), ""]
    return lines


def heading(column: Column) -> str:
    return column.title if column.unit in ("count", "year") else f"{column.title} ({column.unit})"


def method_name(row: Row) -> str:
    reference = f" [{row.ref}]" if row.ref is not None else ""
    return f"{row.method}{reference}" + (f" ({row.venue})" if row.venue else "")


def reported_cell(row: Row, column: Column) -> str:
    value = row.reported.get(column.id)
    return NOT_APPLICABLE if value is None else column.text(value)


def cell(page: Page, document: Document, row: Row, column: Column, source: Source, notes: Footnotes) -> str:
    if row.run is None or column.value is None or not row.fits(source.kind):
        return NOT_APPLICABLE
    if reason := row.not_on.get(document.data_set_of(row, column)):
        return f"impossible {notes.mark(reason)}"
    summary = source.summary(document, row, column)
    if summary is None and source.of_row(row, document.data_set_of(row, column)):
        return NOT_APPLICABLE  # the run exists without such a number, as a histogram without multi-query scores
    if summary is None:
        return f"not run {notes.mark(page.missing(document, source))}"
    text = summary_text(summary, column)
    if summary.stale:
        again = f"`{make_command(page.paper, document, source.kind)} FORCE=1`"
        text += f" {notes.mark(f'stale: the {summary.stale} changed since this run; {again} runs it again')}"
    return text


def summary_text(summary: Summary, column: Column) -> str:
    """`60.1 ± 0.4 (n=3, se 1.2)`, or `60.1 (se 1.2)` for one run; counts are printed without either."""
    factor = UNITS[column.unit][0]
    text, notes = column.text(summary.mean * factor), []
    if summary.deviation is not None and column.unit != "count":
        text += f" ± {column.text(summary.deviation * factor)}"
        notes.append(f"n={summary.count}")
    if summary.error is not None:
        notes.append(f"se {column.text(summary.error * factor)}")
    return f"{text} ({', '.join(notes)})" if notes else text


def difference_cell(document: Document, row: Row, column: Column, source: Source) -> str:
    """Reproduced minus reported, in the column's unit."""
    summary, reported = source.summary(document, row, column), row.reported.get(column.id)
    if summary is None or reported is None:
        return NOT_APPLICABLE
    factor = UNITS[column.unit][0]
    return f"{summary.mean * factor - reported:+,.{column.places}f}"


def anchor(heading: str) -> str:
    """The link target that GitHub gives a heading."""
    return "".join(letter for letter in heading.lower().replace(" ", "-") if letter.isalnum() or letter == "-")
