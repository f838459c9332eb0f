"""The bookkeeping of a training run: its directory, settings, checkpoints, log and result record.

`runs/<paper>/<dataset>-<kind>-<variant>-s<seed>/` holds `run.json` (what is run), the resolved `config.yaml`,
`log.jsonl` (a line an epoch), `last.pth` and `previous.pth`, `curves.png` and, when finished, `result.json`. Files are
written to a temporary name and renamed, so that an interruption leaves the old one.
"""

import argparse
import json
import math
import os
import shutil
import signal
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from tqdm import tqdm

from common import config as configuration
from common import distributed, hardware
from common.checkpoints import newest_checkpoint, read_checkpoint, write_checkpoint
from common.command_line import find_data_root
from common.datasets import READERS, open_dataset
from common.datasets.base import DataSet
from common.errors import UserError
from common.provenance import REPOSITORY, describe_machine, paper_folder, source_commit, source_hash
from common.visualize import training_curves


@dataclass
class Run:
    """One training run of one paper: what the command line asked for, and the directory where it is kept."""

    paper: str
    dataset: DataSet
    variant: str
    config: Any
    seed: int
    device: torch.device
    directory: Path
    overridden: bool = False
    log: list[dict] = field(default_factory=list)
    train_seconds: float = 0.0
    trained_images: int = 0
    _epoch_started: float = 0.0

    @classmethod
    def from_arguments(cls, paper: str, schema: type, arguments: argparse.Namespace) -> "Run":
        """The run that a paper's command line asks for; writes nothing but synthetic data that are missing.

        paper: the package that holds train.py, config.yaml and demo.yaml; schema: its settings' dataclass; arguments:
        those of `command_line(paper)`.
        """
        overrides = configuration.parse_overrides(arguments.set)
        config = configuration.load_config(
            schema,
            paper_folder(paper),
            dataset=arguments.dataset,
            demo=arguments.demo,
            variant=arguments.variant,
            overrides=overrides,
        )
        device = distributed.initialise(hardware.select_device(arguments.device))
        size = "demo" if arguments.demo else "full"
        with distributed.main_process_first():  # it may have to draw the data
            dataset = open_dataset(arguments.dataset, find_data_root(arguments), size=size)
        demo_settings_elsewhere = ["+demo"] if arguments.demo and dataset.kind != "demo" else []
        label = "".join(
            [arguments.variant, *demo_settings_elsewhere, *(f"+{key}={overrides[key]}" for key in sorted(overrides))]
        ).replace("/", "_")
        name = f"{dataset.name}-{dataset.kind}-{label}-s{arguments.seed}"
        directory = arguments.run_dir or runs_folder() / paper / name
        overridden = bool(overrides) or bool(demo_settings_elsewhere)
        return cls(paper, dataset, label, config, arguments.seed, device, Path(directory), overridden)

    @classmethod
    def from_directory(cls, paper: str, schema: type, directory: Path, device: str = "auto") -> "Run":
        """The run that a directory holds, with the settings and the data set that it was begun with."""
        identity = read_json(directory / "run.json")
        if identity is None:
            raise UserError(f"{directory} is not a run directory: it has no run.json")
        if identity["paper"] != paper:
            raise UserError(f"{directory} holds a run of {identity['paper']}, not of {paper}")
        config = configuration.load_resolved(schema, directory / "config.yaml")
        dataset = READERS[identity["dataset"]].read(Path(identity["data_folder"]), identity["dataset"])
        variant, seed = identity["variant"], identity["seed"]
        return cls(paper, dataset, variant, config, seed, hardware.select_device(device), directory)

    @property
    def precision(self) -> str:
        """bf16, fp16 or fp32."""
        return hardware.select_precision(self.config.precision, self.device)

    def autocast(self) -> torch.autocast:
        return hardware.autocast(self.device, self.precision)

    def gradient_scaler(self) -> torch.amp.GradScaler:
        """Loss scaling, which only fp16 needs; does nothing otherwise."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    # ---------------------------------------------------------------- state

    @cached_property
    def _source_hash(self) -> str:
        # Of the source that this process runs, not of what it becomes while the run goes on.
        return source_hash(self.paper)

    def identity(self) -> dict:
        """What makes two runs the same: results may be reused when all of it is equal."""
        return {
            "paper": self.paper,
            "config_hash": configuration.config_hash(self.config),
            "data_fingerprint": self.dataset.fingerprint,
            "seed": self.seed,
            "source_hash": self._source_hash,
        }

    def state(self) -> str:
        """`new`, `interrupted`, `finished`, `stale` (finished by other source code) or `different` (another run's)."""
        there = read_json(self.directory / "run.json")
        if there is None:
            return "new"
        asked = self.identity()
        if any(there.get(key) != asked[key] for key in asked if key != "source_hash"):
            return "different"
        result = read_json(self.directory / "result.json")
        if result is None:
            return "interrupted"
        return "finished" if result["source_hash"] == asked["source_hash"] else "stale"

    def begin(self, *, resume: bool, force: bool) -> None:
        """Take the directory: make it, or go on in it. Raises UserError rather than overwrite what is there."""
        state = self.state()
        distributed.barrier()  # all have looked before one changes what is there
        if force and state != "new":
            if distributed.is_main():
                shutil.rmtree(self.directory)
        elif state == "different":
            raise UserError(
                f"{self.directory} holds a run of another paper, config, seed or data set: name another --run-dir, "
                "or replace it with --force"
            )
        elif state in ("finished", "stale"):
            print(f"{self.directory} is finished already (--force trains it again)", file=sys.stderr)
            raise SystemExit(0)
        elif state == "interrupted" and not resume:
            raise UserError(
                f"{self.directory} holds an interrupted run: go on with --resume, or start anew with --force"
            )
        if distributed.is_main():
            self._write_settings()
        distributed.barrier()
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # both stop as Ctrl-C does

    def _write_settings(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            found = {"dataset": self.dataset.name, "data_folder": str(self.dataset.folder), "variant": self.variant}
            write_text(self.directory / "run.json", json.dumps(self.identity() | found, indent=1))
            settings = yaml.safe_dump(configuration.config_dict(self.config), sort_keys=False)
            write_text(self.directory / "config.yaml", settings)
        except OSError as error:
            raise UserError(f"the run directory {self.directory} cannot be written: {error}") from None

    # ---------------------------------------------------------------- training

    def restore(self, **parts: Any) -> int:
        """Load the last checkpoint into the given parts (model, optimiser, scaler); returns its epoch, 0 if none."""
        file = newest_checkpoint(self.directory)
        if file is None:
            return 0
        # The source may have changed since: the record says which source finished the run.
        identity = {key: value for key, value in self.identity().items() if key != "source_hash"}
        checkpoint = read_checkpoint(file, identity)
        for name, part in parts.items():
            part.load_state_dict(checkpoint[name])
        self.log = checkpoint["log"]
        self.train_seconds, self.trained_images = checkpoint["train_seconds"], checkpoint["trained_images"]
        return checkpoint["epoch"]

    def restore_trained(self, **parts: Any) -> int:
        """As `restore`, of a run that has been trained. UserError where no epoch is finished."""
        epoch = self.restore(**parts)
        if epoch == 0:
            raise UserError(f"{self.directory} has no checkpoint: no epoch was finished there")
        return epoch

    def seed_epoch(self, epoch: int) -> None:
        """Seed torch's global generator (epoch 0: initialisation; later: dropout), so that a resumed epoch is equal."""
        rank = distributed.rank() if epoch else 0  # all processes begin with the same weights
        sequence = np.random.SeedSequence([self.seed, epoch], spawn_key=(rank,) if rank else ())
        torch.manual_seed(int(sequence.generate_state(1)[0]))

    def progress(self, epoch: int, num_epochs: int) -> tqdm:
        """A bar over all images of all epochs, with the time left."""
        size = len(self.dataset.train)
        bar = tqdm(
            initial=epoch * size,
            total=num_epochs * size,
            desc=f"{self.variant} s{self.seed}",
            unit="image",
            disable=None if distributed.is_main() else True,
        )
        self._epoch_started = time.monotonic()
        return bar

    def check_finite(self, terms: dict[str, float], epoch: int, step: int) -> None:
        """Stop the run when a loss term is NaN or infinite."""
        if not all(math.isfinite(value) for value in terms.values()):
            file = newest_checkpoint(self.directory)
            kept = f"the last good checkpoint is {file}" if file else "no epoch was finished before"
            raise UserError(
                f"the loss is not finite in epoch {epoch}, step {step}: "
                f"{', '.join(f'{name} {value}' for name, value in terms.items())}; {kept}. "
                "Try --set precision=fp32 or a lower learning rate"
            )

    def finish_epoch(self, epoch: int, entry: dict[str, float], num_images: int, **parts: Any) -> None:
        """Log an epoch and write its checkpoint; the one before stays as previous.pth.

        entry: this process's mean loss terms; num_images: trained on by all processes together.
        """
        entry = {name: distributed.mean(value, self.device) for name, value in entry.items()}
        seconds = time.monotonic() - self._epoch_started
        self.train_seconds += seconds
        self.trained_images += num_images
        self.log.append({"epoch": epoch, **entry, "seconds": round(seconds, 2)})
        if distributed.is_main():
            self._write_epoch(epoch, entry, seconds, parts)
        distributed.barrier()
        self._epoch_started = time.monotonic()

    def _write_epoch(self, epoch: int, entry: dict[str, float], seconds: float, parts: dict[str, Any]) -> None:
        checkpoint = {
            **{name: part.state_dict() for name, part in parts.items()},
            "identity": self.identity(),
            "epoch": epoch,
            "log": self.log,
            "train_seconds": self.train_seconds,
            "trained_images": self.trained_images,
        }
        write_checkpoint(self.directory, checkpoint)
        write_text(self.directory / "log.jsonl", "".join(json.dumps(line) + "\n" for line in self.log))
        if not sys.stderr.isatty():
            terms = "  ".join(f"{name} {value:.4g}" for name, value in entry.items())
            print(f"{self.variant} s{self.seed}  epoch {epoch}  {terms}  {seconds:.0f} s", file=sys.stderr, flush=True)

    def finish(self, scores: dict[str, float], evaluate_seconds: float, model: dict[str, int]) -> dict:
        """Write the result record and the training curves; returns the record.

        scores: fractions, of the last epoch's weights; model: num_parameters and macs.
        """
        record = {
            "paper": self.paper,
            "run": self.directory.name,
            "dataset": self.dataset.name,
            "kind": self.dataset.kind,
            "variant": self.variant,
            "seed": self.seed,
            "scores": scores,
            "num_epochs": self.config.num_epochs,
            "config": configuration.config_dict(self.config),
            "config_hash": configuration.config_hash(self.config),
            "unmodified_config": not self.overridden,
            "source_hash": self._source_hash,
            "data": {
                "name": self.dataset.name,
                "kind": self.dataset.kind,
                "fingerprint": self.dataset.fingerprint,
                "counts": self.dataset.counts,
                "notes": list(self.dataset.notes),
            },
            "model": model,
            "seconds": {"train": round(self.train_seconds, 1), "evaluate": round(evaluate_seconds, 1)},
            "images_per_second": round(self.trained_images / self.train_seconds, 1) if self.train_seconds else None,
            "machine": describe_machine(self.device, self.precision) | {"processes": distributed.world_size()},
            **source_commit(),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "log": self.log,
        }
        if distributed.is_main():
            if self.log:
                training_curves(self.log, self.directory / "curves.png")
            write_text(self.directory / "result.json", json.dumps(record, indent=1))
            print(f"{self.directory.name}: mAP {scores['mAP']:.1%}  Rank-1 {scores['rank1']:.1%}  ({self.directory})")
        distributed.barrier()
        return record


def runs_folder() -> Path:
    """`runs` in the repository, or the folder that REID_RUNS names."""
    return Path(os.environ.get("REID_RUNS", REPOSITORY / "runs"))


def read_json(file: Path) -> dict | None:
    """A JSON file's contents, None where there is no file."""
    try:
        return json.loads(file.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except json.JSONDecodeError as error:
        raise UserError(f"{file} is not valid JSON ({error}): remove its folder, or restore the file") from None


def write_text(file: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    partial = file.with_name(file.name + ".partial")
    try:
        partial.write_text(text)
        partial.replace(file)
    except OSError as error:  # a full disk, most likely
        raise UserError(f"{file} cannot be written: {error}. Free some space and go on with --resume") from None
