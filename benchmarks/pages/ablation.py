"""An ablation beside the paper's: each row's difference from the baseline, and how well the orders of rows agree."""

from scipy.stats import kendalltau

from benchmarks.spec import UNITS, Column, Document, Row

from .sources import Source, Summary
from .verdicts import CONFIDENCE, Noise, pooled

MINOR = ("rank5", "rank10", "rank20")  # nearly all of them close to 100 %: neither differences nor orders are shown
FEWEST_ROWS = 4  # with an order: of three rows, chance alone gives the paper's in one of six
NOISE_RULE = (
    "`Δ`, and the number in brackets behind the paper's score: difference from the table's first row, of scores that "
    "are not rounded yet. Ours is marked `(noise)` below t s √(1/n + 1/m), where n and m are the two rows' numbers of "
    "seeds, s is the sample standard deviation over seeds, pooled over the rows, and t is Student's at "
    f"{100 * CONFIDENCE:.0f} % for the degrees of freedom of s; no mark where all have one seed. "
    "The claims are decided by intervals of differences paired by seed."
)


def shows_difference(document: Document, column: Column) -> bool:
    """Whether the rows' differences from the first row stand beside the column's scores."""
    return document.ablation and column.ordered and not (column.value or "").endswith(MINOR)


def noise_level(summaries: list[Summary]) -> Noise | None:
    """The pooled sample standard deviation; None if no row has two seeds."""
    return pooled((summary.count, summary.deviation) for summary in summaries if summary.deviation is not None)


def rank_agreement(reported: list[float], ours: list[float]) -> float:
    """Kendall's tau-b between two orders of the same rows: 1 for the same order, -1 for the reverse."""
    return float(kendalltau(reported, ours).statistic)


def reported_gain(document: Document, row: Row, column: Column) -> str:
    """What the paper's row has over its baseline, `(+2.1)`; nothing for the baseline itself."""
    baseline, value = document.rows[0].reported.get(column.id), row.reported.get(column.id)
    if row is document.rows[0] or baseline is None or value is None:
        return ""
    return f"({value - baseline:+,.{column.places}f})"


def gain(document: Document, row: Row, column: Column, source: Source) -> str:
    """What our row has over our baseline, `+2.1` or `+0.4 (noise)`; nothing for the baseline itself, and nothing where
    only one of the two is stale."""
    source = source.of_one_age(document)
    baseline, summary = (source.summary(document, one, column) for one in (document.rows[0], row))
    if row is document.rows[0] or baseline is None or summary is None:
        return ""
    found = [source.summary(document, other, column) for other in document.rows]
    noise = noise_level([other for other in found if other])
    value = summary.mean - baseline.mean
    mark = " (noise)" if noise is not None and abs(value) < noise.margin(summary.count, baseline.count) else ""
    return f"{value * UNITS[column.unit][0]:+,.{column.places}f}{mark}"


def agreement(document: Document, source: Source) -> list[str]:
    """One Markdown line: Kendall's tau of each column, and its noise; nothing with fewer than FEWEST_ROWS rows."""
    source, parts = source.of_one_age(document), []
    for column in document.columns:
        rows = [
            (row.reported[column.id], summary)
            for row in document.rows
            if column.id in row.reported and (summary := source.summary(document, row, column)) is not None
        ]
        if len(rows) < FEWEST_ROWS or not shows_difference(document, column):
            continue
        tau = rank_agreement([reported for reported, _ in rows], [summary.mean for _, summary in rows])
        level = noise_level([summary for _, summary in rows])
        noise = "" if level is None else f", s = {level.deviation * UNITS[column.unit][0]:.2f}"
        group = f"{column.group} " if column.group else ""
        parts.append(f"{group}{column.title} {tau:.2f} ({len(rows)} rows{noise})")
    if not parts:
        return []
    return [f"- Kendall's tau between the paper's order of the rows and ours, {source.title}: {'; '.join(parts)}."]
