"""Attributes of identities as annotated for Market-1501 and DukeMTMC-reID (Lin et al., "Improving Person
Re-identification by Attribute and Identity Learning", Pattern Recognition 2019): `market_attribute.mat` and
`duke_attribute.mat`. PETA's are read in peta_attributes.py.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.io

from common.datasets.peta_attributes import read_peta_attributes
from common.errors import UserError

__all__ = ["read_duke_attributes", "read_market_attributes", "read_peta_attributes"]

UPPER_COLOURS = ("black", "white", "red", "purple", "yellow", "gray", "blue", "green")
LOWER_COLOURS = ("black", "white", "pink", "purple", "yellow", "gray", "blue", "green", "brown")
AGES = ("child", "teenager", "adult", "old")  # values 1 to 4

# Field, name here, meaning of value 1, meaning of value 2.
BINARY = (
    ("gender", "gender", "male", "female"),
    ("hair", "hair", "short", "long"),
    ("up", "sleeves", "long", "short"),
    ("down", "lower_length", "long", "short"),
    ("clothes", "lower_type", "dress", "trousers"),
    ("hat", "hat", "no", "yes"),
    ("backpack", "backpack", "no", "yes"),
    ("bag", "bag", "no", "yes"),
    ("handbag", "handbag", "no", "yes"),
)

DUKE_UPPER_COLOURS = ("black", "white", "red", "purple", "gray", "blue", "green", "brown")
DUKE_LOWER_COLOURS = ("black", "white", "red", "gray", "blue", "green", "brown")
DUKE_BINARY = (
    ("gender", "gender", "male", "female"),
    ("top", "upper_length", "short", "long"),
    ("boots", "boots", "no", "yes"),
    ("hat", "hat", "no", "yes"),
    ("backpack", "backpack", "no", "yes"),
    ("bag", "bag", "no", "yes"),
    ("handbag", "handbag", "no", "yes"),
    ("shoes", "shoe_colour", "dark", "light"),
)
_DUKE_MAY_BE_ZERO = ("top",)  # two identities of the published file have 0, which means neither


def read_market_attributes(path: Path) -> dict[str, pd.DataFrame]:
    """{"train": table, "test": table}, one row an identity (index: int label).

    Columns: `age` (AGES), those of BINARY, and `upper_colour` and `lower_colour`, which are missing (NaN) for
    identities without a colour. Fields are found by name: the halves of the published file order them differently.
    UserError: no such file, another kind of file, a field missing or a value out of range (named).
    """
    return _read_tables(path, "market_attribute", "Market-1501", _market_table)


def read_duke_attributes(path: Path) -> dict[str, pd.DataFrame]:
    """As read_market_attributes, for DukeMTMC-reID: columns those of DUKE_BINARY, `upper_colour` and `lower_colour`.

    `upper_length` is missing for the identities whose `top` is 0. An identity with several colours (in the
    published test half, 23 have several lower ones) gets the first in the order of DUKE_LOWER_COLOURS: networks that
    use the table predict one colour, and a missing value would discard what is known.
    """
    return _read_tables(path, "duke_attribute", "DukeMTMC-reID", _duke_table)


class _Half:
    """One half of the struct: a field is a row of n values, `image_index` a row of n identity strings."""

    def __init__(self, fields: dict[str, np.ndarray], where: str):
        self.fields, self.where = fields, where
        self.index = pd.Index([int(name) for name in np.atleast_1d(fields["image_index"])], name="identity")

    def values(self, field: str, highest: int, lowest: int = 1) -> np.ndarray:
        """(n,) integers. UserError: no such field, or a value outside lowest..highest."""
        if field not in self.fields:
            raise UserError(f"{self.where}: no field {field!r}; fields: {', '.join(self.fields)}")
        row = np.atleast_1d(self.fields[field]).astype(int)
        if row.shape != (len(self.index),) or row.min() < lowest or row.max() > highest:
            raise UserError(
                f"{self.where}: field {field!r} must hold {len(self.index)} values from {lowest} to {highest}"
            )
        return row

    def binary(self, field: str, first: str, second: str, *, may_be_zero: bool = False) -> list[str | None]:
        return [(None, first, second)[value] for value in self.values(field, 2, 0 if may_be_zero else 1)]

    def colours(self, prefix: str, colours: tuple[str, ...]) -> list[str | None]:
        """The first colour whose field is 2, None if there is none."""
        marked = np.stack([self.values(prefix + colour, 2) == 2 for colour in colours])
        return [colours[row.argmax()] if row.any() else None for row in marked.T]


def _market_table(half: _Half) -> dict[str, list]:
    table = {"age": [AGES[value - 1] for value in half.values("age", 4)]}
    table |= {name: half.binary(field, first, second) for field, name, first, second in BINARY}
    table["upper_colour"] = half.colours("up", UPPER_COLOURS)
    table["lower_colour"] = half.colours("down", LOWER_COLOURS)
    return table


def _duke_table(half: _Half) -> dict[str, list]:
    table = {
        name: half.binary(field, first, second, may_be_zero=field in _DUKE_MAY_BE_ZERO)
        for field, name, first, second in DUKE_BINARY
    }
    table["upper_colour"] = half.colours("up", DUKE_UPPER_COLOURS)
    table["lower_colour"] = half.colours("down", DUKE_LOWER_COLOURS)
    return table


def _read_tables(path: Path, variable: str, title: str, columns: Callable[[_Half], dict]) -> dict[str, pd.DataFrame]:
    try:
        with open(path, "rb") as file:
            content = scipy.io.loadmat(file, simplify_cells=True)[variable]
        halves = {name: _Half(content[name], f"{path} ({name})") for name in ("train", "test")}
        return {name: pd.DataFrame(columns(half), index=half.index) for name, half in halves.items()}
    except FileNotFoundError:
        raise UserError(f"no attributes at {path}: put {variable}.mat there") from None
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"{path} is not a {title} attribute file ({type(error).__name__}: {error})") from None
