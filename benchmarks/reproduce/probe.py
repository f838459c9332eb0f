"""This machine's speed at a paper's runs before any has finished: a few real steps, and batches through networks."""

import contextlib
import gc
import io
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from benchmarks.observe import Enough, runs_in, train_observed
from common.errors import UserError
from common.paper import load_paper
from common.runs import Meter, Run

from .plan import PlannedRun

PROBE_IMAGES = 32  # of a batch that is only embedded
WARM_UP_STEPS = 2  # torch takes its memory in the first ones
SECONDS = 6.0  # of training; shorter ones see a machine's first, faster moments
LEAST_STEPS = 2
MOST_STEPS = 100  # of a fast device, whose whole demo takes seconds


class Steps:
    """An observer: images per second from the end of the warm-up on. One of another run than asked for ends it."""

    def __init__(self, variant: str):
        self.variant = variant
        self.num_steps = self.images = 0
        self.begun = self.seconds = 0.0

    def __call__(self, meter: Meter, terms: dict[str, float], num_images: int) -> None:
        now = time.monotonic()
        if meter.run.variant != self.variant:
            raise Enough
        self.num_steps += 1
        if self.num_steps == WARM_UP_STEPS:
            self.begun = now
        elif self.num_steps > WARM_UP_STEPS:
            self.images += num_images
            self.seconds = now - self.begun
            enough = self.seconds >= SECONDS and self.num_steps >= WARM_UP_STEPS + LEAST_STEPS
            if enough or self.num_steps >= MOST_STEPS:
                raise Enough

    @property
    def rate(self) -> float | None:
        return self.images / self.seconds if self.seconds else None


def training_rate(planned: PlannedRun) -> float | None:
    """Images per second of a planned run's training, its data path included; the steps leave nothing. None if it cannot
    be trained yet, or if another one comes before its own."""
    run = planned.run
    words = [word for word in planned.arguments if word not in ("--resume", "--force")]
    steps = Steps(run.variant)
    with tempfile.TemporaryDirectory() as folder, runs_in(Path(folder)), silence():
        try:
            train_observed(load_paper(run.paper), words, steps)
        except UserError:
            return None
        finally:
            gc.collect()
            torch.cuda.empty_cache()  # this process waits for the runs, which need the memory
    return steps.rate


@torch.inference_mode()
def embedding_rate(run: Run, *, batches: int = 3) -> float | None:
    """Images per second that the run's network embeds, after one warm-up batch; None if it needs more input than
    images."""
    loaded = load_paper(run.paper).evaluate.network_of(run).ready()
    embed = next(iter(loaded.embed.values())) if isinstance(loaded.embed, Mapping) else loaded.embed
    images = torch.zeros(PROBE_IMAGES, 3, run.settings.height, run.settings.width, dtype=torch.uint8)
    try:
        embed(images).cpu()
    except UserError:
        return None
    started = time.monotonic()
    for _ in range(batches):
        embed(images).cpu()  # waits for the device
    return batches * PROBE_IMAGES / (time.monotonic() - started)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """What is printed meanwhile is not shown."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
