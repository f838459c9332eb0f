"""The format of `specs/<paper>.yaml`: every table and figure of a paper, and the runs that reproduce our rows.

A paper has documents; a document has columns and rows (a `picture` is drawn by `<paper>/figures.py`); a row has the
reported number of each column and, if it is ours, the run that reproduces it. A column names the place of its value in
a run's record (`scores.mAP`, `model.macs`), so that scores, counts and costs are columns of one kind. Columns with a
`group` (a data set, a search mode) are rendered as one table for each group. The record's numbers are fractions, pieces
and seconds; a column's unit converts them.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from common.config import nearest, read_yaml
from common.datasets import READERS
from common.errors import UserError

SPECS = Path(__file__).parent / "specs"

# unit -> (factor from a record's number to the printed one, decimals)
UNITS = {"%": (100, 1), "count": (1, 0), "year": (1, 0), "M": (1e-6, 2), "G": (1e-9, 2), "min": (1 / 60, 1)}


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RunSpec(Strict):
    """What makes a row's numbers. program: `train`, the paper's train.py; one of floors.py's; or another module of the
    paper's folder, run as `python -m <paper>.<program> --dataset NAME [--demo]`."""

    program: str = "train"
    dataset: str | None = None  # the column's or the document's, unless named here
    variant: str = "full"  # a section of `variants` in the paper's config.yaml
    set: dict[str, str | int | float | bool] = {}

    @property
    def label(self) -> str:
        """The variant as run directories and records name it (see Run.from_arguments)."""
        if self.program != "train":
            return self.program
        return self.variant + "".join(f"+{key}={self.set[key]}" for key in sorted(self.set))

    @property
    def trains(self) -> bool:
        """Whether the run takes training time."""
        return self.program == "train" and self.set.get("num_epochs") != 0


class Column(Strict):
    id: str
    title: str
    unit: Literal[tuple(UNITS)]
    value: str | None = None  # dotted path in a record, {key} from the row's fill; without one only reported
    group: str | None = None
    dataset: str | None = None  # the document's, unless named here
    decimals: Annotated[int, Field(ge=0)] | None = None  # the unit's, unless named here: as many as the paper prints

    def text(self, value: float) -> str:
        """A number in the column's unit, as a cell: 88.9, 12,936, 2017."""
        return f"{value:.0f}" if self.unit == "year" else f"{value:,.{self.places}f}"

    @property
    def places(self) -> int:
        return UNITS[self.unit][1] if self.decimals is None else self.decimals


class Row(Strict):
    method: str
    ref: int | None = None  # number in the paper's reference list, as printed in the table
    venue: str | None = None
    reported: dict[str, float] = {}  # column id -> number in the column's unit; a dash in the paper is left out
    run: RunSpec | None = None
    fill: dict[str, str] = {}  # what stands for {key} in the columns' values; keys that are not here are left out
    only: Literal["demo", "paper"] | None = None  # the row's settings exist only at demo size, or only at the paper's

    def fits(self, kind: str) -> bool:
        """Whether this row can be run on data of this kind (`demo`, `full`, `real`)."""
        return self.only is None or (self.only == "demo") == (kind == "demo")


SCOPES = ("headline", "together", "all")  # each has what those before it have; together: of several papers at once
Scope = Literal["headline", "together", "all"]


class Document(Strict):
    """One table or figure."""

    id: str
    name: str
    kind: Literal["table", "counts", "sweep", "curves", "heat_maps", "retrieval", "picture"]
    scope: Scope  # the narrowest that has it
    caption: str
    dataset: str | None = None
    average_precision: Literal["step", "trapezoid"] | None = None  # the estimator behind our mAP
    x: str | None = None  # what a sweep varies; its rows' methods are the values
    terms: tuple[str, ...] = ("loss",)  # of the log, that curves show
    columns: tuple[Column, ...] = ()
    rows: tuple[Row, ...]
    floors: tuple[Row, ...] = ()  # rows of ours that the paper does not have
    ablation: bool = False  # ends with the agreement between the paper's order of rows and ours
    footnotes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> "Document":
        known = [column.id for column in self.columns]
        for row in (*self.rows, *self.floors):
            for key in row.reported:
                if key not in known:
                    raise ValueError(f"{self.id}, row '{row.method}': reported has no column '{key}'")
            if row.run and not (row.run.dataset or self.dataset or all(column.dataset for column in self.columns)):
                raise ValueError(f"{self.id}, row '{row.method}': its run has no dataset")
        if any(column.value == "scores.mAP" for column in self.columns) and self.average_precision is None:
            raise ValueError(f"{self.id}: a table with mAP names its average_precision")
        if self.kind == "sweep" and self.x is None:
            raise ValueError(f"{self.id}: a sweep names its x")
        return self

    def data_set_of(self, row: Row, column: Column | None = None) -> str:
        return row.run.dataset or (column.dataset if column else None) or self.dataset

    def runs(self) -> Iterator[tuple[Row, str]]:
        """Each row of ours with each data set on which it is run."""
        for row in (*self.rows, *self.floors):
            if row.run:
                for dataset in dict.fromkeys(self.data_set_of(row, column) for column in self.columns or (None,)):
                    yield row, dataset

    def groups(self) -> list[str | None]:
        return list(dict.fromkeys(column.group for column in self.columns))


class RealDataCost(Strict):
    """Estimates for a reader who wonders whether to run a row on the real data."""

    gpu_hours_per_run: float = Field(gt=0)
    disk_gb: float = Field(gt=0)
    disk_gb_per_run: float = Field(gt=0)


class Paper(Strict):
    paper: str
    target: str  # of the Makefile
    title: str
    short: str  # the method, as the pages name it
    authors: str
    venue: str
    headline: str  # the document whose rows of ours stand in the project's README
    demo_data_sets: tuple[str, ...]  # on which the demo runs without SCOPE=all
    real_data_cost: RealDataCost
    documents: tuple[Document, ...]

    @model_validator(mode="after")
    def _names_exist(self) -> "Paper":
        if self.headline not in (document.id for document in self.documents):
            raise ValueError(f"headline: there is no document '{self.headline}'")
        used = {dataset for document in self.documents for _, dataset in document.runs()}
        for dataset in (*self.demo_data_sets, *sorted(used)):
            if dataset not in READERS:
                raise ValueError(f"there is no data set '{dataset}'{nearest(dataset, READERS)}")
        return self

    def document(self, name: str) -> Document:
        return next(document for document in self.documents if document.id == name)


def known_papers() -> list[str]:
    return sorted(file.stem for file in SPECS.glob("*.yaml"))


def load_spec(paper: str, folder: Path = SPECS) -> Paper:
    """The validated `<folder>/<paper>.yaml`. Raises UserError naming the place of an unknown key or a wrong value."""
    file = folder / f"{paper}.yaml"
    if not file.is_file():
        raise UserError(f"no paper '{paper}'{nearest(paper, known_papers())}. Known: {', '.join(known_papers())}")
    try:
        return Paper.model_validate(read_yaml(file))
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()]
        raise UserError(f"{file.name}: " + "\n       ".join(lines)) from None


def value_of(record: dict[str, Any], column: Column, row: Row) -> float | None:
    """The row's number in a column, as the record has it; None where there is none."""
    return look_up(record, column.value.format_map(defaultdict(str, row.fill)))


def look_up(record: dict[str, Any], path: str) -> float | None:
    """The number at a dotted path of a record, None where there is none."""
    value: Any = record
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value
