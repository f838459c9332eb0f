"""A paper that is measured on a device, used through common/paper.py only: its command lines, and its training observed
step by step."""

import functools
import gc
import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.observe import Observer, train_observed
from benchmarks.spec import PaperSpec, RunSpec, load_spec
from common.datasets import open_dataset, synthetic_folder
from common.errors import UserError
from common.paper import Paper, load_paper
from common.paths import package_folder
from common.runs import Run, open_run
from common.runs.settings import load_settings, settings_hash

spec_of = functools.cache(load_spec)

SCRATCH = {"pretrained": "none"}  # at the paper's own settings: ImageNet weights change no speed


class OutOfTime(Exception):
    """Raised by an observer: the part's time is over. What is resumable resumes."""


@dataclass(frozen=True)
class Scale:
    """How much is measured. The defaults are those of `make gpu`; tests take less.

    data: {size: folder of data sets}, default the synthetic ones, generated where they are missing.
    """

    steps: int = 20  # whose losses are compared
    images: int = 64  # whose features are compared
    warm_up: int = 10  # steps before speed is measured
    seconds: float = 4.0  # of a measurement of speed
    data: dict[str, Path] = field(default_factory=dict)
    set: dict[str, Any] = field(default_factory=dict)  # settings of all runs


@dataclass(frozen=True)
class Subject:
    """folder: for runs that resume; deadline: of the part, in time.monotonic()."""

    spec: PaperSpec
    device: torch.device
    folder: Path
    scale: Scale = Scale()
    deadline: float = math.inf

    @property
    def paper(self) -> Paper:
        return load_paper(self.spec.paper)

    @property
    def dataset(self) -> str:
        return self.spec.demo_data_sets[0]

    @property
    def headline(self) -> RunSpec:
        """The run of the paper's own method: `full`, else the last, of its headline table. UserError: there is none."""
        document = self.spec.document(self.spec.headline)
        runs = [row.run for row, _ in document.runs() if row.run.trains and row.fits("demo")]
        if not runs:
            raise UserError(f"{self.spec.paper}: {document.name} has no run that trains")
        return next((run for run in runs if run.label == "full"), runs[-1])

    def words(self, *, demo: bool, size: str = "demo", device: str = "", **settings: Any) -> list[str]:
        """The command line of train.py. demo: the demo's settings, else the paper's; size: of the images; settings:
        further ones to change."""
        root = self.scale.data.get(size)
        if root is None:
            open_dataset(self.dataset, size=size)  # generates it where it is missing
            root = synthetic_folder(self.dataset, size).parent
        words = [*(["--demo"] if demo else []), "--dataset", self.dataset, "--data-root", str(root)]
        words += ["--variant", self.headline.variant, "--device", device or str(self.device)]
        settings = self.headline.set | settings | self.scale.set
        return [*words, "--set", *(f"{key}={json.dumps(value)}" for key, value in settings.items())]

    def run(self, words: list[str]) -> Run:
        """The run of a command line; nothing is trained."""
        return open_run(self.spec.paper, self.paper.settings.Settings, words)

    def settings_hashes(self) -> list[str]:
        """Of the demo's settings and the paper's own ones."""
        changed = self.headline.set | self.spec.on_gpu.set | self.scale.set
        return [
            settings_hash(
                load_settings(
                    self.paper.settings.Settings,
                    package_folder(self.spec.paper),
                    dataset=self.dataset,
                    demo=demo,
                    variant=self.headline.variant,
                    overrides=changed,
                )
            )
            for demo in (True, False)
        ]

    def train(self, words: list[str], observer: Observer = lambda *_: None) -> None:
        """Run train.py in this process until it ends or the observer raises Enough. UserError: what it reported."""
        train_observed(self.paper, words, observer)

    def check_time(self, *_: Any) -> None:
        """An observer that ends the training at the part's deadline."""
        if time.monotonic() > self.deadline:
            raise OutOfTime


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def free_memory() -> None:
    """Of what the measurement before has left."""
    gc.collect()
    torch.cuda.empty_cache()


def reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: torch.device) -> int | None:
    """Of tensors since `reset_peak`; None without a GPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
