"""Seeds: which people, places and cameras a drawn data set has.

The same seed draws other people for each data set: a method trained on the drawn Market-1501 and tried on the drawn
DukeMTMC-reID must not meet anyone it knows. Market-1501 takes the seed as it is; any other data set adds its number
as a second 32-bit word. The numbers begin above all kinds of choices, so that no two generators agree.
"""

import numpy as np

# Never renumber: the pictures of a data set depend on its number.
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

# First number after the seed of every generator, so that no two kinds of choices share random numbers.
PERSON, TRACK, FRAME, PLACE, PASSER, SPECTRUM, SCENE_SPECTRUM, PHOTOGRAPH = range(8)
PLAN = 100  # the plan's, apart from the renderer's


def people_seed(like: str, seed: int) -> int:
    """The seed of everything in the data set drawn like `like`, from the seed that was asked for."""
    return seed + (_NUMBERS[like] << 32)


def generator(*numbers: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(numbers))
