"""The table of the weights' own page: what the demo's starting weights bring to each paper's networks.

Its rows are those of the documents `start` and `start_elsewhere` of all papers; `start_maps` gives the energy of the
last feature map in the person's box.
"""

from pathlib import Path

from tabulate import tabulate

from benchmarks.records import BENCHMARKS, published_records
from benchmarks.spec import Column, Document, Row, known_papers, load_spec

from .cells import NOT_APPLICABLE, heading
from .figures import read_figure_data
from .sources import Source, committed_sources
from .staleness import Today
from .table import Footnotes, Page, cell

KIND = "demo"
DOCUMENTS = ("start", "start_elsewhere")
MAPS = "start_maps"
ENERGY = "share of the last map's energy in the person's box (%)"


def starts_table(folder: Path = BENCHMARKS) -> str:
    """Markdown: a row for each network and data set, from random and from the starting weights, and its notes."""
    notes, headers, lines = Footnotes(), ["Paper", "Data set", "Network"], []
    for name in known_papers():
        paper = load_spec(name)
        sources = committed_sources(published_records(name, folder), Today(paper))
        source = next(source for source in sources if source.kind == KIND)
        link = f"[{paper.short}](../../benchmarks/tables/{name}.md)"
        page = Page(paper, [source], folder, read_figure_data(folder / "results" / name / "figures"))
        maps = next((document for document in paper.documents if document.id == MAPS), None)
        for document in (document for document in paper.documents if document.id in DOCUMENTS):
            for group in document.groups():
                columns = [column for column in document.columns if column.group == group]
                titles = [*map(heading, columns), ENERGY]
                if len(headers) == 3:
                    headers += titles
                for row in document.rows:
                    cells = [cell(page, document, row, column, source, notes) for column in columns]
                    energy = _energy(page, maps, document, row, columns[0], source)
                    lines.append([link, group, row.method, *cells, energy])
    alignment = ["left"] * 3 + ["right"] * (len(headers) - 3)
    table = tabulate(lines, headers, tablefmt="pipe", disable_numparse=True, colalign=alignment)
    return "\n".join([table, "", *notes.lines()])


def _energy(page: Page, maps: Document | None, document: Document, row: Row, column: Column, source: Source) -> str:
    """`70 (box 62)`, of the figure's run, which is that of the row on the figure's data set."""
    shown = page.figure_data.get((MAPS, KIND), {}).get("on_person")
    if maps is None or shown is None or document.data_set_of(row, column) != maps.dataset:
        return NOT_APPLICABLE
    method = next((other.method for other in maps.rows if other.run == row.run), None)
    if method not in shown or not source.of_row(row, maps.dataset):
        return NOT_APPLICABLE
    return f"{100 * shown[method]['energy']:.0f} (box {100 * shown[method]['area']:.0f})"
