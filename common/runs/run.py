"""A training run: what is trained, on which device, and in which directory.

`runs/<paper>/<dataset>-<kind>-<variant>-s<seed>/` holds `run.json` (its identity), the resolved `config.yaml`,
`log.jsonl` (one line per epoch), `last.pth` and `previous.pth`, `curves.png` and, when finished, `result.json`.
"""

import json
import shutil
import signal
import sys
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from common import augment, devices, distributed
from common.datasets.base import DataSet
from common.errors import UserError
from common.files import read_json, write_text
from common.visualize.curves import training_curves

from .checkpoints import newest_checkpoint, read_checkpoint
from .lock import hold
from .provenance import describe_machine
from .record import Data, Machine, Record, read_record, write_record
from .settings import settings_dict, settings_hash
from .source import source_hash

MIXED_SOURCE = "mixed"  # in a record whose epochs were trained by more than one source: stale at once
SHOWN = {"mAP": "mAP", "rank1": "Rank-1"}  # when a run ends


@dataclass
class History:
    """The progress of a run; saved in its checkpoints."""

    log: list[dict] = field(default_factory=list)  # one entry per epoch
    train_seconds: float = 0.0
    trained_images: int = 0
    mixed_source: bool = False  # the source changed while the run was interrupted

    def images_per_second(self) -> float | None:
        """Of training, without the first epoch of several, in which images are decoded and kernels chosen; epochs are
        of about the same size."""
        later = [entry["seconds"] for entry in self.log[1:] if "seconds" in entry]
        images, seconds = self.trained_images, self.train_seconds
        if sum(later):
            images, seconds = images * len(later) / len(self.log), sum(later)
        return round(images / seconds, 1) if seconds else None


@dataclass
class Run:
    """One training run of one paper. variant: its name with the overrides, see `run_label`."""

    paper: str
    dataset: DataSet
    variant: str
    settings: Any
    seed: int
    device: torch.device
    directory: Path
    overridden: bool = False  # settings other than config.yaml's and the variant's
    resume: bool = False
    force: bool = False
    program: str = "train"  # the module of the paper's folder that trains it
    weights: str | None = None  # pretrained.weights_hash of those that it starts from
    history: History = field(default_factory=History)
    training_ended: float = field(default_factory=time.monotonic)

    # ---------------------------------------------------------------- how it is computed

    @property
    def precision(self) -> str:
        """bf16, fp16 or fp32."""
        return devices.select_precision(self.settings.precision, self.device)

    def autocast(self) -> torch.autocast:
        return devices.autocast(self.device, self.precision)

    def gradient_scaler(self) -> torch.amp.GradScaler:
        """Loss scaling, which only fp16 needs; does nothing otherwise."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    @property
    def fused(self) -> bool:
        """Whether optimisers take one kernel for all weights, as GPUs need it."""
        return self.device.type == "cuda"

    def to_device(self, values: Tensor | np.ndarray) -> Tensor:
        """A CPU tensor or array on the run's device, copied without waiting."""
        return devices.to_device(values, self.device)

    def seed_epoch(self, epoch: int) -> None:
        """Seed torch's generator (epoch 0: initialisation; later: dropout): a resumed epoch is bitwise identical."""
        rank = distributed.rank() if epoch else 0  # all processes start with the same weights
        sequence = np.random.SeedSequence([self.seed, epoch], spawn_key=(rank,) if rank else ())
        torch.manual_seed(int(sequence.generate_state(1)[0]))

    def batch_generator(self, epoch: int, step: int, *, shared: bool = False) -> torch.Generator:
        """The generator of a step's augmentation. shared: the same in all processes, else one for each."""
        # No process has rank world_size, so the shared draws differ from those of every process.
        rank = distributed.world_size() if shared else distributed.rank()
        return augment.batch_generator(self.seed, epoch, step, rank)

    # ---------------------------------------------------------------- the directory

    @cached_property
    def _source_hash(self) -> str:
        return source_hash(f"{self.paper}.{self.program}")  # cached: edits while the run trains do not count

    def identity(self) -> dict:
        """What identifies a run: results may be reused if all of it is equal."""
        return {
            "paper": self.paper,
            "config_hash": settings_hash(self.settings),
            "data_fingerprint": self.dataset.fingerprint,
            "seed": self.seed,
            "source_hash": self._source_hash,
        } | ({"weights": self.weights} if self.weights else {})

    def state(self) -> str:
        """`new`, `interrupted`, `finished`, `stale` (finished with other source code or from other starting weights)
        or `different` (another run)."""
        there = read_json(self.directory / "run.json")
        if there is None:
            return "new"
        asked = self.identity()
        changed = {key for key in asked if there.get(key) != asked[key]} - {"source_hash"}
        if changed - {"weights"}:
            return "different"
        record = read_record(self.directory / "result.json")
        if record is None:
            return "different" if changed else "interrupted"
        return "finished" if record.source_hash == asked["source_hash"] and not changed else "stale"

    def begin(self) -> None:
        """Create the directory, or resume in it, and keep other processes out of it until this one ends.

        UserError: it holds a run that would be overwritten, or another process trains in it.
        """
        if distributed.is_main():
            hold(self.directory, "wait until it has ended, or stop it; nothing was changed")
        distributed.barrier()
        state = self.state()
        distributed.barrier()  # every process has read the state before one changes it
        if self.force and state != "new":
            if distributed.is_main():
                shutil.rmtree(self.directory)
        elif state == "different":
            raise UserError(
                f"{self.directory} holds a run of another paper, config, seed or data set, or from other starting "
                "weights: name another --run-dir, or replace it with --force"
            )
        elif state in ("finished", "stale"):
            print(f"{self.directory} is finished already (--force trains it again)", file=sys.stderr)
            raise SystemExit(0)
        elif state == "interrupted" and not self.resume:
            raise UserError(
                f"{self.directory} holds an interrupted run: add --resume, or --force to start from scratch"
            )
        if distributed.is_main():
            self._write_settings()
        distributed.barrier()
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop as on Ctrl-C

    def _write_settings(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"the run directory {self.directory} cannot be written: {error}") from None
        found = {"dataset": self.dataset.name, "data_folder": str(self.dataset.folder), "variant": self.variant}
        write_text(self.directory / "run.json", json.dumps(self.identity() | found, indent=1))
        write_text(self.directory / "config.yaml", yaml.safe_dump(settings_dict(self.settings), sort_keys=False))

    def restore(self, **parts: Any) -> int:
        """Load the last checkpoint into the given parts (model, optimiser, scaler); returns its epoch, 0 if none."""
        file = newest_checkpoint(self.directory)
        if file is None:
            return 0
        # The source may have changed since: a long run can go on, but no source has its result.
        identity = {key: value for key, value in self.identity().items() if key != "source_hash"}
        checkpoint = read_checkpoint(file, identity)
        if "scaler" in parts and checkpoint["precision"] != self.precision:
            raise UserError(
                f"{self.directory} was trained in {checkpoint['precision']}, and precision: {self.settings.precision} "
                f"is {self.precision} on this device. Resume it on a device like the first one, or start from scratch "
                "with --force"
            )
        for name, part in parts.items():
            part.load_state_dict(checkpoint[name])
        mixed = checkpoint.get("mixed_source") or checkpoint["identity"]["source_hash"] != self._source_hash
        self.history = History(checkpoint["log"], checkpoint["train_seconds"], checkpoint["trained_images"], mixed)
        return checkpoint["epoch"]

    def restore_trained(self, **parts: Any) -> int:
        """As `restore`, for a trained run. UserError: no epoch is finished."""
        epoch = self.restore(**parts)
        if epoch == 0:
            raise UserError(f"{self.directory} has no checkpoint: no epoch was finished there")
        return epoch

    def finish(self, scores: dict[str, Any], model_size: dict[str, int]) -> None:
        """Write the result record and the training curves.

        scores: fractions, of the last epoch's weights; model_size: num_parameters and macs.
        """
        evaluate_seconds = time.monotonic() - self.training_ended
        if distributed.is_main():
            if self.history.log:
                training_curves(self.history.log, self.directory / "curves.png")
            self._write_record(scores, model_size, evaluate_seconds)
            found = [f"{title} {scores[name]:.1%}{_error(scores, name)}" for name, title in SHOWN.items()]
            print(f"{self.directory.name}: {'  '.join(found)}  ({self.directory})")
        distributed.barrier()

    def _write_record(self, scores: dict[str, Any], model_size: dict[str, int], evaluate_seconds: float) -> Record:
        seconds = self.history.train_seconds
        return write_record(
            self.directory,
            paper=self.paper,
            dataset=self.dataset.name,
            kind=self.dataset.kind,
            variant=self.variant,
            seed=self.seed,
            scores=scores,
            num_epochs=self.settings.num_epochs,
            config=settings_dict(self.settings),
            config_hash=settings_hash(self.settings),
            unmodified_config=not self.overridden,
            source_hash=MIXED_SOURCE if self.history.mixed_source else self._source_hash,
            weights=self.weights,
            data=Data.of(self.dataset),
            model=model_size,
            seconds={"train": round(seconds, 1), "evaluate": round(evaluate_seconds, 1)},
            images_per_second=self.history.images_per_second(),
            machine=Machine(**describe_machine(self.device, self.precision, distributed.world_size())),
            log=tuple(self.history.log),
        )


def _error(scores: dict[str, Any], name: str) -> str:
    return f" (se {scores[f'{name}_error']:.1%})" if f"{name}_error" in scores else ""
