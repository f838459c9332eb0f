"""Intervals, optima and costs against values by hand. Student's t, two-sided 95 %: 12.706 (1 degree of freedom), 4.303
(2), 3.182 (3), 2.776 (4)."""

import math

import pytest

from benchmarks.pages.verdicts import (
    FAILS,
    HOLDS,
    UNDECIDED,
    Difference,
    Noise,
    lead,
    mean_difference,
    paired,
    pooled_noise,
    quantile,
    verdict,
    verdict_of_cost,
    verdict_of_optimum,
)


def test_the_interval_is_students():
    # 1, 2, 3: mean 2, s = 1, half = 4.303 / sqrt(3)
    found = mean_difference([1.0, 2.0, 3.0])
    assert (found.mean, found.count) == (2.0, 3)
    assert found.half == pytest.approx(4.303 / math.sqrt(3), rel=1e-3)
    assert found.interval == pytest.approx((-0.4843, 4.4843), abs=1e-3)
    assert mean_difference([1.0, 3.0]).interval is None  # too few
    # 0, 2, 2, 2, 4: mean 2, s = sqrt(8/4), half = 2.776 sqrt(2/5)
    assert mean_difference([0.0, 2.0, 2.0, 2.0, 4.0]).half == pytest.approx(2.776 * math.sqrt(0.4), rel=1e-3)


def test_the_quantile_is_shared_by_the_comparisons():
    assert quantile(2) == pytest.approx(4.3027, abs=1e-4)
    assert quantile(3, comparisons=5) == pytest.approx(5.8409, abs=1e-4)  # two-sided 99 %


@pytest.mark.parametrize(
    ("differences", "sign", "expected"),
    [
        ([1.0, 2.0, 3.0], 1, UNDECIDED),  # [-0.48, 4.48]
        ([2.0, 2.5, 3.0], 1, HOLDS),  # 2.5 -+ 4.303 * 0.5 / sqrt(3) = [1.26, 3.74]
        ([2.0, 2.5, 3.0], -1, FAILS),
        ([-2.0, -2.5, -3.0], 1, FAILS),
        ([-2.0, -2.5, -3.0], -0.63, HOLDS),
        ([5.0, 5.0], 1, UNDECIDED),  # two seeds may agree by chance
        ([50.0], 1, UNDECIDED),  # one seed has no interval
    ],
)
def test_a_claim_is_decided_where_the_interval_excludes_zero(differences, sign, expected):
    assert verdict(mean_difference(differences), sign) == expected


def test_nothing_is_decided_without_a_number():
    assert mean_difference([50.0]).interval is None
    assert verdict(None, 1) == UNDECIDED


def test_only_seeds_that_both_rows_have_are_paired():
    row, over = {("a", 0): 5.0, ("a", 1): 7.0, ("a", 2): 9.0}, {("a", 2): 8.0, ("a", 0): 3.0, ("b", 1): 0.0}
    assert paired(row, over) == [2.0, 1.0]


def test_the_pooled_noise_weighs_rows_with_their_degrees_of_freedom():
    # 1, 3: variance 2, one degree; 0, 0, 3: variance (1 + 1 + 4) / 2 = 3, two degrees; 9: none
    assert pooled_noise([[1.0, 3.0], [0.0, 0.0, 3.0], [9.0]]) == Noise(pytest.approx(math.sqrt((2 + 2 * 3) / 3)), 3)
    assert pooled_noise([[9.0], []]) is None


def test_a_lead_has_the_margin_of_the_pooled_noise():
    # s = 2 with 3 degrees: 3.182 * 2 * sqrt(1 + 1/4)
    found = lead([5.0], [1.0, 2.0, 2.0, 3.0], Noise(2.0, 3), comparisons=1)
    assert found.mean == 3.0 and found.half == pytest.approx(3.182 * 2 * math.sqrt(1.25), rel=1e-3)
    assert lead([5.0], [1.0], None, comparisons=1).half is None


LEADS = {"above": Difference(4.0, 3.0, 1), "near": Difference(1.0, 3.0, 1), "below": Difference(-4.0, 3.0, 1)}


@pytest.mark.parametrize(
    ("leads", "complete", "expected"),
    [
        (["above", "above"], True, HOLDS),
        (["above", "above"], False, UNDECIDED),  # a row that was not run may be above
        (["above", "near"], True, UNDECIDED),
        (["above", "near", "below"], True, FAILS),
        (["below"], False, FAILS),
        ([], True, UNDECIDED),
    ],
)
def test_an_optimum_is_decided_against_every_other_row(leads, complete, expected):
    assert verdict_of_optimum([LEADS[name] for name in leads], complete=complete) == expected


def test_an_optimum_without_noise_is_undecided():
    assert verdict_of_optimum([lead([5.0], [1.0], None, 1)], complete=True) == UNDECIDED


def test_a_cost_holds_within_five_per_cent_of_the_larger_figure():
    assert verdict_of_cost(4.84, 4.849, 15.15) == HOLDS
    assert verdict_of_cost(14.97, 2.97, 26.71) == FAILS  # 12 above; 5 % are 1.34
    assert verdict_of_cost(2.0, 1.0, 20.0) == HOLDS and verdict_of_cost(2.01, 1.0, 20.0) == FAILS
