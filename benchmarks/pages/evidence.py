"""What the records say about a claim: our difference, or where a sweep is best, and the verdict."""

from dataclasses import dataclass, field, replace

from benchmarks.claims import Claim, column_of, rows_of
from benchmarks.spec import UNITS, Column, Document, PaperSpec, Row, value_of
from common.runs.record import Record

from .commands import make_command
from .costs import cost
from .sources import Source
from .verdicts import (
    FEWEST_SEEDS,
    UNDECIDED,
    Difference,
    Noise,
    lead,
    mean_difference,
    paired,
    pooled_noise,
    verdict,
    verdict_of_cost,
    verdict_of_optimum,
)

Values = dict[tuple[str, int, str], float]  # {(data set or trial, seed, its images): number in the column's unit}

PUBLISHED = "a published method, which is not run here"
PLACES = 2  # of our differences, which would round to zero otherwise
WRONG_SIZE = "its rows are not run at this size"
NOT_RUN, STALE, FEW_SEEDS = "not run", "stale", "fewer than three seeds"
WITHOUT_INTERVAL = (*(f"(n={count})" for count in range(1, FEWEST_SEEDS)), "(noise unknown)")


@dataclass(frozen=True)
class Finding:
    """ours: `+1.2 [-0.3, +2.7] (n=3)`, empty without numbers; why: what is missing; over: the compared row's score."""

    ours: str
    verdict: str = UNDECIDED
    why: str = ""
    stale: bool = False
    over: str = field(default="", compare=False)

    @property
    def reason(self) -> str:
        """Why the verdict is undecided, where that is no interval around zero."""
        if self.verdict != UNDECIDED:
            return ""
        if not self.ours:
            return NOT_RUN
        if self.stale:
            return STALE
        return FEW_SEEDS if self.ours.endswith(WITHOUT_INTERVAL) else ""

    @property
    def said(self) -> str:
        return f"{self.verdict} ({self.reason})" if self.reason else self.verdict


@dataclass(frozen=True)
class Side:
    """A row of a document, in one column."""

    document: Document
    row: Row
    column: Column

    @property
    def dataset(self) -> str:
        return self.document.data_set_of(self.row, self.column)

    def records(self, source: Source) -> list[Record]:
        return source.of_row(self.row, self.dataset)

    def values(self, source: Source) -> Values:
        factor = UNITS[self.column.unit][0]
        records = self.records(source)
        found = {(r.dataset, r.seed, r.data.fingerprint): value_of(r, self.column, self.row) for r in records}
        return {key: factor * value for key, value in found.items() if value is not None}


def is_published(paper: PaperSpec, claim: Claim) -> bool:
    """Whether one of the compared methods is not run here, at no size."""
    sides = [] if claim.best else [(claim.document, claim.row), (claim.published, claim.over)]
    return any(not any(row.run for row in rows_of(paper.document(name), method)) for name, method in sides)


def is_of_one_network(paper: PaperSpec, claim: Claim) -> bool:
    """Whether both rows are scores of the same trained networks, as with and without re-ranking."""
    if claim.best:
        return False
    sides = [(claim.document, claim.row), (claim.published, claim.over)]
    row, over = ([row.run for row in rows_of(paper.document(name), method)] for name, method in sides)
    return any(run is not None and run in over for run in row)


def find(paper: PaperSpec, claim: Claim, metric: str, source: Source) -> Finding:
    """What the source's records say about one column of a claim; stale ones decide nothing."""
    finding = (_optimum if claim.best else _difference)(paper, claim, metric, source)
    return replace(finding, verdict=UNDECIDED) if finding.stale else finding


def _side(document: Document, method: str, metric: str, kind: str) -> Side | None:
    """None if no row of that name can be run on data of this kind."""
    rows = [row for row in rows_of(document, method) if row.fits(kind)]
    return Side(document, rows[0], column_of(document, metric)) if rows else None


def _difference(paper: PaperSpec, claim: Claim, metric: str, source: Source) -> Finding:
    row = _side(paper.document(claim.document), claim.row, metric, source.kind)
    over = _side(paper.document(claim.published), claim.over, metric, source.kind)
    if row is None or over is None:
        return Finding("", why=WRONG_SIZE)
    if row.row.run is None:
        return Finding("", why=PUBLISHED)
    ours = row.values(source)
    if over.row.run is None:
        if source.kind != "real":
            return Finding("", why=PUBLISHED)
        theirs = dict.fromkeys(ours, over.row.reported[metric])
        sides = [row]
    else:
        theirs, sides = over.values(source), [row, over]
    missing = [side for side in sides if not side.values(source)]
    if missing:
        return Finding("", why=_not_run(paper, missing[0], source))
    differences = paired(ours, theirs)
    if not differences:
        return Finding("", why="no seed that both rows have, on the same images")
    difference = mean_difference(differences)
    sign = claim.reported.get(metric, -1 if claim.direction == "lower" else 1)
    compared = [theirs[key] for key in set(ours) & set(theirs)]
    return Finding(
        difference_text(difference, row.column),
        verdict(difference, sign),
        stale=_stale(source, sides),
        over=f"{sum(compared) / len(compared):.{row.column.places}f}",
    )


def _optimum(paper: PaperSpec, claim: Claim, metric: str, source: Source) -> Finding:
    document = paper.document(claim.document)
    source = source.of_one_age(document)
    named = claim.demo_best if source.kind == "demo" and claim.demo_best else claim.best
    column = column_of(document, metric)
    sides = {row.method: Side(document, row, column) for row in document.rows if _runs(row, source)}
    values = {method: list(side.values(source).values()) for method, side in sides.items()}
    means = {method: sum(found) / len(found) for method, found in values.items() if found}
    ranked = sorted(means, key=means.get, reverse=True)
    best = next((method for method in ranked if method in named), None)
    others = [method for method in ranked if method not in named]
    if best is None or not others:
        absent = [side for method, side in sides.items() if method not in means]
        return Finding("", why=_not_run(paper, absent[0], source) if absent else WRONG_SIZE)
    noise = noise_of_sweep(paper, document, column, source)

    def over(method: str) -> Difference:
        """The lead of the paper's optimum."""
        if sides[method].row.run == sides[best].row.run:  # one network, which gives both points
            both = paired(sides[best].values(source), sides[method].values(source))
            return mean_difference(both, len(others))
        return lead(values[best], values[method], noise, len(others))

    leads = {method: over(method) for method in others}
    decided = verdict_of_optimum(list(leads.values()), complete=len(means) == len(sides))
    ran = [sides[method] for method in means]
    text = _optimum_text(best, others[0], leads[others[0]], column)
    why = "" if len(means) == len(sides) else f"{len(means)} of {len(sides)} rows run"
    return Finding(text, decided, why, _stale(source, ran))


def _runs(row: Row, source: Source) -> bool:
    return row.run is not None and row.fits(source.kind)


def noise_of_sweep(paper: PaperSpec, document: Document, column: Column, source: Source) -> Noise | None:
    """Pooled over the seeds of the sweep's rows, and of the ablations' in the same metric on the same data, in the
    column's unit. None if no row has two seeds."""
    rows = [row for row in document.rows if _runs(row, source)]
    if not rows:
        return None
    found = {row.run.label: Side(document, row, column) for row in rows}
    metric = (column.value or "").rpartition(".")[2]
    dataset = document.data_set_of(rows[0], column)
    for ablation in (other for other in paper.documents if other.ablation):
        for row in (row for row in ablation.rows if _runs(row, source)):
            for other in ablation.columns:
                side = Side(ablation, row, other)
                if (other.value or "").rpartition(".")[2] == metric and side.dataset == dataset:
                    found.setdefault(row.run.label, side)
    return pooled_noise([list(side.values(source).values()) for side in found.values()])


def find_cost(paper: PaperSpec, claim: Claim, metric: str) -> Finding:
    """The difference that networks of the paper's size have; a published network counts with its printed cost."""
    sides = [
        _side(paper.document(name), method, metric, "real")
        for name, method in ((claim.document, claim.row), (claim.published, claim.over))
    ]
    if None in sides:
        return Finding("", why=WRONG_SIZE)
    figures: list[float] = []
    for side in sides:
        factor, run = UNITS[side.column.unit][0], side.row.run
        counted = cost(paper.paper, run, side.dataset, side.column.value) if run else None
        if run and counted is None:
            return Finding("", why="the paper's folder has no costs.py that counts it")
        figures.append(counted * factor if run else side.row.reported[metric])
    computed, column = figures[0] - figures[1], sides[0].column
    text = f"{column.text(figures[0])} - {column.text(figures[1])} = {signed(computed, column)}"
    largest = max(side.row.reported[metric] for side in sides)
    return Finding(text, verdict_of_cost(computed, claim.reported[metric], largest))


def _not_run(paper: PaperSpec, side: Side, source: Source) -> str:
    return f"not run: `{make_command(paper, side.document, source.kind)}`"


def _stale(source: Source, sides: list[Side]) -> bool:
    return any(source.today.change(record) for side in sides for record in side.records(source))


def signed(value: float, column: Column, places: int = 0) -> str:
    """`+1.2`, in the column's decimals, or more where `places` is more."""
    return f"{value:+,.{max(column.places, places)}f}"


def difference_text(difference: Difference, column: Column) -> str:
    text = signed(difference.mean, column, PLACES)
    if difference.interval is None:
        return f"{text} (n={difference.count})"
    low, high = (signed(bound, column, PLACES) for bound in difference.interval)
    return f"{text} [{low}, {high}] (n={difference.count})"


def _optimum_text(best: str, rival: str, difference: Difference, column: Column) -> str:
    """best: the paper's optimum; rival: the best of the other rows."""
    places = max(column.places, PLACES)
    winner, loser = (best, rival) if difference.mean > 0 else (rival, best)
    margin = "noise unknown" if difference.half is None else f"margin {difference.half:.{places}f}"
    return f"best at {winner}, {abs(difference.mean):.{places}f} above {loser} ({margin})"
