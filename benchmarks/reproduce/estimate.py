"""The time that a plan takes: from finished runs of the paper here, from its published records and this machine's speed
beside theirs, or from a short probe of its networks."""

import functools
import statistics
from collections import Counter
from collections.abc import Sequence

from common.paper import images_per_epoch, load_paper, training_cost
from common.runs import Run
from common.runs.record import Record
from common.runs.settings import settings_hash

from .plan import Plan, PlannedRun
from .probe import embedding_rate, training_rate

LEAST_SECONDS = 8.0  # of any run, mostly starting, reading and decoding; a colour histogram or a count needs no more
PROBED_TRAININGS = 3  # at most, until one answers


def estimate(plan: Plan, records: Sequence[Record], published: Sequence[Record] = ()) -> None:
    """Fill in each run's seconds.

    records: of the paper's runs on this machine; published: committed ones, whichever machine they ran on.
    """
    trained = [planned for planned in plan.to_do if planned.run is not None]
    probed = Probed(trained)
    slowdown = Slowdown(probed, records, published)
    for planned in trained:
        planned.seconds = LEAST_SECONDS + training_seconds(planned, records, probed, slowdown)
    for planned in plan.to_do:
        if planned.run is None:
            planned.seconds = program_seconds(planned, records, published, slowdown.factor if trained else None)


def training_seconds(planned: PlannedRun, records: Sequence[Record], probed: "Probed", slowdown: "Slowdown") -> float:
    """Of training and scoring: at the speed of the variant's own runs here, as long as its published record times the
    slowdown, at the speed of the paper's other runs here, or as probed."""
    run, paper = planned.run, load_paper(planned.run.paper)
    rate = measured_rate(run, [record for record in records if record.variant == run.variant])
    twin = twin_of(run, slowdown.published)
    if rate is None and twin and slowdown.factor:
        epochs_left = planned.images / images_per_epoch(paper, run)
        seconds = twin.seconds["train"] * epochs_left / twin.num_epochs if twin.num_epochs else 0.0
        return slowdown.factor * (seconds + twin.seconds["evaluate"])
    rate, cost = rate or measured_rate(run, records), training_cost(paper)
    if rate is None:
        cost, rate = probed.cost, probed.embedding_rate(run) / probed.cost
    return planned.images / rate + planned.evaluated / (cost * rate)


def twin_of(run: Run, published: Sequence[Record]) -> Record | None:
    """The first published record of the run's row, on the same data with the same settings, of any seed."""
    asked = run.variant, run.dataset.name, run.dataset.kind, settings_hash(run.settings)
    return next((one for one in published if asked == (one.variant, one.dataset, one.kind, one.config_hash)), None)


class Slowdown:
    """How many times as long as their published records runs take here. None where there is nothing to tell by.

    published: those of trainings on such data, on the machine and in the precision that most of them have.
    """

    def __init__(self, probed: "Probed", records: Sequence[Record], published: Sequence[Record]):
        self.probed, self.records = probed, records
        kinds = {planned.run.dataset.kind for planned in probed.trained}
        trainings = [record for record in published if record.kind in kinds and "train" in record.seconds]
        usual = Counter(map(_machine, trainings)).most_common(1)
        self.published = [record for record in trainings if _machine(record) == usual[0][0]]

    @functools.cached_property
    def factor(self) -> float | None:
        """From finished runs, else from the probed training's own record."""
        by_run = {(record.run, record.config_hash): record for record in self.published}
        asked = {(planned.run.device.type, planned.run.precision) for planned in self.probed.trained}
        ratios = [
            record.seconds["train"] / twin.seconds["train"]
            for record in self.records
            if (record.machine.device, record.machine.precision) in asked
            and (twin := by_run.get((record.run, record.config_hash)))
            and _trained(record, twin)
        ]
        return statistics.median(ratios) if ratios else self._probed()

    def _probed(self) -> float | None:
        if not any(twin_of(planned.run, self.published) for planned in self.probed.trained):
            return None
        planned, rate = self.probed.training
        twin = planned and twin_of(planned.run, self.published)
        return first_rate(twin) / rate if twin and twin.log and twin.images_per_second else None


def _machine(record: Record) -> tuple[str, str]:
    return record.machine.gpu or record.machine.cpu, record.machine.precision


def _trained(*records: Record) -> bool:
    return all(record.seconds.get("train") for record in records)


def first_rate(record: Record) -> float:
    """Training images per second in the first phase of a record's log, which is what a probe sees: later ones may cost
    more. Without phases, in all of it."""
    taken = [entry["seconds"] for entry in record.log]
    first = [entry["seconds"] for entry in record.log if entry.get("phase") == record.log[0].get("phase")]
    return record.images_per_second * statistics.mean(taken) / statistics.mean(first)


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
    def training(self) -> tuple[PlannedRun | None, float]:
        """The first run that can be trained now, and its images per second; (None, 0) where none can."""
        for planned in [planned for planned in self.trained if planned.images][:PROBED_TRAININGS]:
            if rate := training_rate(planned):
                return planned, rate
        return None, 0.0

    @property
    def cost(self) -> float:
        """Time to train on one image over the time to embed it, of the run that was trained; the paper's constant where
        none could be."""
        planned, rate = self.training
        if planned is None:
            return training_cost(load_paper(self.trained[0].run.paper))
        return self.embedding_rate(planned.run) / rate


def program_seconds(
    planned: PlannedRun, records: Sequence[Record], published: Sequence[Record] = (), slowdown: float | None = None
) -> float:
    """The time of the program's record here, else of its published one, times the slowdown if it is known."""
    for factor, found in ((1.0, records), (slowdown or 1.0, published)):
        for record in found:
            if record.run == planned.name:
                return max(factor * record.total_seconds, LEAST_SECONDS)
    return LEAST_SECONDS


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
