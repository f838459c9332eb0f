"""The result record, `result.json`: written by every finished run or program, read by every table."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from common.datasets.base import DataSet, synthetic_mark
from common.errors import UserError
from common.files import read_json, write_text
from common.paths import runs_folder

from .provenance import describe_machine, source_commit
from .source import source_hash


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


class Data(Strict):
    """The data set: a fingerprint of its images, and its counts."""

    name: str
    kind: str
    fingerprint: str
    counts: dict[str, dict[str, int]]  # subset -> images, identities, cameras
    notes: tuple[str, ...] = ()
    generator_version: int | None = None  # of synthetic images

    @classmethod
    def of(cls, dataset: DataSet) -> "Data":
        return cls(
            name=dataset.name,
            kind=dataset.kind,
            fingerprint=dataset.fingerprint,
            counts=dataset.counts,
            notes=dataset.notes,
            generator_version=synthetic_mark(dataset.folder).get("generator_version"),
        )


class Machine(Strict):
    device: str
    gpu: str | None
    cpu: str
    cores: int | None
    precision: str
    torch: str
    python: str
    processes: int = 1


class Record(Strict):
    """One run's result. Scores are fractions, sizes are counts, times are in seconds."""

    paper: str
    run: str  # the directory's name
    dataset: str
    kind: str  # real | demo | full
    variant: str  # the run's label (run_label), or the program's name where nothing was trained
    seed: int
    scores: dict[str, Any]  # numbers by name, nested as in the tables' paths
    num_epochs: int
    config: dict[str, Any]
    config_hash: str | None = None  # of settings that come from config.yaml
    unmodified_config: bool = True
    source_hash: str
    weights: str | None = None  # pretrained.weights_hash of those that the run started from
    data: Data
    model: dict[str, int] = {}  # num_parameters, macs
    seconds: dict[str, float]  # train, evaluate
    images_per_second: float | None = None  # of training
    machine: Machine
    commit: str | None
    uncommitted_changes: bool | None
    finished: str  # UTC
    log: tuple[dict[str, Any], ...] = ()  # one entry per epoch

    @property
    def total_seconds(self) -> float:
        return sum(self.seconds.values())


def read_record(file: Path) -> Record | None:
    """The record in a file, None where there is no file. UserError: the file is not a record."""
    content = read_json(file)
    if content is None:
        return None
    try:
        return Record.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc'])) or 'all'}: {p['msg']}" for p in error.errors()[:3])
        raise UserError(f"{file} is not a result record ({problems}): remove it, or restore it") from None


def write_record(directory: Path, **fields: Any) -> Record:
    """Write and return the record of what has just finished in `directory`."""
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    record = Record(run=directory.name, finished=finished, **source_commit(), **fields)
    directory.mkdir(parents=True, exist_ok=True)
    write_text(directory / "result.json", record.model_dump_json(indent=1))
    return record


def program_directory(paper: str, program: str, dataset: DataSet) -> Path:
    return runs_folder() / paper / f"{dataset.name}-{dataset.kind}-{program}-s0"


def write_program_record(
    paper: str,
    program: str,
    dataset: DataSet,
    *,
    scores: dict[str, Any],
    settings: dict[str, Any],
    started: float,
    module: str | None = None,
    config_hash: str | None = None,
    device: torch.device | str = "cpu",
    precision: str = "fp32",
) -> Path:
    """Write the record of a program that trains nothing (counts, a colour histogram, a latency). Returns its path.

    scores: the results; settings: what they were computed with; started: time.monotonic() at the start; module: the one
    that ran, default `<paper>.<program>`; config_hash: of settings that come from config.yaml.
    """
    directory = program_directory(paper, program, dataset)
    write_record(
        directory,
        paper=paper,
        dataset=dataset.name,
        kind=dataset.kind,
        variant=program,
        seed=0,
        scores=scores,
        num_epochs=0,
        config=settings,
        config_hash=config_hash,
        source_hash=source_hash(module or f"{paper}.{program}"),
        data=Data.of(dataset),
        seconds={"evaluate": round(time.monotonic() - started, 1)},
        machine=Machine(**describe_machine(torch.device(device), precision)),
    )
    return directory / "result.json"
