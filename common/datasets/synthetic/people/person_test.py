import numpy as np

from common.datasets.synthetic.people.palettes import LOWER_COLOURS, UPPER_COLOURS
from common.datasets.synthetic.people.person import identity, sample_person


def test_an_identity_keeps_its_attributes_and_other_seeds_give_others():
    assert identity(0, 5) == identity(0, 5)
    assert identity(0, 5) != identity(1, 5)


def test_few_colours_dress_most_people():
    rng = np.random.default_rng(0)
    people = [sample_person(rng) for _ in range(600)]
    uppers = [person.upper_colour for person in people]
    assert np.mean([colour in ("white", "black", "gray", "blue") for colour in uppers]) > 0.65
    assert set(uppers) <= set(UPPER_COLOURS) and "none" in uppers
    assert {person.lower_colour for person in people} <= set(LOWER_COLOURS)
    for attribute in ("backpack", "bag", "handbag", "hat"):
        share = np.mean([getattr(person, attribute) != "none" for person in people])
        assert 0.03 < share < 0.5, attribute
