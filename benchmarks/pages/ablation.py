"""How well the order of an ablation's rows agrees with the paper's, and which of its gaps exceed the noise."""

import math

from scipy.stats import kendalltau
from tabulate import tabulate

from benchmarks.spec import UNITS, Column, Document, Row

from .sources import Source, Summary

NOISE_RULE = (
    "A gap is marked (noise) if it is below 2 s, where s is the sample standard deviation over seeds, pooled over the "
    "rows."
)


def noise_level(summaries: list[Summary]) -> float | None:
    """s: the pooled sample standard deviation, sqrt(sum (n - 1) deviation^2 / sum (n - 1)); None if no row has two
    seeds."""
    spread = [(summary.count - 1, summary.deviation) for summary in summaries if summary.deviation is not None]
    if not spread:
        return None
    return math.sqrt(sum(degrees * value**2 for degrees, value in spread) / sum(degrees for degrees, _ in spread))


def rank_agreement(reported: list[float], ours: list[float]) -> float:
    """Kendall's tau-b between two orders of the same rows: 1 for the same order, -1 for the reverse."""
    return float(kendalltau(reported, ours).statistic)


def agreement(document: Document, source: Source) -> list[str]:
    """Markdown lines for one source of an ablation: for each column tau, and the rows in our order with their gaps."""
    lines = []
    for column in filter(lambda column: column.ordered, document.columns):
        rows = [
            (row, summary)
            for row in document.rows
            if column.id in row.reported and (summary := source.summary(document, row, column)) is not None
        ]
        if len(rows) > 1:
            lines += _column_agreement(document, column, rows)
    if lines:
        lines = [f"Order of the rows, {source.title}. {NOISE_RULE}", "", *lines]
    return lines


def _column_agreement(document: Document, column: Column, rows: list[tuple[Row, Summary]]) -> list[str]:
    factor = UNITS[column.unit][0]
    title = f"{column.group}, {column.title}" if column.group else column.title
    tau = rank_agreement([row.reported[column.id] for row, _ in rows], [summary.mean for _, summary in rows])
    level = noise_level([summary for _, summary in rows])
    noise = "noise unknown (one seed)" if level is None else f"s = {level * factor:.2f}, 2 s = {2 * level * factor:.2f}"
    baseline = rows[0] if rows[0][0] is document.rows[0] else None

    def gap(higher: Summary, lower: Summary) -> str:
        value = higher.mean - lower.mean
        mark = " (noise)" if level is not None and abs(value) < 2 * level else ""
        return f"{value * factor:+.1f}{mark}"

    ordered = sorted(rows, key=lambda pair: pair[1].mean, reverse=True)
    cells = []
    for position, (row, summary) in enumerate(ordered):
        follower = ordered[position + 1][1] if position + 1 < len(ordered) else None
        cells.append(
            [
                row.method,
                f"{summary.mean * factor:.1f}",
                gap(summary, follower) if follower else "–",
                gap(summary, baseline[1]) if baseline and row is not baseline[0] else "–",
            ]
        )
    agreed = f"Kendall's tau between the paper's order of the {len(rows)} rows and ours is {tau:.2f}; "
    headers = ["our order", f"{column.title} ({column.unit})", "to the next row", f"to {document.rows[0].method}"]
    return [
        f"**{title}**: {agreed if len(rows) > 2 else ''}{noise}.",
        "",
        *tabulate(cells, headers, tablefmt="pipe", disable_numparse=True).split("\n"),
        "",
    ]
