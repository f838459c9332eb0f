"""Records to markdown: the paper's and our numbers side by side, for the committed page and for a user's own.

A page has one block per document; each source of numbers (see sources.py) is a column, or a row, beside the paper's.
The same records always give the same text.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

from benchmarks.records import KINDS
from benchmarks.spec import Document, PaperSpec, Row
from common.datasets import reader_of

from .ablation import NOISE_RULE, agreement
from .commands import make_command, unpublished
from .decisions import decision_lines
from .effects import main_effects
from .markdown import contents, joined, markdown_table
from .origins import origins
from .setup import STARTS, setup_line
from .sources import Source, Summary
from .sweeps import noise_line
from .table import Footnotes, Page, long_table, matrices, parts, wide_table

AP_SCORE = re.compile(r"mAP(?:_[a-z]+)?$")  # the end of a column's path
ESTIMATORS = {"step": "mAP", "trapezoid": "mAP_trapezoid", "interpolated": "mAP_interpolated"}
ORIGINS = "Where the numbers come from"
SHARED_MACHINE = (
    "Images a second and minutes are those of a shared machine; other work on it made some runs several times slower."
)


def render_page(
    page: Page, *, title: str, introduction: list[str], elsewhere: Mapping[str, str] = MappingProxyType({})
) -> str:
    """The whole page as markdown. elsewhere: {heading of a section that is on another page: link to it}."""
    paper = page.paper
    documents = [document for document in paper.documents if document.name not in elsewhere]
    headings = [*(document.name for document in documents), *([] if ORIGINS in elsewhere else [ORIGINS])]
    links = " · ".join(f"[{heading}]({link})" for heading, link in elsewhere.items())
    lines = [f"# {title}", "", *introduction, "", contents(headings), ""]
    lines += [f"On pages of their own: {links}", ""] if links else []
    lines += [*legend(page), ""]
    for document in documents:
        lines += [f"## {document.name}", "", document.caption, "", *render_document(page, document), ""]
    lines += [f"## {ORIGINS}", "", *origins(paper, page.sources)] if ORIGINS in headings else []
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def legend(page: Page) -> list[str]:
    """What the words in the tables' headings mean, once for the whole page."""
    lines = ["**How to read the tables**", "", "- `paper`: printed in the paper, including the methods that it cites."]
    for source in page.sources:
        where = "runs finished on this machine" if source.here else "published records"
        none = "" if source.records or source.kind == "demo" else "; there are none yet"
        lines.append(f"- `{source.title}`: ours, {where} on {KINDS[source.kind]}{none}.")
    if not any(source.here for source in page.sources):
        lines.append(f"- {at_full_size(page.paper)}")
    estimators = own_estimators(page.paper)
    named = f" AP estimator of our mAP: {estimators.pop()}." if len(estimators) == 1 else ""
    lines += [
        f"- {STARTS['synthetic'].capitalize()}: learned on other synthetic people, see "
        "[common/weights](../../common/weights/README.md).",
        "- Synthetic pedestrians are not the real data set: numbers on them say nothing about the paper's absolute "
        "numbers. They show that the code learns, and how its variants compare on that data.",
        f"- Scores are in per cent, after the last epoch.{named} `a ± b`: mean and sample standard deviation over "
        "`seeds`; without ±, a single run. `se`: standard error from the choice of the test people (bootstrap over "
        "people); methods tested on the same people share most of it.",
        "- AP: `step` is the mean of the precisions at the matches; `trapezoid` averages each with the precision one "
        "rank before, as Market-1501's own code does; `interpolated` takes the highest precision from each match on.",
        "- `stale`: the source code, the settings or the starting weights have changed since the run; the number is "
        "that of the old ones, often on other synthetic images, and decides no claim.",
        *([f"- {NOISE_RULE}"] if any(document.ablation for document in page.paper.documents) else []),
        *([f"- {SHARED_MACHINE}"] if any(source.here for source in page.sources) else []),
        "- A letter in brackets, as in `not run (a)`, is explained under its table. `–`: the paper prints no such "
        "number, or the run has none.",
    ]
    return lines


def at_full_size(paper: PaperSpec) -> str:
    """How to run a document at the paper's settings without real data."""
    used = dict.fromkeys(dataset for document in paper.documents for _, dataset in document.runs())
    layouts = " ".join(dict.fromkeys(reader_of(dataset).NAME for dataset in used))
    return (
        "Commands with `DIR` need the real data set there; what they take is estimated. At the paper's settings on "
        f"synthetic pedestrians: `python -m common.datasets make --like {layouts} --size full`, then the same command "
        "with `DATA_ROOT=data/synthetic/full`."
    )


def render_document(page: Page, document: Document) -> list[str]:
    """The markdown lines of one table or figure, without the heading."""
    sources = page.sources if any(document.runs()) else []  # a table of settings has no runs
    shown = [source for source in sources if source.here or source.kind == "demo" or source.covers(document)]
    notes = Footnotes()
    setups = [setup_line(page.paper, document, source) for source in shown if document.columns]
    lines: list[str] = [line for setup in filter(None, setups) for line in (f"*{setup}.*", "")]
    if document.kind == "counts":
        lines += [*long_table(page, document, shown, notes), ""]
    elif document.kind == "decisions":
        lines += [*decision_lines(page, document, shown, notes), ""]
    elif document.kind == "matrix":
        lines += matrices(page, document, shown, notes)
    elif document.columns:
        for group in document.groups():
            lines += [f"**{group}**", ""] if group else []
            for columns in parts(document, group):
                lines += [*wide_table(page, document, shown, notes, columns=columns), ""]
    if document.baselines:
        lines += ["Our own rows, which the paper does not have, on the same data.", ""]
        for group in document.groups():
            lines += [f"**{group}**", ""] if group else []
            lines += [*wide_table(page, document, shown, notes, group, baselines=True), ""]
    lines += [*main_effects(document, shown), ""] if document.factors else []
    lines += figures(page, document, shown)
    lines += [line for source in shown if document.ablation for line in agreement(document, source)]
    lines += [line for source in shown if document.kind == "sweep" for line in noise_line(page.paper, document, source)]
    lines += estimator_lines(page, document, shown)
    lines += [
        f"- On {source.title} data: {unpublished(page.paper, document)}"
        for source in sources
        if source.kind == "real" and source not in shown and any(row.fits("real") for row, _ in document.runs())
    ]
    lines += [*notes.lines(), *(f"- {text}" for text in document.footnotes)]
    return lines


def figures(page: Page, document: Document, sources: list[Source]) -> list[str]:
    """Links to the document's existing figures, each with its source and its table.

    A user's page shows the figures of this machine's runs, the committed page those of the published runs.
    """
    lines = []
    for source in [source for source in sources if source.here] or sources:
        data = page.figure_data.get((document.id, source.kind))
        if data and (table := data.get("table")):
            lines += [*markdown_table(table["headers"], table["rows"]), ""]
        name = f"{document.id}-{source.kind}.png"
        if (page.figures / name).is_file():
            caption = setup_line(page.paper, document, source) or source.title
            caption += "; stale, as its runs are" if source.is_stale(document) else ""
            lines += [f"![{document.name}, {source.title}]({page.figures.name}/{name})", ""]
            lines += [f"*{document.name}, {caption}.*", ""]
            absent = [row.method for row in document.rows if not has_run(document, row, source)]
            if document.kind == "curves" and absent:
                command = make_command(page.paper, document, source.kind)
                lines += [f"Not in the figure because not run: {'; '.join(absent)} (`{command}`).", ""]
    if not lines and not document.columns:
        lines = [f"Not run: `{make_command(page.paper, document, sources[-1].kind)}` makes this figure.", ""]
    return lines


def has_run(document: Document, row: Row, source: Source) -> bool:
    return bool(row.run and source.of_row(row, document.data_set_of(row)))


def own_estimators(paper: PaperSpec) -> set[str]:
    """The AP estimators of the paper's tables, each with what the paper says of its own."""
    return {estimator_text(document) for document in paper.documents} - {""}


def estimator_text(document: Document) -> str:
    """Nothing for the decisions, which have that of the table whose columns they take."""
    if document.average_precision is None or document.kind == "decisions":
        return ""
    return f"`{document.average_precision}`; {document.paper_estimator}"


def estimator_lines(page: Page, document: Document, sources: list[Source]) -> list[str]:
    """The AP estimator of the table if the page has several, and by how much the others change our mAP."""
    own, text = document.average_precision, estimator_text(document)
    if not text:
        return []
    lines = [f"- AP estimator of our mAP: {text}."] if len(own_estimators(page.paper)) > 1 else []
    for source in sources:
        found = {other: estimator_changes(document, source, ESTIMATORS[other]) for other in ESTIMATORS if other != own}
        texts = []
        for other, changes in found.items():
            if changes:
                ends = dict.fromkeys(f"{value:+.1f}" for value in (min(changes), max(changes)))
                texts.append(f"{' to '.join(ends)} points under `{other}`")
        if texts:
            lines.append(f"- Our mAP ({source.title}) changes by {joined(texts, 'and')}.")
    return lines


def estimator_changes(document: Document, source: Source, other: str) -> list[float]:
    """In points, the change of each mAP of the document under another estimator, whose scores end in `other`."""
    changes = []
    for column in document.columns:
        if not (column.value and AP_SCORE.search(column.value)):
            continue
        there = column.model_copy(update={"value": AP_SCORE.sub(other, column.value)})
        for row in (*document.rows, *document.baselines):
            found: list[Summary | None] = [source.summary(document, row, one) for one in (column, there)]
            if None not in found:
                changes.append(100 * (found[1].mean - found[0].mean))
    return changes
