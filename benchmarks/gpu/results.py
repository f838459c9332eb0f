"""What `make gpu` has measured: `runs/gpu/<GPU>.json`, written after every measurement, from which it resumes."""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from common.errors import UserError
from common.files import read_json, write_text
from common.paths import REPOSITORY, data_folder, runs_folder

LONGEST_MESSAGE = 300  # characters


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")


class Entry(Strict):
    """One measurement. identity: what it depends on; error: why there is no result."""

    identity: dict[str, Any]
    finished: str  # UTC
    seconds: float  # that the measurement took
    result: dict[str, Any] = {}
    error: str = ""


class Results(Strict):
    """machine: GPU, driver, CPU, versions. entries: {part: {measurement: {paper: Entry}}}"""

    machine: dict[str, Any]
    commit: str | None = None
    uncommitted_changes: bool | None = None
    entries: dict[str, dict[str, dict[str, Entry]]] = {}

    def entry(self, part: str, what: str, paper: str) -> Entry | None:
        return self.entries.get(part, {}).get(what, {}).get(paper)

    def keys(self) -> Iterator[tuple[str, str, str]]:
        for part, measurements in self.entries.items():
            for what, papers in measurements.items():
                for paper in papers:
                    yield part, what, paper

    def add(self, part: str, what: str, paper: str, entry: Entry) -> None:
        self.entries.setdefault(part, {}).setdefault(what, {})[paper] = entry

    def remove(self, part: str, what: str, paper: str) -> None:
        del self.entries[part][what][paper]

    def write(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, self.model_dump_json(indent=1) + "\n")


def read_results(file: Path) -> Results | None:
    """None where there is no file. UserError: it is not one of ours."""
    content = read_json(file)
    try:
        return None if content is None else Results.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{file} is not a result of make gpu ({error.errors()[0]['msg']}): move it away") from None


def slug(name: str) -> str:
    """NVIDIA H100 80GB HBM3 -> nvidia-h100-80gb-hbm3"""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def message_of(error: Exception) -> str:
    """An error in one line that names no folder of this machine."""
    first = next((line.strip() for line in str(error).split("\n") if line.strip()), "")
    places = {runs_folder(): "runs", data_folder(): "data", REPOSITORY: ".", Path.home(): "~"}
    for folder, name in (places | {Path(tempfile.gettempdir()): "tmp"}).items():
        first = first.replace(str(folder), name)
    return f"{type(error).__name__}: {first}"[:LONGEST_MESSAGE]
