"""Result records of what is no training run: counting a data set, a colour histogram, a paper's latency."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from common.datasets.base import DataSet
from common.provenance import describe_machine, source_commit, source_hash
from common.runs import runs_folder, write_text


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
    device: torch.device | str = "cpu",
    precision: str = "fp32",
) -> Path:
    """Write `result.json` in the format of a training run's, and return its path.

    scores: what was found, numbers by name, nested as the tables' paths have them; settings: what it was found with;
    started: time.monotonic() at the beginning.
    """
    directory = program_directory(paper, program, dataset)
    record = {
        "paper": paper,
        "run": directory.name,
        "dataset": dataset.name,
        "kind": dataset.kind,
        "variant": program,
        "seed": 0,
        "scores": scores,
        "num_epochs": 0,
        "config": settings,
        "unmodified_config": True,
        "source_hash": source_hash(paper),
        "data": {
            "name": dataset.name,
            "kind": dataset.kind,
            "fingerprint": dataset.fingerprint,
            "counts": dataset.counts,
            "notes": list(dataset.notes),
        },
        "model": {},
        "seconds": {"evaluate": round(time.monotonic() - started, 1)},
        "machine": describe_machine(torch.device(device), precision),
        **source_commit(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "log": [],
    }
    directory.mkdir(parents=True, exist_ok=True)
    write_text(directory / "result.json", json.dumps(record, indent=1))
    return directory / "result.json"
