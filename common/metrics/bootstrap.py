"""How much scores depend on which people are tested."""

import numpy as np

DRAWS = 1000


def standard_errors(values: np.ndarray, persons: np.ndarray, *, draws: int = DRAWS) -> np.ndarray:
    """Standard errors of the means over queries, by a bootstrap that resamples people: (n,).

    values: (V, n) scores of the queries; persons: (V,) whom each query shows. A person's queries are alike, so they are
    drawn together; resampling single queries would understate the error. The same input always gives the same output.
    """
    person = np.unique(persons, return_inverse=True)[1]
    counts = np.bincount(person)
    sums = np.stack([np.bincount(person, column) for column in np.asarray(values, np.float64).T], axis=1)
    generator = np.random.default_rng(0)
    times = generator.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=draws)  # (draws, persons)
    means = (times @ sums) / (times @ counts)[:, None]
    return means.std(axis=0, ddof=1)
