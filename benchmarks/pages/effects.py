"""Main effects of a factorial ablation: what each factor changes on average over the rows that differ in it alone."""

import statistics
from collections.abc import Callable

from benchmarks.spec import UNITS, Column, Document, Row, value_of

from .markdown import markdown_table
from .sources import Source


def main_effects(document: Document, sources: list[Source]) -> list[str]:
    """Markdown lines: for each factor and ordered column the paper's effect, and ours with its standard error."""
    columns = [column for column in document.columns if column.ordered]
    headers = ["Main effect"]
    for column in columns:
        title = f"{column.group} {column.title}" if column.group else column.title
        headers += [f"{title} paper", *(f"{title} {source.title}" for source in sources)]
    cells = []
    for name, having in document.factors.items():
        line = [name]
        for column in columns:
            reported = effect(document, having, lambda row, column=column: row.reported[column.id])
            line.append(f"{reported:+.1f}")
            line += [_our_cell(document, having, column, source) for source in sources]
        cells.append(line)
    count = len(document.rows) // 2
    return [
        f"Main effects over the {len(document.rows)} rows: the mean of the {count} with the factor minus that of the "
        f"{count} without. `± e (n=k)`: standard error over the k seeds and trials in which all rows have run.",
        "",
        *markdown_table(headers, cells),
    ]


def effect(document: Document, having: tuple[str, ...], value: Callable[[Row], float]) -> float:
    """The mean of `value` over the rows whose method is in `having`, minus that over the others."""
    means = [
        statistics.fmean(value(row) for row in document.rows if (row.method in having) is has) for has in (True, False)
    ]
    return means[0] - means[1]


def _our_cell(document: Document, having: tuple[str, ...], column: Column, source: Source) -> str:
    values: dict[tuple[str, int, str], dict[str, float]] = {}  # (trial, seed, its images) -> {method: its number}
    for row in document.rows:
        for record in source.of_row(row, document.data_set_of(row, column)):
            if (number := value_of(record, column, row)) is not None:
                key = record.dataset, record.seed, record.data.fingerprint
                values.setdefault(key, {})[row.method] = number
    factor = UNITS[column.unit][0]
    found = [
        factor * effect(document, having, lambda row, by_method=by_method: by_method[row.method])
        for by_method in values.values()
        if len(by_method) == len(document.rows)
    ]
    if not found:
        return "not run"
    error = f" ± {statistics.stdev(found) / len(found) ** 0.5:.1f}" if len(found) > 1 else ""
    return f"{statistics.fmean(found):+.1f}{error} (n={len(found)})"
