"""The bookkeeping of a training loop: mean loss terms and whether they are finite, progress, log and checkpoints."""

import json
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from tqdm import tqdm

from common import distributed
from common.errors import UserError
from common.files import write_text

from .checkpoints import newest_checkpoint, write_checkpoint
from .run import Run

CHECKPOINT_SHARE = 0.05  # of the time of training, that writing checkpoints may take where their interval is `auto`


class Meter:
    """Call `update` after every step and `finish_epoch` after every epoch, then `close`.

    num_epochs: in all; images_per_epoch: for the progress bar; last_epoch: the last finished epoch.
    observers: for measurements of whole trainings from outside (benchmarks/gpu); no paper knows of them. Each is called
    after a step, as observer(meter, terms, num_images), and may end the training with an exception.
    """

    observers: ClassVar[list[Callable[["Meter", dict[str, float], int], None]]] = []

    def __init__(self, run: Run, num_epochs: int, images_per_epoch: int, *, last_epoch: int = 0):
        self.run = run
        self.epoch = last_epoch + 1  # the current one
        self.progress = tqdm(
            initial=last_epoch * images_per_epoch,
            total=num_epochs * images_per_epoch,
            desc=f"{run.variant} s{run.seed}",
            unit="image",
            disable=None if distributed.is_main() else True,
        )
        self.num_epochs = num_epochs
        self.written, self.write_seconds = time.monotonic(), 0.0  # when the last checkpoint was, and what it took
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        self.sums: dict[str, float] = defaultdict(float)
        self.num_steps = self.num_images = 0
        self.started = time.monotonic()

    def update(self, terms: Mapping[str, Tensor], num_images: int) -> None:
        """Count a step. UserError: a loss term is not finite. The last checkpoint remains valid.

        terms: this process's scalars; `loss` is the one that is minimised. num_images: of this process's batch.
        """
        values = torch.stack([term.detach() for term in terms.values()]).tolist()  # the only device sync of a step
        found = dict(zip(terms, values, strict=True))
        self._check_finite(found)
        for name, value in found.items():
            self.sums[name] += value
        self.num_steps += 1
        self.num_images += distributed.world_size() * num_images
        self.progress.update(distributed.world_size() * num_images)
        self.progress.set_postfix(epoch=self.epoch, loss=f"{found['loss']:.3f}", refresh=False)
        for observer in self.observers:
            observer(self, found, num_images)

    def _check_finite(self, terms: dict[str, float]) -> None:
        if not all(math.isfinite(value) for value in terms.values()):
            file = newest_checkpoint(self.run.directory)
            kept = f"the last good checkpoint is {file}" if file else "no epoch was finished"
            raise UserError(
                f"the loss is not finite in epoch {self.epoch}, step {self.num_steps}: "
                f"{', '.join(f'{name} {value}' for name, value in terms.items())}; {kept}. "
                "Try --set precision=fp32 or a lower learning rate"
            )

    def finish_epoch(
        self, parts: Mapping[str, Any], watched: Mapping[str, float] | None = None, **entry: float
    ) -> None:
        """Log the epoch's means and, where one is due, write a checkpoint; the one before is kept as previous.pth.

        parts: the objects whose state_dict is saved (model, optimiser, scaler); entry: more values to log and print;
        watched: values that are only logged.
        """
        run, history = self.run, self.run.history
        distributed.share_buffers(*parts.values())
        means = {name: distributed.mean(total / self.num_steps, run.device) for name, total in self.sums.items()}
        entry = means | entry
        seconds = time.monotonic() - self.started
        history.train_seconds += seconds
        history.trained_images += self.num_images
        history.log.append({"epoch": self.epoch, **entry, **(watched or {}), "seconds": round(seconds, 2)})
        if distributed.is_main():
            if self._checkpoint_is_due():
                self._write_checkpoint(parts)
            write_text(run.directory / "log.jsonl", "".join(json.dumps(line) + "\n" for line in history.log))
            if not sys.stderr.isatty():
                terms = "  ".join(f"{name} {value:.4g}" for name, value in entry.items())
                line = f"{run.variant} s{run.seed}  epoch {self.epoch}  {terms}  {seconds:.0f} s"
                print(line, file=sys.stderr, flush=True)
        distributed.barrier()
        self.epoch += 1
        self._begin_epoch()

    def _checkpoint_is_due(self) -> bool:
        """After every `checkpoint_epochs` and after the last; `auto`: as often as takes at most 5 % of the time."""
        interval = getattr(self.run.settings, "checkpoint_epochs", "auto")
        if interval != "auto":
            return self.epoch % interval == 0 or self.epoch == self.num_epochs
        rare_enough = self.write_seconds <= CHECKPOINT_SHARE * (time.monotonic() - self.written)
        return rare_enough or self.epoch == self.num_epochs

    def _write_checkpoint(self, parts: Mapping[str, Any]) -> None:
        run, started = self.run, time.monotonic()
        states = {name: part.state_dict() for name, part in parts.items()}
        about = {"identity": run.identity(), "epoch": self.epoch, "precision": run.precision}
        write_checkpoint(run.directory, {**states, **about, **vars(run.history)})
        self.written = time.monotonic()
        self.write_seconds = self.written - started
        run.history.train_seconds += self.write_seconds

    def close(self) -> None:
        """End the training; time from here on counts as evaluation."""
        self.progress.close()
        self.run.training_ended = time.monotonic()
