"""Market-1501's and DukeMTMC-reID's attribute files: fields by name in a struct whose halves order them differently."""

import numpy as np
import pytest
import scipy.io

from common.datasets.attributes import (
    BINARY,
    DUKE_BINARY,
    DUKE_LOWER_COLOURS,
    DUKE_UPPER_COLOURS,
    LOWER_COLOURS,
    UPPER_COLOURS,
    read_duke_attributes,
    read_market_attributes,
)
from common.errors import UserError

FIELDS = [
    "age",
    *(field for field, *_ in BINARY),
    *("up" + c for c in UPPER_COLOURS),
    *("down" + c for c in LOWER_COLOURS),
]


def _half(labels, twos, fields):
    """Every value is 1, except 2 for the (field, position) pairs in `twos`."""
    names = np.empty((1, len(labels)), dtype=object)
    names[0, :] = labels
    half = {name: np.ones((1, len(labels)), np.uint8) for name in fields}
    for field, position in twos:
        half[field][0, position] = 2
    return {**half, "image_index": names}


def _save(path, train, test):
    scipy.io.savemat(path, {"market_attribute": {"test": test, "train": train}})
    return path


def test_the_order_of_fields_does_not_matter(tmp_path):
    twos = [("upred", 0), ("downblue", 0), ("up", 0), ("clothes", 1), ("backpack", 1), ("age", 1)]
    labels = ["0002", "0010"]
    path = _save(tmp_path / "a.mat", _half(labels, twos, FIELDS), _half(labels, twos, FIELDS[::-1]))
    tables = read_market_attributes(path)
    for table in tables.values():
        assert table.index.tolist() == [2, 10]
        assert table["upper_colour"].tolist()[0] == "red"
        assert table["lower_colour"].tolist()[0] == "blue"
        assert table["upper_colour"].isna().tolist() == [False, True]
        assert table["sleeves"].tolist() == ["short", "long"]
        assert table["lower_type"].tolist() == ["dress", "trousers"]
        assert table["backpack"].tolist() == ["no", "yes"]
        assert table["age"].tolist() == ["child", "teenager"]


def test_one_identity_is_still_a_table(tmp_path):
    path = _save(tmp_path / "a.mat", _half(["0002"], [], FIELDS), _half(["0001"], [], FIELDS))
    assert read_market_attributes(path)["test"].index.tolist() == [1]


def test_mistakes_are_named(tmp_path):
    with pytest.raises(UserError, match=r"no attributes at .*absent\.mat"):
        read_market_attributes(tmp_path / "absent.mat")
    garbage = tmp_path / "garbage.mat"
    garbage.write_bytes(b"this is no MATLAB file" * 20)
    with pytest.raises(UserError, match="not a Market-1501 attribute file"):
        read_market_attributes(garbage)
    whole = _half(["0002"], [], FIELDS)
    with pytest.raises(UserError, match="no field 'hat'"):
        read_market_attributes(_save(tmp_path / "b.mat", _half(["0002"], [], [f for f in FIELDS if f != "hat"]), whole))
    wrong = whole | {"hair": np.full((1, 1), 3, np.uint8)}
    with pytest.raises(UserError, match="'hair' must hold 1 values from 1 to 2"):
        read_market_attributes(_save(tmp_path / "c.mat", whole, wrong))


DUKE_FIELDS = [
    *(field for field, *_ in DUKE_BINARY),
    *("down" + c for c in DUKE_LOWER_COLOURS),
    *("up" + c for c in DUKE_UPPER_COLOURS),
]


def _save_duke(path, train, test):
    scipy.io.savemat(path, {"duke_attribute": {"test": test, "train": train}})
    return path


def test_duke_has_23_fields_some_lower_colours_twice_and_a_top_of_0(tmp_path):
    assert len(DUKE_FIELDS) == 23
    labels = ["0001", "0005", "7140"]
    twos = [("top", 0), ("shoes", 0), ("boots", 1), ("upbrown", 0), ("downblue", 1), ("downwhite", 1), ("gender", 2)]
    half = _half(labels, twos, DUKE_FIELDS)
    half["top"][0, 2] = 0
    path = _save_duke(tmp_path / "duke_attribute.mat", _half(["0002"], [], DUKE_FIELDS[::-1]), half)
    tables = read_duke_attributes(path)
    assert tables["train"]["upper_length"].tolist() == ["short"]
    test = tables["test"]
    assert test.index.tolist() == [1, 5, 7140]
    assert test["upper_length"].fillna("missing").tolist() == ["long", "short", "missing"]
    assert test["lower_colour"].fillna("missing").tolist() == ["missing", "white", "missing"]  # white before blue
    assert test["upper_colour"].fillna("missing").tolist() == ["brown", "missing", "missing"]
    assert test["shoe_colour"].tolist() == ["light", "dark", "dark"]
    assert test["boots"].tolist() == ["no", "yes", "no"]
    assert test["gender"].tolist() == ["male", "male", "female"]
    assert len(test.columns) == 10  # FGSAM's ten tasks


def test_only_dukes_top_may_be_0(tmp_path):
    whole = _half(["0002"], [], DUKE_FIELDS)
    zero = whole | {"hat": np.zeros((1, 1), np.uint8)}
    with pytest.raises(UserError, match=r"\(train\): field 'hat' must hold 1 values from 1 to 2"):
        read_duke_attributes(_save_duke(tmp_path / "a.mat", zero, whole))
    with pytest.raises(UserError, match="not a DukeMTMC-reID attribute file"):
        read_duke_attributes(_save(tmp_path / "b.mat", whole, whole))
    with pytest.raises(UserError, match=r"put duke_attribute\.mat there"):
        read_duke_attributes(tmp_path / "absent.mat")
