"""Writes identities' attributes as Market-1501's `market_attribute.mat`, MATLAB nesting and quirks included."""

import io
from pathlib import Path

import numpy as np
import scipy.io

from common.datasets.attributes import AGES, LOWER_COLOURS, UPPER_COLOURS
from common.datasets.synthetic.person import Person

# The published file lists the fields in another order in each half: a reader that goes by position mixes them up.
_TRAIN_ORDER = (
    "age", "backpack", "bag", "handbag", *sorted(f"down{colour}" for colour in LOWER_COLOURS),
    *sorted(f"up{colour}" for colour in UPPER_COLOURS), "clothes", "down", "up", "hair", "hat", "gender",
)  # fmt: skip
_TEST_ORDER = (
    "age", "backpack", "bag", "handbag", "clothes", "down", "up", "hair", "hat", "gender",
    *(f"up{colour}" for colour in UPPER_COLOURS), *(f"down{colour}" for colour in LOWER_COLOURS),
)  # fmt: skip


def write_market_attributes(path: Path, train: dict[int, Person], test: dict[int, Person]) -> None:
    """train, test: identity label to person. The file's bytes depend on nothing else."""
    content = {"test": _half(test, _TEST_ORDER), "train": _half(train, _TRAIN_ORDER)}
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"market_attribute": content})
    # MATLAB files begin with 116 characters of free text, where scipy puts the time of day.
    header = b"MATLAB 5.0 MAT-file, synthetic pedestrians".ljust(116)
    path.write_bytes(header + buffer.getvalue()[116:])


def _half(persons: dict[int, Person], order: tuple[str, ...]) -> dict[str, np.ndarray]:
    """One half of the struct: each field a 1 x n row, and the identities as a 1 x n cell array of strings."""
    rows = [attribute_values(person) for person in persons.values()]
    half = {name: np.array([[row[name] for row in rows]], dtype=np.uint8) for name in order}
    names = np.empty((1, len(persons)), dtype=object)
    names[0, :] = [f"{label:04d}" for label in persons]
    return {**half, "image_index": names}


def attribute_values(person: Person) -> dict[str, int]:
    """The 27 values as the annotators of Market-1501 number them: 1 no, 2 yes unless said otherwise."""
    values = {
        "age": 1 + AGES.index(person.age),
        "backpack": 1 + (person.backpack != "none"),
        "bag": 1 + (person.bag != "none"),
        "handbag": 1 + (person.handbag != "none"),
        "clothes": 1 + (person.lower in ("trousers", "shorts")),  # 1 dress, 2 trousers
        "down": 1 + (person.lower_length < 0.7),  # 1 long, 2 short
        "up": 1 + (person.sleeve < 0.6),  # 1 long sleeve, 2 short sleeve
        "hair": 1 + (person.hair in ("long", "ponytail")),  # 1 short, 2 long
        "hat": 1 + (person.hat != "none"),
        "gender": 1 + person.female,  # 1 male, 2 female
    }
    values |= {f"up{colour}": 1 + (person.upper_colour == colour) for colour in UPPER_COLOURS}
    values |= {f"down{colour}": 1 + (person.lower_colour == colour) for colour in LOWER_COLOURS}
    return values
