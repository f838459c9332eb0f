"""Seeds: which people, places and cameras a synthetic data set has.

One seed gives every data set different people: a method trained on the synthetic Market-1501 and tested on the
synthetic DukeMTMC-reID must not meet identities that it has seen. Market-1501 uses the seed itself; any other data set
adds its number as a second 32-bit word. These numbers start above PLAN, so that no two random generators coincide.

The starting weights (benchmarks/start) are learned in worlds of their own, whose numbers no data set has: whoever
starts from them has met nobody and no place of any data set, of any size and seed.
"""

import numpy as np

# Never renumber: the images of a data set depend on its number.
_NUMBERS = {
    "market1501": 0,
    "dukemtmcreid": 1001,
    "msmt17": 1002,
    "cuhk03": 1003,
    "sysu_mm01": 1004,
    "regdb": 1005,
    "peta": 1006,
    "coco_keypoints": 1007,
}

START_WORLDS = range(2001, 2065)  # numbers of the starting weights' worlds, with seed 0
MAX_SEED = 2**32 - 1  # that a user may give: one word, so that it cannot reach into the numbers

# First number after the seed of every generator, so that no two kinds of choices share random numbers.
PERSON, TRACK, FRAME, PLACE, PASSER, SPECTRUM, SCENE_SPECTRUM, PHOTOGRAPH = range(8)
PLAN = 100  # for splits, apart from the numbers of the renderer


def people_seed(like: str, seed: int) -> int:
    """The seed of all choices in the synthetic data set `like`, from the seed that the user gave."""
    return seed + (_NUMBERS[like] << 32)


def start_seed(world: int) -> int:
    """The seed of all choices in a world of the starting weights, counted from 0. IndexError: there are no more."""
    return START_WORLDS[world] << 32


def generator(*numbers: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(numbers))
