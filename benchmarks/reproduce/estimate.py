"""The time that a plan takes, from finished runs of the paper or from a short probe of its networks."""

import functools
from collections.abc import Sequence

from common.paper import load_paper, training_cost
from common.runs import Run
from common.runs.record import Record

from .plan import Plan, PlannedRun
from .probe import embedding_rate, training_rate

LEAST_SECONDS = 8.0  # of any run, mostly starting, reading and decoding; a colour histogram or a count needs no more
PROBED_TRAININGS = 3  # at most, until one answers


def estimate(plan: Plan, records: Sequence[Record], published: Sequence[Record] = ()) -> None:
    """Fill in each run's seconds.

    records: of the paper's runs on this machine; published: committed ones, for programs that cannot be probed.
    """
    for planned in plan.to_do:
        if planned.run is None:
            planned.seconds = program_seconds(planned, [*records, *published])
    trained = [planned for planned in plan.to_do if planned.run is not None]
    probed = Probed(trained)
    for planned in trained:
        run, cost = planned.run, training_cost(load_paper(planned.run.paper))
        own = [record for record in records if record.variant == run.variant]
        rate = measured_rate(run, own) or measured_rate(run, records)
        if rate is None:
            cost, rate = probed.cost, probed.embedding_rate(run) / probed.cost
        planned.seconds = LEAST_SECONDS + planned.images / rate + planned.evaluated / (cost * rate)


class Probed:
    """What probes of a plan's runs have shown; each is made when it is first asked for."""

    def __init__(self, trained: Sequence[PlannedRun]):
        self.trained = trained
        self.rates: dict[str, float] = {}  # of embedding, by variant

    def embedding_rate(self, run: Run) -> float:
        """Images per second. A network that cannot be probed is taken to be as slow as the slowest other."""
        if run.variant not in self.rates:
            self.rates[run.variant] = embedding_rate(run) or min(self.rates.values(), default=1.0)
        return self.rates[run.variant]

    @functools.cached_property
    def cost(self) -> float:
        """Time to train on one image over the time to embed it, of the first run that can be trained now; the paper's
        constant where none can."""
        for planned in [planned for planned in self.trained if planned.images][:PROBED_TRAININGS]:
            if rate := training_rate(planned):
                return self.embedding_rate(planned.run) / rate
        return training_cost(load_paper(self.trained[0].run.paper))


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


def duration_text(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
