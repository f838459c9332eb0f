"""A paper's programs besides train.py, such as latency.py: their command line and their result record."""

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common import devices
from common.datasets.arguments import add_dataset_arguments, dataset_of
from common.datasets.base import DataSet
from common.paths import package_folder

from .record import write_program_record
from .settings import Schema, load_settings


@dataclass(frozen=True)
class Program:
    """`python -m <paper>.<name>`, started. arguments: its whole command line; started: time.monotonic()."""

    paper: str
    name: str
    arguments: argparse.Namespace
    dataset: DataSet
    device: torch.device
    started: float

    @classmethod
    def open(cls, paper: str, name: str, argv: list[str] | None, *, description: str, **numbers: int) -> "Program":
        """The program that a command line describes; a synthetic data set is generated if it is missing.

        argv: default sys.argv; numbers: further integer options with their defaults, such as num_epochs=6.
        """
        parser = argparse.ArgumentParser(prog=f"python -m {paper}.{name}", description=description)
        add_dataset_arguments(parser)
        for option, default in numbers.items():
            parser.add_argument("--" + option.replace("_", "-"), type=int, default=default, help=f"default: {default}")
        arguments = parser.parse_args(argv)
        started = time.monotonic()
        return cls(paper, name, arguments, dataset_of(arguments), devices.select_device(arguments.device), started)

    def settings(
        self,
        schema: type[Schema],
        variant: str,
        *,
        demo: bool | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> Schema:
        """A variant's settings for the data set, as in `load_settings`. demo: default that of the command line."""
        return load_settings(
            schema,
            package_folder(self.paper),
            dataset=self.dataset.name,
            demo=self.arguments.demo if demo is None else demo,
            variant=variant,
            overrides=overrides or {},
        )

    def precision(self, setting: str = "auto") -> str:
        """bf16, fp16 or fp32."""
        return devices.select_precision(setting, self.device)

    def autocast(self, setting: str = "auto") -> torch.autocast:
        return devices.autocast(self.device, self.precision(setting))

    def write_record(self, scores: dict[str, Any], settings: dict[str, Any]) -> Path:
        """Write the result record and return its path. settings: what the scores were computed with."""
        return write_program_record(
            self.paper,
            self.name,
            self.dataset,
            scores=scores,
            settings=settings,
            started=self.started,
            device=self.device,
            precision=self.precision(),
        )
