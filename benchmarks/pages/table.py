"""One table of a page: its rows, its columns and the text of each cell.

A table of our rows has a column for each source of numbers beside the paper's; one that cites published methods, or
that would be too wide, has ours as rows below the paper's own. A cell without a run says `not run`, and a note under
the table says why.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tabulate import tabulate

from benchmarks.spec import Column, Document, PaperSpec, Row

from .ablation import gain, reported_gain, shows_difference
from .cells import (
    NOT_APPLICABLE,
    column_title,
    difference_cell,
    heading,
    method_name,
    num_seeds,
    reported_cell,
    summary_text,
)
from .commands import make_command
from .markdown import markdown_table
from .sources import Source

MOST_COLUMNS = 8  # of numbers, as many as a page is wide; with more, our numbers are rows too


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


def wide_table(
    page: Page,
    document: Document,
    sources: list[Source],
    notes: Footnotes,
    group: str | None = None,
    *,
    columns: Sequence[Column] = (),
    baselines: bool = False,
    ours_only: bool = False,
    compact: bool = False,
) -> list[str]:
    """One row per method, a column per score and source. columns: default, those of the group; compact: for the
    terminal, always with our numbers in columns.

    Rows without any number, and columns of a paper that reports none, are left out.
    """
    columns = columns or [column for column in document.columns if column.group == group]
    rows = [row for row in (document.baselines if baselines else document.rows) if row.run or not ours_only]
    reported = any(column.id in row.reported for row in rows for column in columns)
    wide = reported and document.x is None and len(columns) * (1 + len(sources)) > MOST_COLUMNS
    if not compact and not baselines and not document.ablation and (cites(document) or wide):
        return _table_of_rows(page, document, columns, rows, sources, notes)
    blocks: list[tuple[str, list[str]]] = []  # heading and cells of each column
    for column in columns:
        title = heading(column) if compact else column_title(document, column)
        differs = shows_difference(document, column) and not compact and not baselines
        if reported:
            word = "paper" if sources or compact else ""
            gains = [reported_gain(document, row, column) if differs else "" for row in rows]
            cells = [f"{reported_cell(row, column)} {gained}".strip() for row, gained in zip(rows, gains, strict=True)]
            blocks.append((f"{title} {word}".strip(), cells))
        for source in sources:
            cells = [cell(page, document, row, column, source, notes, seeds=compact) for row in rows]
            blocks.append((f"{title} {source.title}", cells))
            if differs:
                blocks.append(("Δ", [gain(document, row, column, source) for row in rows]))
            if source.difference and reported:
                cells = [difference_cell(document, row, column, source) for row in rows]
                blocks.append((f"{title} {source.title} - paper", cells))
    for source in [] if compact else sources:
        seeds = [num_seeds(document, row, columns, source) for row in rows]
        if any(seed not in ("", "1") for seed in seeds):
            blocks.append((f"seeds {source.title}" if len(sources) > 1 else "seeds", seeds))
    headers = [document.x or "Method", *(title for title, _ in blocks)]
    lines = [[method_name(row), *(cells[position] for _, cells in blocks)] for position, row in enumerate(rows)]
    lines = [line for line in lines if set(line[1:]) - {NOT_APPLICABLE, ""}]
    if compact:
        alignment = ["left"] + ["right"] * len(blocks)
        text = tabulate(lines, headers, tablefmt="simple", disable_numparse=True, colalign=alignment if lines else None)
        return text.split("\n")
    return markdown_table(headers, lines) if lines else []


def parts(document: Document, group: str | None) -> list[list[Column]]:
    """The columns of a group, of which each list makes a table: those with differences from the baseline are as many
    as a page is wide, so that the others of an ablation follow in a table of their own."""
    columns = [column for column in document.columns if column.group == group]
    differing = [column for column in columns if shows_difference(document, column)]
    return list(filter(None, [differing, [column for column in columns if column not in differing]]))


def cites(document: Document) -> bool:
    """Whether the document compares the paper's method with rows that are only cited."""
    ours = [row.run is not None for row in document.rows]
    return any(ours) and not all(ours) and document.x is None


def _table_of_rows(
    page: Page, document: Document, columns: Sequence[Column], rows: list[Row], sources: list[Source], notes: Footnotes
) -> list[str]:
    lines = []
    for row in rows:
        reported = [reported_cell(row, column) for column in columns]
        if set(reported) != {NOT_APPLICABLE}:
            lines.append([method_name(row), *reported])
        lines += _our_lines(page, document, row, columns, sources, notes) if row.run else []
    return markdown_table(["Method", *(column_title(document, column) for column in columns)], lines)


def _our_lines(
    page: Page, document: Document, row: Row, columns: Sequence[Column], sources: list[Source], notes: Footnotes
) -> Iterator[list[str]]:
    """A line for each source below a row of the paper; for real data also the differences from the paper."""
    for source in sources:
        cells = [cell(page, document, row, column, source, notes, seeds=False) for column in columns]
        if set(cells) == {NOT_APPLICABLE}:
            continue
        seeds = num_seeds(document, row, columns, source)
        name = f"↳ {method_name(row)}, **{source.title}**" + (f", {seeds} seeds" if seeds not in ("", "1") else "")
        yield [name, *cells]
        differences = [difference_cell(document, row, column, source) for column in columns]
        if source.difference and set(differences) != {NOT_APPLICABLE}:
            yield [f"↳ {source.title} - paper", *differences]


def long_table(page: Page, document: Document, sources: list[Source], notes: Footnotes) -> list[str]:
    """One row per column and blocks of columns per method, for documents with many columns and few methods."""
    headers, blocks = [], []
    for row in document.rows:
        name, columns = method_name(row), document.columns
        headers.append(f"{name} paper")
        blocks.append([reported_cell(row, column) for column in columns])
        for source in sources:
            headers.append(f"{name} {source.title}")
            blocks.append([cell(page, document, row, column, source, notes) for column in columns])
            if source.difference:
                headers.append(f"{name} {source.title} - paper")
                blocks.append([difference_cell(document, row, column, source) for column in columns])
    lines = [[column.title, *values] for column, *values in zip(document.columns, *blocks, strict=True)]
    return markdown_table(["", *headers], lines)


def matrices(page: Page, document: Document, sources: list[Source], notes: Footnotes) -> list[str]:
    """A table of rows and columns for the paper's numbers and one for each source: many columns of short cells."""
    blocks = {"paper": lambda row, column: reported_cell(row, column)}
    for source in sources:
        blocks[source.title] = lambda row, column, source=source: cell(page, document, row, column, source, notes)
    lines = []
    for title, text in blocks.items():
        cells = [[method_name(row), *(text(row, column) for column in document.columns)] for row in document.rows]
        lines += [f"**{title}**", "", *markdown_table(["", *map(heading, document.columns)], cells), ""]
    return lines


def cell(
    page: Page,
    document: Document,
    row: Row,
    column: Column,
    source: Source,
    notes: Footnotes,
    *,
    seeds: bool = True,
) -> str:
    if row.run is None or column.value is None or not row.fits(source.kind):
        return NOT_APPLICABLE
    if reason := row.not_on.get(document.data_set_of(row, column)):
        return f"impossible {notes.mark(reason)}"
    summary = source.summary(document, row, column)
    if summary is None and source.of_row(row, document.data_set_of(row, column)):
        return NOT_APPLICABLE  # the run exists without such a number, as a histogram without multi-query scores
    if summary is None:
        return f"not run {notes.mark(page.missing(document, source))}"
    text = summary_text(summary, column, seeds=seeds)
    if summary.stale:
        again = f"`{make_command(page.paper, document, source.kind)} FORCE=1`"
        text += f" {notes.mark(f'stale: the {summary.stale} changed since this run; {again} runs it again')}"
    return text
