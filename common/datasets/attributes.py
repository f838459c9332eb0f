"""Attributes of identities as annotated for Market-1501 (Lin et al., "Improving Person Re-identification by Attribute
and Identity Learning", Pattern Recognition 2019): `market_attribute.mat`.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import scipy.io

from common.errors import UserError

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


def read_market_attributes(path: Path) -> dict[str, pd.DataFrame]:
    """{"train": table, "test": table}, one row an identity (index: int label).

    Columns: `age` (AGES), those of BINARY, and `upper_colour` and `lower_colour`, which are missing (NaN) for the
    identities that were given none. Fields are found by name: the halves of the published file order them differently.
    UserError: no such file, not such a file, a field missing or a value out of range (named).
    """
    try:
        with open(path, "rb") as file:
            content = scipy.io.loadmat(file, simplify_cells=True)["market_attribute"]
        return {half: _tidy(content[half], f"{path} ({half})") for half in ("train", "test")}
    except FileNotFoundError:
        raise UserError(f"no attributes at {path}: put market_attribute.mat there") from None
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"{path} is not a Market-1501 attribute file ({type(error).__name__}: {error})") from None


def _tidy(half: dict[str, np.ndarray], where: str) -> pd.DataFrame:
    index = pd.Index([int(name) for name in np.atleast_1d(half["image_index"])], name="identity")

    def values(field: str, highest: int) -> np.ndarray:
        if field not in half:
            raise UserError(f"{where}: no field {field!r}; fields: {', '.join(half)}")
        row = np.atleast_1d(half[field]).astype(int)
        if row.shape != (len(index),) or row.min() < 1 or row.max() > highest:
            raise UserError(f"{where}: field {field!r} must hold {len(index)} values from 1 to {highest}")
        return row

    table = {"age": [AGES[value - 1] for value in values("age", 4)]}
    for field, name, first, second in BINARY:
        table[name] = np.where(values(field, 2) == 1, first, second)
    for prefix, name, colours in (("up", "upper_colour", UPPER_COLOURS), ("down", "lower_colour", LOWER_COLOURS)):
        marked = np.stack([values(prefix + colour, 2) == 2 for colour in colours])
        table[name] = [colours[row.argmax()] if row.any() else None for row in marked.T]
    return pd.DataFrame(table, index=index)
