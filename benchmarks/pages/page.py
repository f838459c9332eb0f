"""Records to markdown: reported and reproduced numbers side by side, for the committed page and for a user's own.

A page has one block per document; each source of numbers (see sources.py) is a column beside the reported one. The same
records always give the same text.
"""

import re
from itertools import product

from tabulate import tabulate

from benchmarks.records import KINDS
from benchmarks.spec import Document, Row
from common.datasets import trials_of

from .ablation import agreement
from .decisions import decision_lines
from .effects import main_effects
from .origins import origins
from .sources import Source
from .table import Footnotes, Page, long_table, make_command, matrices, summary_text, wide_table

AP_SCORES = {"step": "mAP", "trapezoid": "mAP_trapezoid", "interpolated": "mAP_interpolated"}
AP_SCORE = re.compile(r"mAP(_trapezoid|_interpolated)?$")  # the end of a column's path


def render_page(page: Page, *, title: str, introduction: list[str]) -> str:
    """The whole page as markdown."""
    paper = page.paper
    lines = [f"# {title}", "", *introduction, "", *legend(page.sources), ""]
    for document in paper.documents:
        lines += [f"## {document.name}", "", document.caption, "", *render_document(page, document), ""]
    lines += ["## Where the numbers come from", "", *origins(paper, page.sources)]
    return "\n".join(lines).rstrip() + "\n"


def legend(sources: list[Source]) -> list[str]:
    lines = ["Columns:", "", "- **reported**: printed in the paper, including the cited methods."]
    for source in sources:
        where = "runs finished on this machine" if source.here else "published records"
        lines.append(f"- **{source.title}**: {where}, trained and tested on {KINDS[source.kind]}.")
    lines += [
        "",
        "Synthetic pedestrians are not the real data set: numbers on them say nothing about the paper's absolute "
        "numbers. They show that the code learns, and how its variants compare on that data.",
        "",
        "Our scores are those of the last epoch. `a ± b (n=k)` is the mean and the sample standard deviation over k "
        "seeds; a number without ± is a single run. `se` is the standard error that comes from the choice of the test "
        "people (bootstrap over people); methods tested on the same people share most of it. `not run` is explained "
        "under the table; `–` marks a number that the paper does not print or that the run does not produce.",
    ]
    return lines


def render_document(page: Page, document: Document) -> list[str]:
    """The markdown lines of one table or figure, without the heading."""
    sources = page.sources if any(document.runs()) else []  # a table of settings has no runs
    shown = [source for source in sources if source.here or source.kind == "demo" or source.covers(document)]
    left_out = [source for source in sources if source not in shown]
    notes = Footnotes()
    lines: list[str] = []
    if document.kind == "counts":
        lines += [*long_table(page, document, shown, notes), ""]
    elif document.kind == "decisions":
        lines += [*decision_lines(page, document, shown, notes), ""]
    elif document.kind == "matrix":
        lines += matrices(page, document, shown, notes)
    elif document.columns:
        for group in document.groups():
            lines += [f"**{group}**", ""] if group else []
            lines += [*wide_table(page, document, shown, notes, group), ""]
    if document.baselines:
        lines += ["Our own rows, which the paper does not have, on the same data.", ""]
        for group in document.groups():
            lines += [f"**{group}**", ""] if group else []
            lines += [*wide_table(page, document, shown, notes, group, baselines=True), ""]
    lines += [*figures(page, document, shown), *estimator_lines(document, shown)]
    lines += [f"- {source.title}: {unpublished(page, document, source)}" for source in left_out]
    lines += [*notes.lines(), *(f"- {text}" for text in document.footnotes)]
    if document.factors:
        lines += ["", *main_effects(document, shown)]
    if document.ablation:
        for source in shown:
            order = agreement(document, source)
            lines += ["", *order] if order else []
    return lines


def figures(page: Page, document: Document, sources: list[Source]) -> list[str]:
    """Links to the document's existing figures, each with its source and its table.

    A user's page shows the figures of this machine's runs, the committed page those of the published runs.
    """
    lines = []
    for source in [source for source in sources if source.here] or sources:
        data = page.figure_data.get((document.id, source.kind))
        if data and (table := data.get("table")):
            text = tabulate(table["rows"], table["headers"], tablefmt="pipe", disable_numparse=True)
            lines += [*text.split("\n"), ""]
        name = f"{document.id}-{source.kind}.png"
        if (page.figures / name).is_file():
            lines += [f"![{document.name}, {source.title}]({page.figures.name}/{name})", ""]
            lines += [f"*{document.name}, {source.title}.*", ""]
            absent = [row.method for row in document.rows if not has_run(document, row, source)]
            if document.kind == "curves" and absent:
                command = make_command(page.paper, document, source.kind)
                lines += [f"Not in the figure because not run: {', '.join(absent)} (`{command}`).", ""]
    if not lines and not document.columns:
        lines = [f"Not run: `{make_command(page.paper, document, sources[-1].kind)}` makes this figure.", ""]
    return lines


def has_run(document: Document, row: Row, source: Source) -> bool:
    return bool(row.run and source.of_row(row, document.data_set_of(row)))


def estimator_lines(document: Document, sources: list[Source]) -> list[str]:
    """The AP estimator of the table, and our mAP under the others, where the records have it."""
    if document.average_precision is None or document.kind == "decisions":
        return []
    own = [column for column in document.columns if column.value and AP_SCORE.search(column.value)]
    lines = [f"- AP estimator of our columns: `{document.average_precision}`; {document.paper_estimator}."]
    others = [name for name in AP_SCORES if name != document.average_precision]
    for name, source in product(others, sources):
        columns = [column.model_copy(update={"value": AP_SCORE.sub(AP_SCORES[name], column.value)}) for column in own]
        values = [
            f"{row.method}{f' ({column.group})' if column.group else ''} {summary_text(summary, column)}"
            for column in columns
            for row in (*document.rows, *document.baselines)
            if (summary := source.summary(document, row, column)) is not None
        ]
        if values:
            lines.append(f"- mAP (%) under `{name}`, {source.title}: {'; '.join(values)}.")
    return lines


def unpublished(page: Page, document: Document, source: Source) -> str:
    """One line that replaces the columns of a source without any run of this document."""
    runs = [(row, dataset) for row, dataset in document.runs() if row.fits(source.kind)]
    trained = {  # as reproduce/plan.py has it: the demo runs the first trial only
        (row.run.label, trial)
        for row, dataset in runs
        if row.run.trains
        for trial in trials_of(dataset)[: 1 if source.kind == "demo" else None]
    }
    command = f"nothing published yet; `{make_command(page.paper, document, source.kind)}` makes it."
    cost = page.paper.real_data_cost
    if cost is None or not trained:
        return command
    data_sets = {dataset for _, dataset in trained}
    hours = cost.gpu_hours_per_run * sum(cost.times.get(dataset, 1.0) for _, dataset in trained)
    hours = round(hours + sum(cost.gpu_hours_before.get(dataset, 0.0) for dataset in data_sets), 1)
    disk = cost.disk_gb + cost.disk_gb_per_run * len(trained)
    runs_text = "one training run" if len(trained) == 1 else f"{len(trained)} training runs"
    return f"{command} It takes {runs_text}: about {hours:g} GPU hours and {disk:g} GB of disk (estimates)."
