"""The time that a plan takes, from finished runs of the paper or from a short probe of its network."""

import time
from collections.abc import Mapping, Sequence

import torch

from common.errors import UserError
from common.paper import load_paper, training_cost
from common.runs import Run
from common.runs.record import Record

from .plan import Plan, PlannedRun

LEAST_SECONDS = 8.0  # of any run, mostly starting, reading and decoding; a colour histogram or a count needs no more
PROBE_IMAGES = 32  # per batch


def estimate(plan: Plan, records: Sequence[Record], published: Sequence[Record] = ()) -> None:
    """Fill in each run's seconds.

    records: of the paper's runs on this machine; published: committed ones, for programs that cannot be probed.
    """
    for planned in plan.to_do:
        if planned.run is None:
            planned.seconds = program_seconds(planned, [*records, *published])
    trained = [planned for planned in plan.to_do if planned.run is not None]
    probed: dict[str, float] = {}
    for planned in trained:
        run, cost = planned.run, training_cost(load_paper(planned.run.paper))
        own = [record for record in records if record.variant == run.variant]
        rate = measured_rate(run, own) or measured_rate(run, records)
        if rate is None:
            if run.variant not in probed:
                probed[run.variant] = embedding_rate(run) or min(probed.values(), default=1.0)
            rate = probed[run.variant] / cost
        planned.seconds = LEAST_SECONDS + planned.images / rate + planned.evaluated / (cost * rate)


def program_seconds(planned: PlannedRun, records: Sequence[Record]) -> float:
    """The time of the program's first record, on whichever machine it ran."""
    taken = [record.total_seconds for record in records if record.run == planned.name]
    return max(taken[0], LEAST_SECONDS) if taken else LEAST_SECONDS


def measured_rate(run: Run, records: Sequence[Record]) -> float | None:
    """Training images per second: the slowest finished run with this run's input size, device and precision."""
    asked = run.settings.height, run.settings.width, run.device.type, run.precision
    rates = [
        record.images_per_second
        for record in records
        if record.images_per_second
        and asked == (record.config["height"], record.config["width"], record.machine.device, record.machine.precision)
    ]
    return min(rates) if rates else None


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


def duration_text(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
