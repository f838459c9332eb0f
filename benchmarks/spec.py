"""The format of `specs/<paper>.yaml`: every table and figure of a paper, and the runs that reproduce our rows.

A paper has documents; a document has columns and rows (a `figure` is drawn by `<paper>/figures.py`); a row has the
reported number of each column and, if it is ours, the run that reproduces it. A column gives the path of its value in a
run's record (`scores.mAP`, `model.macs`), so scores, counts and costs are all handled alike. Columns with a `group` (a
data set, a search mode) are rendered as one table per group. The record's numbers are fractions, counts and seconds; a
column's unit converts them.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from common.datasets import READERS
from common.errors import UserError, did_you_mean
from common.files import read_yaml
from common.runs.record import Record
from common.runs.settings import run_label

from .claims import Claim, check_claims
from .decisions import Decisions, Scalar, with_checked_decisions
from .records import look_up

SPECS = Path(__file__).parent / "specs"

BASELINES = ("counts", "colour_histogram", "balanced_histogram")  # programs that use no paper's code
BASELINES_MODULE = "benchmarks.reproduce.baselines"

# unit -> (factor from a record's number to the printed one, decimals)
UNITS = {"%": (100, 1), "count": (1, 0), "year": (1, 0), "nats": (1, 2)}
UNITS |= {"M": (1e-6, 2), "G": (1e-9, 2), "min": (1 / 60, 1), "px": (1, 1)}


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RunSpec(Strict):
    """The run behind a row. program: `train`, the paper's train.py; one of BASELINES; or another module of the paper's
    folder, run as `python -m <paper>.<program> --dataset NAME [--demo] --device NAME`."""

    program: str = "train"
    dataset: str | None = None  # default: the column's or the document's
    variant: str = "full"  # a section of `variants` in the paper's config.yaml
    set: dict[str, Scalar | list[Scalar]] = {}

    @property
    def label(self) -> str:
        """Its name in run directories and records."""
        return run_label(self.variant, self.set) if self.program == "train" else self.program

    def module(self, paper: str) -> str:
        return BASELINES_MODULE if self.program in BASELINES else f"{paper}.{self.program}"

    @property
    def trains(self) -> bool:
        """False also for an untrained network."""
        return self.program == "train" and self.set.get("num_epochs") != 0


class Column(Strict):
    id: str
    title: str
    unit: Literal[tuple(UNITS)]
    value: str | None = None  # dotted path in a record, {key} from the row's fill; None: reported only
    group: str | None = None
    dataset: str | None = None  # default: the document's
    decimals: Annotated[int, Field(ge=0)] | None = None  # as many as the paper prints; default: the unit's
    ordered: bool = True  # an ablation compares the order of its rows, and its main effects, in this column

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
    reported: dict[str, float] = {}  # column id -> number in the column's unit; without the paper's dashes
    run: RunSpec | None = None
    needs: dict[str, str] = {}  # settings without which a record is not of this row, as one of an earlier demo.yaml
    fill: dict[str, str] = {}  # what replaces {key} in the columns' values; nothing if absent
    not_on: dict[str, str] = {}  # data set -> why the row cannot be run on it, instead of a command
    only: Literal["demo", "paper"] | None = None  # the row is run only at demo size, or only at the paper's

    def fits(self, kind: str) -> bool:
        """Whether this row can be run on data of this kind (`demo`, `full`, `real`)."""
        return self.only is None or (self.only == "demo") == (kind == "demo")


class Document(Strict):
    """One table or figure."""

    id: str
    name: str
    kind: Literal["table", "counts", "matrix", "sweep", "curves", "figure", "decisions"] = "table"
    scope: Literal["headline", "all", "decisions"] = "headline"  # the narrowest scope that includes it
    caption: str
    dataset: str | None = None
    average_precision: Literal["step", "trapezoid", "interpolated"] | None = None  # the estimator of our mAP
    paper_estimator: str = "the paper does not name its own"
    x: str | None = None  # what a sweep varies; the rows' methods are its values
    terms: tuple[str, ...] = ("loss",)  # of the log, shown by curves
    columns: tuple[Column, ...] = ()
    rows: tuple[Row, ...]
    baselines: tuple[Row, ...] = ()  # our rows that the paper does not have
    ablation: bool = False  # ends with the agreement of our order of rows with the paper's
    factors: dict[str, tuple[str, ...]] = {}  # factor -> the methods that have it, of 2 ** factors rows: main effects
    footnotes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> "Document":
        known = [column.id for column in self.columns]
        for row in (*self.rows, *self.baselines):
            for key in row.reported:
                if key not in known:
                    raise ValueError(f"{self.id}, row '{row.method}': reported has no column '{key}'")
            if row.run and not (row.run.dataset or self.dataset or all(column.dataset for column in self.columns)):
                raise ValueError(f"{self.id}, row '{row.method}': its run has no dataset; name it in the document")
        if any(column.value == "scores.mAP" for column in self.columns) and self.average_precision is None:
            raise ValueError(f"{self.id}: a table with mAP needs an average_precision")
        if self.kind == "sweep" and self.x is None:
            raise ValueError(f"{self.id}: a sweep needs an x")
        return self

    def data_set_of(self, row: Row, column: Column | None = None) -> str:
        return row.run.dataset or (column.dataset if column else None) or self.dataset

    def runs(self) -> Iterator[tuple[Row, str]]:
        """Each of our rows with each data set on which it is run."""
        for row in (*self.rows, *self.baselines):
            if row.run:
                for dataset in dict.fromkeys(self.data_set_of(row, column) for column in self.columns or (None,)):
                    yield row, dataset

    def groups(self) -> list[str | None]:
        return list(dict.fromkeys(column.group for column in self.columns))


class RealDataCost(Strict):
    """Estimated cost of a run; `times` as much on some data sets, whose first run takes `gpu_hours_before` more."""

    gpu_hours_per_run: float = Field(gt=0)
    times: dict[str, float] = {}
    gpu_hours_before: dict[str, float] = {}
    disk_gb: float = Field(gt=0)
    disk_gb_of: dict[str, float] = {}
    disk_gb_per_run: float = Field(gt=0)


class OnGPU(Strict):
    """What `make gpu` must know. set: settings with which every step trains the final network, with no training before
    it; without_dropout: what turns dropout off; images_per_sample: 2 if batches count pairs; note: for the page."""

    set: dict[str, Any] = {}
    without_dropout: dict[str, Any] = {}
    images_per_sample: Annotated[int, Field(gt=0)] = 1
    note: str = ""


class PaperSpec(Strict):
    """One paper: its folder's name, its documents, and its name on the pages."""

    paper: str
    title: str
    documents: Annotated[tuple[Document, ...], Field(min_length=1)]
    short: str = ""  # the method's name on the pages; default: the folder's name
    authors: str = ""
    venue: str = ""
    target: str = ""  # of the Makefile, if it has one
    headline: str = ""  # the document whose rows the project's README shows; default: the first
    demo_data_sets: tuple[str, ...] = ()  # on which the demo runs without SCOPE=all; default: the first document's
    real_data_cost: RealDataCost | None = None
    on_gpu: OnGPU = OnGPU()
    claims: tuple[Claim, ...] = ()  # what the paper concludes from its numbers
    decisions: Decisions | None = None  # become the last document

    @model_validator(mode="before")
    @classmethod
    def _filled_in(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not values.get("documents"):
            return values
        first = values["documents"][0]
        defaults = {
            "short": values.get("paper"),
            "headline": first.get("id") if isinstance(first, dict) else None,
            "demo_data_sets": [first["dataset"]] if isinstance(first, dict) and "dataset" in first else [],
        }
        return {key: value for key, value in defaults.items() if value} | values

    @model_validator(mode="after")
    def _names_exist(self) -> "PaperSpec":
        if self.headline not in (document.id for document in self.documents):
            raise ValueError(f"headline: there is no document '{self.headline}'")
        used = {dataset for document in self.documents for _, dataset in document.runs()}
        for dataset in (*self.demo_data_sets, *sorted(used)):
            if dataset not in READERS:
                raise ValueError(f"there is no data set '{dataset}'{did_you_mean(dataset, READERS)}")
        check_claims(self)
        if self.decisions:
            more = Document.model_validate(self.decisions.document(self.documents))
            object.__setattr__(self, "documents", (*self.documents, more))
        ids = [document.id for document in self.documents]
        if twice := {name for name in ids if ids.count(name) > 1}:
            raise ValueError(f"several documents have the id {', '.join(sorted(twice))}")
        return self

    @property
    def command(self) -> str:
        """The command that reproduces it: `make reproduce-ndmf`, or `make reproduce PAPER=my_idea`."""
        return f"make {self.target}" if self.target else f"make reproduce PAPER={self.paper}"

    @property
    def citation(self) -> str:
        """Authors, title and venue as markdown."""
        authors = f"{self.authors}: " if self.authors else ""
        return f"{authors}*{self.title}*" + (f", {self.venue}" if self.venue else "")

    def document(self, name: str) -> Document:
        return next(document for document in self.documents if document.id == name)


def known_papers() -> list[str]:
    return sorted(file.stem for file in SPECS.glob("*.yaml"))


def load_spec(paper: str, folder: Path = SPECS) -> PaperSpec:
    """The validated `<folder>/<paper>.yaml`. UserError: an unknown key or a wrong value, with its place."""
    file = folder / f"{paper}.yaml"
    if not file.is_file():
        raise UserError(f"no paper '{paper}'{did_you_mean(paper, known_papers())}. Known: {', '.join(known_papers())}")
    try:
        return with_checked_decisions(PaperSpec.model_validate({"paper": paper} | read_yaml(file)))
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()]
        raise UserError(f"{file.name}: " + "\n       ".join(lines)) from None


def value_of(record: Record, column: Column, row: Row, ending: str = "") -> float | None:
    """The row's number in a column, in the record's unit; None if the record has none. ending: of the path."""
    return look_up(record, column.value.format_map(defaultdict(str, row.fill)) + ending)
