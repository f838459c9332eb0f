"""The `decisions` of a spec: where the paper is silent or contradicts itself, our reading and the alternatives.

    decisions:
      noise: table5          # the document whose rows' spread over seeds is the noise of a difference
      columns: [mAP, rank1]  # its columns that are compared
      questions:
        - question: Triplet distance  # as the README of the paper's folder has it
          place: Sec. III-E.2, eq. 13
          reading: plain Euclidean
          ours: {triplet_squared: false}  # must be the default
          alternatives:
            - {reading: squared, set: {triplet_squared: true}}

They become a document of their own, whose rows are the full model and the full model with each alternative.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, model_validator

from common.errors import UserError, did_you_mean
from common.files import read_yaml
from common.paths import package_folder

DOCUMENT = "decisions"  # its id, kind and scope
VARIANT = "full"
OURS = "our reading"  # the first row

Scalar = str | int | float | bool
Values = Annotated[dict[str, Scalar | list[Scalar]], Field(min_length=1)]
Spec = TypeVar("Spec", bound=BaseModel)


class Alternative(BaseModel, extra="forbid", frozen=True):
    reading: str
    set: Values
    only: Literal["demo", "paper"] | None = None  # run only at demo size, or only at the paper's


class Decision(BaseModel, extra="forbid", frozen=True):
    """A row of the README's table of decisions, or a bullet of its notes."""

    question: str
    place: str  # in the paper
    reading: str  # ours
    ours: Values
    alternatives: Annotated[tuple[Alternative, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _alternatives_change_it(self) -> "Decision":
        for alternative in self.alternatives:
            for key in alternative.set:
                if key not in self.ours:
                    raise ValueError(f"'{alternative.reading}' sets {key}, whose value `ours` does not give")
        return self


class Decisions(BaseModel, extra="forbid", frozen=True):
    noise: str
    columns: Annotated[tuple[str, ...], Field(min_length=1)]
    questions: Annotated[tuple[Decision, ...], Field(min_length=1)]

    def cases(self) -> list[tuple[Decision, Alternative]]:
        return [(decision, alternative) for decision in self.questions for alternative in decision.alternatives]

    def document(self, documents: Sequence[Any]) -> dict[str, Any]:
        """The values of a spec.Document: our reading, then the cases in order. documents: those of the spec.
        ValueError: `noise` or `columns` name nothing there."""
        measured = next((document for document in documents if document.id == self.noise), None)
        if measured is None:
            raise ValueError(f"decisions: noise: there is no document '{self.noise}'")
        columns = {column.id: column for column in measured.columns}
        for name in self.columns:
            if name not in columns:
                near = did_you_mean(name, columns)
                raise ValueError(f"decisions: columns: {self.noise} has no column '{name}'{near}")
        rows = [
            {
                "method": f"{decision.question}: {alternative.reading}",
                "run": {"variant": VARIANT, "set": alternative.set},
                "only": alternative.only,
            }
            for decision, alternative in self.cases()
        ]
        return {
            "id": DOCUMENT,
            "name": "How much each decision matters",
            "kind": DOCUMENT,
            "scope": DOCUMENT,
            "caption": "The full model trained with another reading where the paper is silent, contradicts itself or "
            "was changed (ours).",
            "dataset": measured.dataset,
            "average_precision": measured.average_precision,
            "columns": [columns[name].model_copy(update={"group": None}) for name in self.columns],
            "rows": [{"method": OURS, "run": {"variant": VARIANT}}, *rows],
        }


def defaults(folder: Path, dataset: str | None, *, demo: bool) -> dict[str, Any]:
    """The settings of the full model as the YAML files of a paper's folder have them."""
    values = read_yaml(folder / "config.yaml")
    per_dataset, variants = values.pop("per_dataset", None) or {}, values.pop("variants", None) or {}
    own = read_yaml(folder / "demo.yaml") if demo else {}
    return values | (per_dataset.get(dataset) or {}) | own | (variants.get(VARIANT) or {})


def with_checked_decisions(spec: Spec) -> Spec:
    """The spec. UserError: what it calls our reading is not the default, or an alternative is none."""
    folder = package_folder(spec.paper)
    if spec.decisions is None or folder is None:
        return spec
    document = spec.document(DOCUMENT)
    dataset = document.data_set_of(document.rows[0], document.columns[0])
    found = {size: defaults(folder, dataset, demo=size == "demo") for size in ("paper", "demo")}
    for decision in spec.decisions.questions:
        for problem in _problems(decision, **found):
            raise UserError(f"{spec.paper}.yaml: decisions: {decision.question}: {problem}")
    return spec


def _problems(decision: Decision, paper: dict[str, Any], demo: dict[str, Any]) -> list[str]:
    """What is wrong with a decision, given the default settings at the paper's and at demo size."""
    found = []
    for key, value in decision.ours.items():
        if key not in paper:
            found.append(f"there is no setting {key}{did_you_mean(key, paper)}")
        elif paper[key] != value:
            found.append(f"ours is {key}: {value}, but config.yaml has {paper[key]}")
    for alternative in [] if found else decision.alternatives:
        changed = [key for key in alternative.set if demo[key] != paper[key]]
        if changed and alternative.only is None:
            found.append(f"demo.yaml changes {changed[0]}: '{alternative.reading}' needs `only: demo` or `only: paper`")
        size = demo if alternative.only == "demo" else paper
        if all(size[key] == value for key, value in alternative.set.items()):
            found.append(f"'{alternative.reading}' is what the full model has")
    return found
