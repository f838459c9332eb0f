"""The bookkeeping of a training loop: mean loss terms and whether they are finite, progress, log and checkpoints."""

import json
import math
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from common import distributed
from common.errors import UserError
from common.files import write_text

from .checkpoints import newest_checkpoint, write_checkpoint
from .run import Run


class Meter:
    """Call `update` after every step and `finish_epoch` after every epoch, then `close`.

    num_epochs, images_per_epoch: for the progress bar; last_epoch: the last finished epoch.
    """

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

    def _check_finite(self, terms: dict[str, float]) -> None:
        if not all(math.isfinite(value) for value in terms.values()):
            file = newest_checkpoint(self.run.directory)
            kept = f"the last good checkpoint is {file}" if file else "no epoch was finished"
            raise UserError(
                f"the loss is not finite in epoch {self.epoch}, step {self.num_steps}: "
                f"{', '.join(f'{name} {value}' for name, value in terms.items())}; {kept}. "
                "Try --set precision=fp32 or a lower learning rate"
            )

    def finish_epoch(self, parts: Mapping[str, Any], **entry: float) -> None:
        """Log the epoch's means and write its checkpoint; the one before is kept as previous.pth.

        parts: the objects whose state_dict is saved (model, optimiser, scaler); entry: more values to log.
        """
        run, history = self.run, self.run.history
        means = {name: distributed.mean(total / self.num_steps, run.device) for name, total in self.sums.items()}
        entry = means | entry
        seconds = time.monotonic() - self.started
        history.train_seconds += seconds
        history.trained_images += self.num_images
        history.log.append({"epoch": self.epoch, **entry, "seconds": round(seconds, 2)})
        if distributed.is_main():
            states = {name: part.state_dict() for name, part in parts.items()}
            checkpoint = {**states, "identity": run.identity(), "epoch": self.epoch}
            checkpoint |= {"precision": run.precision, **vars(history)}
            write_checkpoint(run.directory, checkpoint)
            write_text(run.directory / "log.jsonl", "".join(json.dumps(line) + "\n" for line in history.log))
            if not sys.stderr.isatty():
                terms = "  ".join(f"{name} {value:.4g}" for name, value in entry.items())
                line = f"{run.variant} s{run.seed}  epoch {self.epoch}  {terms}  {seconds:.0f} s"
                print(line, file=sys.stderr, flush=True)
        distributed.barrier()
        self.epoch += 1
        self._begin_epoch()

    def close(self) -> None:
        """End the training; time from here on counts as evaluation."""
        self.progress.close()
        self.run.training_ended = time.monotonic()
