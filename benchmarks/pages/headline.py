"""What the README shows of the claims: one of each paper and what we found, and those that a reader would ask for."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks.records import BENCHMARKS

from .cells import NOT_APPLICABLE
from .claims import COSTS, DATA, ON_COSTS, OWN, PUBLISHED, Line, all_lines, reported_text, verdict_text
from .evidence import NOT_RUN, STALE
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
        known = finding.ours and not finding.stale
        cells.append(
            [
                f"[{line.paper.short}](benchmarks/tables/{paper}.md)",
                found.get(paper, NOT_APPLICABLE) if known else NOT_APPLICABLE,
                reported_text(line),
                finding.ours or NOT_APPLICABLE,
                verdict_text(line, finding),
            ]
        )
    headers = ["paper", "what we found", "gain, as printed", f"gain, ours, {DATA['demo']}", "verdict"]
    return "\n".join(markdown_table(headers, cells, left=2))


def counted(lines: list[Line]) -> str:
    """The verdicts of all lines: costs, and what synthetic pedestrians decide."""
    groups = Counter(line.group for line in lines)
    costs = Counter(ON_COSTS[line.findings[COSTS].verdict] for line in lines if line.group == COSTS)
    own = [line.findings["demo"] for line in lines if line.group == OWN]
    verdicts, reasons = Counter(found.verdict for found in own), Counter(found.reason for found in own)
    others = verdicts[UNDECIDED] - reasons[NOT_RUN] - reasons[STALE]
    return (
        f"{len(lines)} comparisons: a claim, on one data set, in one metric. {groups[COSTS]} are of costs, which need "
        f"no training: {costs['agrees']} agree with the printed figures, {costs['differs']} differ. "
        f"{groups[PUBLISHED]} are with published methods: only runs on real data decide them. Of the {groups[OWN]} "
        f"between networks that we train, the verdict on synthetic pedestrians is *{HOLDS}* for {verdicts[HOLDS]}, "
        f"*{FAILS}* for {verdicts[FAILS]} and *{UNDECIDED}* for {verdicts[UNDECIDED]}: {reasons[NOT_RUN]} not run, "
        f"{reasons[STALE]} with a stale run, {others} with one seed or an interval around zero."
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
    headers = ["paper", "claim", "reported", f"ours, {DATA['demo']}", "verdict"]
    explained = (
        "`+1.0 [a, b] (n=3)`: mean difference over three seeds and its 95 % interval; `margin`: what a sweep's best "
        "row must lead by; `–`: not run; `stale`: the code, the settings or the starting weights have changed since "
        "the run, which decides nothing then."
    )
    return "\n".join([counted(lines), "", *markdown_table(headers, cells, left=2), "", explained])
