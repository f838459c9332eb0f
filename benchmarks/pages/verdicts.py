"""Whether a claim holds on the data of some records: differences paired by seed, and optima of sweeps."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from scipy.stats import t as student

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"

CONFIDENCE = 0.95
FEWEST_SEEDS = 3  # of an interval: the scores are counts of people, and two of them may agree by chance
COST_TOLERANCE = 0.05  # of the larger printed figure

RULES = (
    "**Differences** are taken seed by seed. `+1.2 [-0.3, +2.7] (n=3)` is their mean over three seeds and its "
    f"{100 * CONFIDENCE:.0f} % interval (Student's t). A claim holds if the interval lies on the side of zero that the "
    "paper reports, it does not hold if it lies on the other side, and it is undecided if it contains zero: only "
    "the sign counts, not how large the reported difference is. With fewer than three seeds there is no interval, and "
    "the claim is undecided: two scores may agree by chance. Nothing corrects for the number of claims: of forty "
    "differences that are zero in truth, about one holds and one does not.",
    "**Optima** of sweeps are held against the pooled noise: s² is the mean of the sample variances over seeds, of the "
    "sweep's rows and of the ablation's on the same data, weighted by their degrees of freedom. The paper's optimum is "
    "compared with each other row; the margin is t s √(1/n₁ + 1/n₂), where t is Student's at "
    f"{100 * CONFIDENCE:.0f} % over all these comparisons (Bonferroni). The claim holds if the paper's optimum is more "
    "than the margin above every other row, it does not hold if some row is more than the margin above it, and it is "
    "undecided otherwise. `best at 2, 0.26 above 8 (margin 2.63)`: of the rows that were run, the best, and how far it "
    "is above the paper's optimum, or the paper's optimum above the next. Where all points come from one trained "
    "network, as with different weights of its features at test time, they are compared seed by seed instead.",
    "**Costs** (parameters, multiply-accumulates) need no training. A printed difference *agrees* if the one that we "
    f"compute, for networks of the paper's size, equals it to within {100 * COST_TOLERANCE:.0f} % of the larger of the "
    "paper's two figures, and *differs* otherwise. A network that we do not have counts with its printed figure.",
    "**Stale** runs, made before the code, the settings or the starting weights changed, are shown but decide nothing.",
)


@dataclass(frozen=True)
class Difference:
    """half: half of the interval's width; None with fewer than FEWEST_SEEDS values."""

    mean: float
    half: float | None
    count: int

    @property
    def interval(self) -> tuple[float, float] | None:
        return None if self.half is None else (self.mean - self.half, self.mean + self.half)


def mean_difference(values: Sequence[float], comparisons: int = 1) -> Difference:
    """The mean of at least one difference and its interval, at CONFIDENCE over so many comparisons (Bonferroni)."""
    mean, count = statistics.fmean(values), len(values)
    if count < FEWEST_SEEDS:
        return Difference(mean, None, count)
    half = quantile(count - 1, comparisons) * statistics.stdev(values) / math.sqrt(count)
    return Difference(mean, half, count)


def quantile(freedom: int, comparisons: int = 1) -> float:
    """Student's t, two-sided."""
    return float(student.ppf(1 - (1 - CONFIDENCE) / (2 * comparisons), freedom))


def paired(row: Mapping, over: Mapping) -> list[float]:
    """{seed: value} of two rows -> the differences for the seeds that both have."""
    return [row[seed] - over[seed] for seed in sorted(set(row) & set(over))]


def verdict(difference: Difference | None, sign: float) -> str:
    """sign: of the reported difference."""
    if difference is None or difference.half is None:
        return UNDECIDED
    low, high = difference.interval
    if low <= 0 <= high:
        return UNDECIDED
    return HOLDS if (low > 0) == (sign > 0) else FAILS


class Noise(NamedTuple):
    """deviation: s; freedom: its degrees of freedom, the sum of n - 1."""

    deviation: float
    freedom: int

    def margin(self, one: int, other: int, comparisons: int = 1) -> float:
        """Half of the interval of a difference between two rows' means over so many seeds: t s sqrt(1/n + 1/m)."""
        return quantile(self.freedom, comparisons) * self.deviation * math.sqrt(1 / one + 1 / other)


def pooled_noise(rows: Sequence[Sequence[float]]) -> Noise | None:
    """Of rows with one value a seed; None if no row has two. s weighs each row with its degrees of freedom."""
    return pooled((len(values), statistics.stdev(values)) for values in rows if len(values) > 1)


def pooled(deviations: Iterable[tuple[int, float]]) -> Noise | None:
    """Of rows' numbers of values and sample standard deviations: sqrt(sum (n - 1) deviation^2 / sum (n - 1))."""
    spread = [(count - 1, deviation) for count, deviation in deviations]
    freedom = sum(degrees for degrees, _ in spread)
    if not spread:
        return None
    return Noise(math.sqrt(sum(degrees * deviation**2 for degrees, deviation in spread) / freedom), freedom)


def lead(best: Sequence[float], other: Sequence[float], noise: Noise | None, comparisons: int) -> Difference:
    """The mean of one row over that of another, with the pooled noise's interval."""
    mean = statistics.fmean(best) - statistics.fmean(other)
    if noise is None:
        return Difference(mean, None, len(best))
    return Difference(mean, noise.margin(len(best), len(other), comparisons), len(best))


def verdict_of_optimum(leads: Sequence[Difference], *, complete: bool) -> str:
    """leads: of the paper's optimum over each other row that was run; complete: whether all rows were run."""
    if any(verdict(difference, 1) == FAILS for difference in leads):
        return FAILS
    if complete and leads and all(verdict(difference, 1) == HOLDS for difference in leads):
        return HOLDS
    return UNDECIDED


def verdict_of_cost(computed: float, reported: float, largest: float) -> str:
    """largest: the larger of the two figures that the paper prints."""
    return HOLDS if abs(computed - reported) <= COST_TOLERANCE * largest else FAILS
