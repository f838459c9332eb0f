"""What the README shows of the claims: one of each paper and what we found, and those that a reader would ask for."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks.claims import rows_of
from benchmarks.records import BENCHMARKS

from .cells import NOT_APPLICABLE
from .claims import (
    COSTS,
    DATA,
    ON_COSTS,
    OWN,
    PUBLISHED,
    Line,
    all_lines,
    reported_text,
    verdict_head,
    verdict_text,
    what_was_found,
)
from .evidence import FEW_SEEDS, NOT_RUN, STALE, is_of_one_network
from .markdown import anchor, markdown_table
from .verdicts import FAILS, HOLDS, UNDECIDED


def found_table(lines: Iterable[Line], found: Mapping[str, str]) -> str:
    """The first claim of each paper that has a headline: what we found, the printed difference, and ours.

    found: {paper: what we found}; shown beside a number of ours only.
    """
    first = {}
    for line in lines:
        if line.metric == line.claim.headline:
            first.setdefault(line.paper.paper, line)
    cells = []
    for paper, line in first.items():
        finding = line.findings["demo"]
        cells.append(
            [
                f"[{line.paper.short}](benchmarks/tables/{paper}.md)",
                what_was_found([line], found) or NOT_APPLICABLE,
                f"{reported_text(line)}{_from(_printed(line))}",
                f"{finding.ours or NOT_APPLICABLE}{_from(finding.over)}",
                verdict_text(line, finding),
            ]
        )
    headers = ["paper", "what we found", "gain, as printed", f"gain, ours, {DATA['demo']}", verdict_head("demo")]
    return "\n".join(markdown_table(headers, cells, left=2))


def _printed(line: Line) -> str:
    """The printed score of the row that the claim compares with."""
    rows = rows_of(line.paper.document(line.claim.published), line.claim.over)
    return next((line.column.text(row.reported[line.metric]) for row in rows if line.metric in row.reported), "")


def _from(score: str) -> str:
    return f" from {score}" if score else ""


def counted(lines: list[Line]) -> str:
    """The verdicts of all lines: costs, and what synthetic pedestrians decide."""
    groups = Counter(line.group for line in lines)
    costs = Counter(ON_COSTS[line.findings[COSTS].verdict] for line in lines if line.group == COSTS)
    own = [line.findings["demo"] for line in lines if line.group == OWN]
    verdicts, reasons = Counter(found.verdict for found in own), Counter(found.reason for found in own)
    others = verdicts[UNDECIDED] - reasons[NOT_RUN] - reasons[STALE] - reasons[FEW_SEEDS]
    scored = [line for line in lines if line.group == OWN and is_of_one_network(line.paper, line.claim)]
    same = sum(line.findings["demo"].verdict == HOLDS for line in scored)
    return (
        f"{len(lines)} comparisons: a claim, on one data set, in one metric. {groups[COSTS]} are of costs, which need "
        f"no training: {costs['agrees']} agree with the printed figures, {costs['differs']} differ. "
        f"{groups[PUBLISHED]} are with methods and backbones that are not run here: only runs on real data decide "
        f"them. Of the {groups[OWN]} between networks that we train, the verdict on synthetic pedestrians is "
        f"*{HOLDS}* for {verdicts[HOLDS]} ({same} of them about how one and the same network is scored, as with "
        f"re-ranking), *{FAILS}* for {verdicts[FAILS]} and *{UNDECIDED}* for {verdicts[UNDECIDED]}: "
        f"{reasons[NOT_RUN]} not run, {reasons[STALE]} with a stale run, {reasons[FEW_SEEDS]} with fewer than three "
        f"seeds, {others} with an interval around zero or a difference below a sweep's margin."
    )


def claims_headline(folder: Path = BENCHMARKS) -> str:
    """The claims that the project's README shows, for the markers there."""
    cells, lines = [], list(all_lines(folder))
    for line in (line for line in lines if line.metric == line.claim.headline):
        finding = line.findings[COSTS if line.group == COSTS else "demo"]
        ours = finding.ours or NOT_APPLICABLE
        ours = f"computed: {ours}" if line.group == COSTS else ours
        paper = f"[{line.paper.short}](benchmarks/tables/claims.md#{anchor(line.paper.short)})"
        where = line.column.unit if line.group == COSTS else line.data
        cells.append(
            [
                paper,
                f"{line.claim.says} ({line.column.title}, {where})",
                reported_text(line),
                ours,
                verdict_text(line, finding),
            ]
        )
    headers = ["paper", "claim", "reported", f"ours, {DATA['demo']}", verdict_head("demo")]
    explained = (
        "`+1.0 [a, b] (n=3)`: mean difference over three seeds and its 95 % interval; `margin`: by how much the "
        "paper's best row of a sweep must lead the others, or trail one of them, to decide; `–`: not run; `stale`: the "
        "code, the settings or the starting weights have changed since the run, which decides nothing then. Costs are "
        "computed at the paper's size."
    )
    return "\n".join([counted(lines), "", *markdown_table(headers, cells, left=2), "", explained])
