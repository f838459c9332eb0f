"""The figures of a page that are drawn from records: sweeps and curves.

Figures of trained networks are drawn after a plan has run (benchmarks/reproduce/figures.py), which also writes what
they show as JSON. A figure is `<document>-<kind of data>.png` in the folder beside the page.
"""

import json
from pathlib import Path

from benchmarks.spec import UNITS, Document, PaperSpec
from common.visualize.curves import line_figure
from common.visualize.panels import panel_figure

from .sources import Source


def read_figure_data(folder: Path) -> dict[tuple[str, str], dict]:
    """{(document id, kind): contents of `<id>-<kind>.json`}, what the figures in the folder show."""
    return {tuple(file.stem.rsplit("-", 1)): json.loads(file.read_text()) for file in sorted(folder.glob("*-*.json"))}


def draw_from_records(paper: PaperSpec, sources: list[Source], folder: Path) -> None:
    """Draw every sweep and every set of curves, for each source that has records of it."""
    for document in paper.documents:
        for source in (source.of_one_age(document) for source in sources):
            file = folder / f"{document.id}-{source.kind}.png"
            if document.kind == "sweep" and source.covers(document):
                draw_sweep(document, source, file)
            if document.kind == "curves" and source.covers(document):
                draw_curves(document, source, file)


def draw_sweep(document: Document, source: Source, file: Path) -> None:
    """Scores over the values of the sweep, with standard deviations; a missing run is a gap."""
    rows = [row for row in document.rows if row.fits(source.kind)]
    series, deviations = {}, {}
    for column in document.columns:
        factor = UNITS[column.unit][0]
        summaries = [source.summary(document, row, column) for row in rows]
        series[column.title] = [summary and summary.mean * factor for summary in summaries]
        spread = [summary.deviation if summary else None for summary in summaries]
        if any(value is not None for value in spread):  # not of one seed
            deviations[column.title] = [(value or 0) * factor for value in spread]
    if all(sum(value is not None for value in values) < 2 for values in series.values()):
        return  # a single value, whose run belongs to another table, makes no curve
    unit = document.columns[0].unit
    line_figure(
        file,
        x=[float(row.method) for row in rows],
        series=series,
        deviations=deviations,
        x_label=document.x,
        y_label=f"score ({unit})",
        title=f"{document.name} ({source.title})",
    )


def label_of(term: str) -> str:
    """A logged term as a panel's label."""
    return " ".join({"iou": "IoU"}.get(word, word) for word in term.split("_"))


def draw_curves(document: Document, source: Source, file: Path) -> None:
    """A panel for each of the document's terms, over the epochs of each row's first seed.

    Dotted lines are the borders between the phases of the longest training, where it has phases.
    """
    logs = {
        row.method: records[0].log
        for row in document.rows
        if (records := source.of_row(row, document.data_set_of(row))) and records[0].log
    }
    if not logs:
        return
    num_epochs = max(len(log) for log in logs.values())
    panels = {
        label_of(term): {
            name: [entry.get(term) for entry in log] + [None] * (num_epochs - len(log))
            for name, log in logs.items()
            if any(term in entry for entry in log)
        }
        for term in document.terms
    }
    panels = {label: series for label, series in panels.items() if series}
    if panels:
        title = f"{document.name} ({source.title})"
        phases = [entry.get("phase") for entry in max(logs.values(), key=len)]
        borders = [epoch + 0.5 for epoch in range(1, len(phases)) if phases[epoch] != phases[epoch - 1]]
        x = range(1, num_epochs + 1)
        panel_figure(file, x=x, panels=panels, x_label="epoch", title=title, borders=borders)
