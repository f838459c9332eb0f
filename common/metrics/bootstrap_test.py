"""The bootstrap against the textbook's formulas, and against the same written out draw by draw."""

import numpy as np
import pytest

from common.metrics import rank_matches, standard_errors


def test_with_one_query_a_person_it_is_the_standard_error_of_the_mean():
    values = np.random.default_rng(0).normal(size=(400, 2)) * (1.0, 5.0)
    found = standard_errors(values, np.arange(400), draws=4000)
    np.testing.assert_allclose(found, values.std(0, ddof=1) / 20, rtol=0.05)


def test_repeated_queries_of_a_person_say_nothing_new():
    values = np.random.default_rng(1).normal(size=(100, 1))
    alone = standard_errors(values, np.arange(100))
    repeated = standard_errors(np.repeat(values, 3, axis=0), np.repeat(np.arange(100), 3))
    np.testing.assert_allclose(repeated, alone, rtol=1e-9)


def test_it_equals_resampling_people_one_by_one():
    rng = np.random.default_rng(2)
    persons = rng.integers(0, 30, 120) * 7 - 40
    values = rng.random((120, 1)) + 0.05 * persons[:, None]
    means = []
    for _ in range(4000):
        drawn = rng.choice(np.unique(persons), len(np.unique(persons)))
        means.append(np.concatenate([values[persons == person, 0] for person in drawn]).mean())
    assert standard_errors(values, persons, draws=4000)[0] == pytest.approx(np.std(means, ddof=1), rel=0.05)


def test_the_values_of_single_queries_are_in_the_order_of_their_persons():
    # Person 5 has no match; person 3 finds its match second, person 4 first.
    distances = np.array([[0.1, 0.2, 0.3], [0.3, 0.1, 0.2], [0.1, 0.3, 0.2]])
    matches = rank_matches(distances, [5, 3, 4], [4, 9, 3], [0, 0, 0], [1, 1, 1])
    assert matches.persons.tolist() == [3, 4]
    assert matches.average_precisions().tolist() == [1 / 2, 1]
    assert matches.inverse_penalties().tolist() == [1 / 2, 1]
