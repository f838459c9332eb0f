"""`claims` of `specs/<paper>.yaml`: what the paper concludes from its numbers, in our words.

A claim compares two rows of a document (`row` over `over`), or names the rows at which a sweep is best (`best`). A
published method without a run counts with its printed number. What can be compared with nothing has `says` and `place`
only. The format and the reported differences are checked here;
`pages/verdicts.py` says whether a claim holds.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

# spec.py imports this module: its types have only their names here.
PaperSpec = Document = Row = Column = Any

ROUNDING = 1e-6  # of differences of printed decimals
COSTS = ("num_parameters", "macs")  # how the last word of a column's path in a record begins, where it is a cost


class Claim(BaseModel):
    """reported: {column: the difference row - over, in the column's unit}; for a sweep, and where the paper prints no
    numbers, `columns` names the columns instead, and `direction` says how `row` differs from `over`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    says: str
    place: str  # where the paper says it: table, figure or section
    document: str = ""  # whose rows are compared; default: nothing is compared
    row: str = ""  # a method of the document
    over: str = ""  # the method that it is compared with
    over_document: str = ""  # of `over`, with columns of the same names; default: the document
    best: tuple[str, ...] = ()  # the sweep's rows at, or on either side of, the optimum
    demo_best: tuple[str, ...] = ()  # those that stand for them at demo size; default: the same
    reported: dict[str, float] = {}
    in_text: dict[str, float] = {}  # {column: what the text gives where the table's difference is another}
    columns: tuple[str, ...] = ()
    direction: Literal["higher", "lower"] | None = None
    headline: str = ""  # the column with which the claim is in the project's README; default: it is not there

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> "Claim":
        if not self.document:
            if self.model_fields_set - {"says", "place"}:
                raise ValueError("a claim needs a `document`, or has `says` and `place` only")
            return self
        if self.best:
            if self.row or self.over or self.reported or self.direction:
                raise ValueError("a claim with `best` has `columns`, and no `row`, `over`, `reported` or `direction`")
            if not self.columns:
                raise ValueError("a claim with `best` needs `columns`")
            return self
        if not (self.row and self.over):
            raise ValueError("a claim needs `row` and `over`, or `best`")
        if bool(self.columns) != bool(self.direction):
            raise ValueError("`columns` without reported numbers need a `direction`, and the reverse")
        if not self.metrics:
            raise ValueError("a claim needs `reported`, or `columns` and a `direction`")
        if set(self.columns) & set(self.reported):
            raise ValueError("a column is in `reported` or in `columns`")
        if not set(self.in_text) <= set(self.reported):
            raise ValueError("`in_text` gives another number for a column of `reported`")
        return self

    @property
    def metrics(self) -> tuple[str, ...]:
        """The columns that the claim is about; each is decided by itself."""
        return (*self.reported, *self.columns)

    @property
    def published(self) -> str:
        """The document of `over`."""
        return self.over_document or self.document


def check_claims(paper: PaperSpec) -> None:
    """ValueError: a claim names what the spec does not have, or another difference than its rows report."""
    for position, claim in enumerate(paper.claims):
        try:
            _check(paper, claim)
        except ValueError as error:
            raise ValueError(f"claims.{position} ({claim.says}): {error}") from None


def _check(paper: PaperSpec, claim: Claim) -> None:
    if not claim.document:
        return
    document, other = (_document(paper, name) for name in (claim.document, claim.published))
    for method in filter(None, (claim.row, *claim.best, *claim.demo_best)):
        rows_of(document, method)
    if claim.headline and claim.headline not in claim.metrics:
        raise ValueError(f"headline: the claim is not about the column '{claim.headline}'")
    for name in claim.metrics:
        column_of(document, name)
        if not claim.best:
            _check_difference(claim, name, document, other)


def is_cost(column: Column) -> bool:
    """Whether it has parameters or operations, which need no training."""
    return (column.value or "").rpartition(".")[2].startswith(COSTS)


def _check_difference(claim: Claim, name: str, document: Document, other: Document) -> None:
    column = column_of(other, name)
    pair = [
        next((row.reported[name] for row in rows_of(place, method) if name in row.reported), None)
        for place, method in ((document, claim.row), (other, claim.over))
    ]
    if pair[1] is None and not any(row.run for row in rows_of(other, claim.over)):
        raise ValueError(f"{other.id} has neither a run of '{claim.over}' nor its '{name}'")
    if None in pair and is_cost(column):
        raise ValueError(f"{document.id} prints no '{name}' of one of the rows, and a cost is compared with both")
    if name not in claim.reported:
        if None not in pair:
            raise ValueError(f"{document.id} prints '{name}' of both rows: give their difference in `reported`")
        return
    given, difference = claim.reported[name], None if None in pair else pair[0] - pair[1]
    if difference is not None and abs(given - difference) > ROUNDING:
        raise ValueError(
            f"reported {name} is {given:+g}, but the rows print {pair[0]:g} and {pair[1]:g}, which is "
            f"{difference:+.{column.places}f} (if the text gives another number, put that into `in_text`)"
        )
    if name in claim.in_text and abs(claim.in_text[name] - given) <= ROUNDING:
        raise ValueError(f"in_text {name} is the reported difference")


def _document(paper: PaperSpec, name: str) -> Document:
    found = [document for document in paper.documents if document.id == name]
    if not found:
        raise ValueError(f"there is no document '{name}'")
    return found[0]


def rows_of(document: Document, method: str) -> list[Row]:
    """The rows of that name: one, or one of the paper's size and one of the demo's. ValueError: there is none."""
    found = [row for row in (*document.rows, *document.baselines) if row.method == method]
    if not found:
        raise ValueError(f"{document.id} has no row '{method}'")
    return found


def column_of(document: Document, name: str) -> Column:
    """ValueError: there is none."""
    found = [column for column in document.columns if column.id == name]
    if not found:
        raise ValueError(f"{document.id} has no column '{name}'")
    return found[0]
