"""The table of decisions: what another reading of the paper changes, beside what other seeds change."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmarks.decisions import DOCUMENT, Decision, defaults
from benchmarks.spec import UNITS, Column, Document, Row
from common.paths import package_folder

from .ablation import noise_level
from .cells import NOT_APPLICABLE, column_title
from .commands import make_command
from .markdown import anchor, markdown_table
from .sources import WORDS, Source, Summary
from .table import Footnotes, Page
from .verdicts import CONFIDENCE, Noise

RULE = (
    "A difference is the alternative's score minus that of the full model, means over seeds. **Bold**: beyond its "
    "margin t s √(1/n + 1/m): s is the sample standard deviation over seeds, n the number of the alternative's seeds, "
    f"m that of the full model's, and t is Student's at {100 * CONFIDENCE:.0f} % for the degrees of freedom of s."
)


class Difference(NamedTuple):
    """An alternative's mean score minus the full model's, in the record's unit. margin: None if it is unknown."""

    value: float
    margin: float | None

    @property
    def matters(self) -> bool:
        return self.margin is not None and abs(self.value) > self.margin


def difference(alternative: Summary, ours: Summary, noise: Noise | None) -> Difference:
    """noise: of a score over seeds."""
    margin = None if noise is None else noise.margin(alternative.count, ours.count)
    return Difference(alternative.mean - ours.mean, margin)


def decision_lines(page: Page, document: Document, sources: Sequence[Source], notes: Footnotes) -> list[str]:
    """Markdown: how to read it, the noise of each source, and a row for each alternative that any of them can have."""
    measured = page.paper.document(page.paper.decisions.noise)
    lines = [RULE, ""]
    lines += [f"- {source.title}: {_noise_text(document, measured, source)}" for source in sources]
    headers = ["Question", "our reading", "alternative"]
    for source in sources:
        for column in document.columns:
            headers += [f"{column_title(document, column)} {source.title}, Δ", "margin"]
    rows, shown = [], None
    for row, (decision, alternative) in zip(document.rows[1:], page.paper.decisions.cases(), strict=True):
        if not any(row.fits(source.kind) for source in sources):
            continue
        place = f"{decision.question} – *{decision.place}*"
        line = [place, _reading(page, decision)] if decision is not shown else ["", ""]
        line.append(f"{alternative.reading} ({_settings(alternative.set)})")
        for source in sources:
            for column in document.columns:
                line += _cells(page, document, measured, row, column, source, notes)
        rows.append(line)
        shown = decision
    return [*lines, "", *markdown_table(headers, rows, left=3)]


def largest_lines(pages: Sequence[Page], kind: str = "demo") -> list[str]:
    """Markdown: the alternatives of all papers that change the mAP by more than the margin on that kind of data, the
    largest change first, and how many have run. Empty: none has."""
    beyond, measured, missing = [], 0, 0
    for page in pages:
        document = page.paper.document(DOCUMENT)
        source = next(source for source in page.sources if source.kind == kind)
        column = next(column for column in document.columns if column.value == "scores.mAP")
        ours = source.summary(document, document.rows[0], column)
        noise = noise_level(_of_ablation(page.paper.document(page.paper.decisions.noise), column, source))
        for row, (decision, alternative) in zip(document.rows[1:], page.paper.decisions.cases(), strict=True):
            other = source.summary(document, row, column)
            if ours is None or other is None or ours.stale or other.stale:
                missing += row.fits(kind)
                continue
            measured += 1
            found = difference(other, ours, noise)
            if found.matters:
                beyond.append((page.paper, decision, alternative, found))
    if not measured:
        return []
    cells = [
        [
            f"[{paper.short}](#{anchor(paper.short)})",
            decision.question,
            decision.reading,
            f"{alternative.reading} ({_settings(alternative.set)})",
            f"{100 * found.value:+.1f}",
            f"{100 * found.margin:.1f}",
        ]
        for paper, decision, alternative, found in sorted(beyond, key=lambda case: -abs(case[-1].value))
    ]
    words = WORDS[kind]
    return [
        f"Of {measured} alternatives that have run ({words}), {len(beyond)} change the mAP by more than the margin"
        f"{f'; {missing} have not run' if missing else ''}. Of alternatives that change nothing, about one in twenty "
        "is beyond it by chance. The score does not choose our reading: it is the one nearest to the paper's text "
        "under which the module does what the text says.",
        "",
        *markdown_table(
            ["paper", "question", "our reading", "alternative", f"mAP {words}, Δ", "margin"], cells, left=4
        ),
    ]


def _noise_text(document: Document, measured: Document, source: Source) -> str:
    """`full model 3 seeds; s = 1.41 (mAP), 0.90 (Rank-1), pooled over ...`"""
    ours = source.summary(document, document.rows[0], document.columns[0])
    seeds = "not run" if ours is None else f"{ours.count} seed{'s' if ours.count > 1 else ''}"
    levels, summaries = [], []
    for column in document.columns:
        summaries = _of_ablation(measured, column, source)
        if (level := noise_level(summaries)) is not None:
            levels.append(f"{level.deviation * UNITS[column.unit][0]:.2f} ({column.title})")
    if not levels:
        return f"full model {seeds}; s unknown, because no row of {measured.name} has two seeds."
    spread = [summary.count for summary in summaries if summary.count > 1]
    return (
        f"full model {seeds}; s = {', '.join(levels)}, pooled over the {len(spread)} rows of {measured.name} that have "
        f"several seeds ({sum(spread)} runs)."
    )


def _of_ablation(measured: Document, column: Column, source: Source) -> list[Summary]:
    rows = {row.run.label: row for row in measured.rows if row.run}.values()  # each run once
    found = (source.summary(measured, row, column) for row in rows)
    return [summary for summary in found if summary is not None]


def _cells(
    page: Page, document: Document, measured: Document, row: Row, column: Column, source: Source, notes: Footnotes
) -> tuple[str, str]:
    """`-1.2` and `0.9`, or why there is no difference."""
    if not row.fits(source.kind):
        size = "at demo size" if row.only == "demo" else "at the paper's size"
        return f"{NOT_APPLICABLE} {notes.mark(f'a reading that differs only {size}')}", NOT_APPLICABLE
    ours, other = (source.summary(document, one, column) for one in (document.rows[0], row))
    if ours is None or other is None:
        return f"not run {notes.mark(page.missing(document, source))}", NOT_APPLICABLE
    found = difference(other, ours, noise_level(_of_ablation(measured, column, source)))
    factor = UNITS[column.unit][0]
    text = f"{found.value * factor:+.{column.places}f}"
    text = f"**{text}**" if found.matters else text
    if stale := other.stale or ours.stale:
        again = f"`{make_command(page.paper, document, source.kind)} FORCE=1`"
        text += f" {notes.mark(f'stale: the {stale} changed since one of its runs; {again} runs them again')}"
    dataset = document.data_set_of(row, column)
    if len({record.data.fingerprint for one in (document.rows[0], row) for record in source.of_row(one, dataset)}) > 1:
        text += f" {notes.mark('its runs are of different images')}"
    return text, "unknown" if found.margin is None else f"{found.margin * factor:.{column.places}f}"


def _reading(page: Page, decision: Decision) -> str:
    """Our reading with its settings, and those of the demo where they differ."""
    folder = package_folder(page.paper.paper)
    demo = defaults(folder, None, demo=True) if folder else {}
    changed = {key: demo[key] for key, value in decision.ours.items() if demo.get(key, value) != value}
    text = f"{decision.reading} ({_settings(decision.ours)})"
    return text + (f"; the demo has {_settings(changed)}" if changed else "")


def _settings(values: dict[str, Any]) -> str:
    """As YAML in code marks: `bnneck: true`, `dfw_after: [layer3]`."""
    return ", ".join(f"`{key}: {_yaml(value)}`" for key, value in values.items())


def _yaml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    return value if isinstance(value, str) else json.dumps(value)
