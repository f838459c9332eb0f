"""Writes `market_attribute.mat` and `duke_attribute.mat`, with the nesting and the quirks of the real files."""

import io
from pathlib import Path

import numpy as np
import scipy.io

from common.datasets.attributes import AGES, DUKE_LOWER_COLOURS, DUKE_UPPER_COLOURS, LOWER_COLOURS, UPPER_COLOURS
from common.datasets.synthetic.people.person import Person

# The halves of the published file order the fields differently: a reader that relies on positions mixes them up.
_TRAIN_ORDER = (
    "age", "backpack", "bag", "handbag", *sorted(f"down{colour}" for colour in LOWER_COLOURS),
    *sorted(f"up{colour}" for colour in UPPER_COLOURS), "clothes", "down", "up", "hair", "hat", "gender",
)  # fmt: skip
_TEST_ORDER = (
    "age", "backpack", "bag", "handbag", "clothes", "down", "up", "hair", "hat", "gender",
    *(f"up{colour}" for colour in UPPER_COLOURS), *(f"down{colour}" for colour in LOWER_COLOURS),
)  # fmt: skip
_DUKE_ORDER = (
    "backpack", "bag", "handbag", "boots", "gender", "hat", "shoes", "top",
    *(f"down{colour}" for colour in DUKE_LOWER_COLOURS), *(f"up{colour}" for colour in DUKE_UPPER_COLOURS),
)  # fmt: skip

LONG_HEM = 1.15  # an upper garment that ends below this is long; the trunk ends at 1


def write_market_attributes(path: Path, train: dict[int, Person], test: dict[int, Person]) -> None:
    """train, test: identity label to person. The file's bytes depend on nothing else."""
    rows = [{label: attribute_values(person) for label, person in half.items()} for half in (test, train)]
    _write(path, "market_attribute", {"test": _half(rows[0], _TEST_ORDER), "train": _half(rows[1], _TRAIN_ORDER)})


def write_duke_attributes(
    path: Path, train: dict[int, Person], test: dict[int, Person], without_top: int, several_colours: int
) -> None:
    """As write_market_attributes. without_top: number of training identities whose `top` is 0; several_colours: number
    of test identities with a second lower colour, which attributes.py lists after the first."""
    halves = {
        name: {label: duke_attribute_values(person) for label, person in half.items()}
        for name, half in (("train", train), ("test", test))
    }
    for values in list(halves["train"].values())[:without_top]:
        values["top"] = 0
    fields = [f"down{colour}" for colour in DUKE_LOWER_COLOURS]
    coloured = [values for values in halves["test"].values() if any(values[field] == 2 for field in fields[:-1])]
    for values in coloured[:several_colours]:
        first = next(place for place, field in enumerate(fields) if values[field] == 2)
        values[fields[first + 1]] = 2
    _write(path, "duke_attribute", {name: _half(half, _DUKE_ORDER) for name, half in halves.items()})


def _write(path: Path, variable: str, content: dict) -> None:
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {variable: content})
    # MATLAB files begin with 116 characters of free text, where scipy writes the time.
    header = b"MATLAB 5.0 MAT-file, synthetic pedestrians".ljust(116)
    path.write_bytes(header + buffer.getvalue()[116:])


def _half(rows: dict[int, dict[str, int]], order: tuple[str, ...]) -> dict[str, np.ndarray]:
    """One half of the struct: each field a 1 x n row, and the identities as a 1 x n cell array of strings."""
    half = {name: np.array([[row[name] for row in rows.values()]], dtype=np.uint8) for name in order}
    names = np.empty((1, len(rows)), dtype=object)
    names[0, :] = [f"{label:04d}" for label in rows]
    return {**half, "image_index": names}


def attribute_values(person: Person) -> dict[str, int]:
    """The 27 values in Market-1501's coding: 1 no, 2 yes, unless a comment says otherwise."""
    values = {
        "age": 1 + AGES.index(person.age),
        **_carried(person),
        "clothes": 1 + (person.lower in ("trousers", "shorts")),  # 1 dress, 2 trousers
        "down": 1 + (person.lower_length < 0.7),  # 1 long, 2 short
        "up": 1 + (person.sleeve < 0.6),  # 1 long sleeve, 2 short sleeve
        "hair": 1 + (person.hair in ("long", "ponytail")),  # 1 short, 2 long
    }
    values |= {f"up{colour}": 1 + (person.upper_colour == colour) for colour in UPPER_COLOURS}
    values |= {f"down{colour}": 1 + (person.lower_colour == colour) for colour in LOWER_COLOURS}
    return values


def duke_attribute_values(person: Person) -> dict[str, int]:
    """The 23 values in DukeMTMC-reID's coding: 1 no, 2 yes, unless a comment says otherwise.

    Light brown and beige garments, which have no name in Market-1501, are brown here; yellow, pink and purple lower
    garments and yellow upper ones have no name.
    """
    upper, lower = ("brown" if name == "none" else name for name in (person.upper_colour, person.lower_colour))
    values = {
        **_carried(person),
        "boots": 1 + (person.boots > 0),
        "shoes": 1 + (sum(person.colours["shoe"]) / 3 > 0.5),  # 1 dark, 2 light
        "top": 1 + (person.hem > LONG_HEM),  # 1 short, 2 long
    }
    values |= {f"up{colour}": 1 + (upper == colour) for colour in DUKE_UPPER_COLOURS}
    values |= {f"down{colour}": 1 + (lower == colour) for colour in DUKE_LOWER_COLOURS}
    return values


def _carried(person: Person) -> dict[str, int]:
    return {
        "backpack": 1 + (person.backpack != "none"),
        "bag": 1 + (person.bag != "none"),
        "handbag": 1 + (person.handbag != "none"),
        "hat": 1 + (person.hat != "none"),
        "gender": 1 + person.female,  # 1 male, 2 female
    }
