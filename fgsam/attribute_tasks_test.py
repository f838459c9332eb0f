"""The attribute tasks against Table I, their labels and scores."""

import numpy as np
import pytest
import torch
from PIL import Image

from common.datasets import READERS
from common.datasets.base import DataSet, Sample, Subset
from common.datasets.synthetic import make_dataset
from common.errors import UserError

from .attribute_tasks import PART_OF_TASK, UNLABELLED, AttributeTable, attribute_scores, read_attribute_table
from .model_test import settings_of
from .skeleton import PARTS

TABLE_I = {
    "market1501": "gender hair sleeves lower_length lower_type hat backpack bag handbag age upper_colour lower_colour",
    "dukemtmcreid": "gender upper_length hat backpack bag handbag upper_colour lower_colour shoe_colour boots",
    "peta": "gender hair sleeves upper_length lower_type hat backpack bag age upper_colour lower_colour shoe_colour "
    "boots",
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for name in TABLE_I:
        make_dataset(root / name, like=name, size="tiny", processes=1)
    return {name: READERS[name].read(root / name, name) for name in TABLE_I}


@pytest.mark.parametrize(("name", "count"), [("market1501", 12), ("dukemtmcreid", 10), ("peta", 13)])
def test_the_tasks_are_table_1s(tiny, name, count):
    """Table I ticks age and not bag for DukeMTMC-reID, whose annotation has bag and no age."""
    table = read_attribute_table(tiny[name])
    assert len(table.values) == count and set(table.values) == set(TABLE_I[name].split())
    labels = table.labels(tiny[name].train)
    assert labels.shape == (len(tiny[name].train), count)
    for position, size in enumerate(table.num_values.values()):
        assert labels[:, position].min() >= UNLABELLED and labels[:, position].max() < size
    assert {PART_OF_TASK[task] for task in table.values} <= set(PARTS)


def test_each_task_is_classified_from_the_part_that_the_readme_names():
    expected = {
        "head": "gender hair hat age",
        "upper_body": "upper_colour upper_length backpack bag",
        "upper_arm": "sleeves",
        "lower_arm": "handbag",
        "upper_leg": "lower_length lower_type lower_colour",
        "lower_leg": "shoe_colour boots",
    }
    assert {task: part for part, tasks in expected.items() for task in tasks.split()} == PART_OF_TASK


def test_people_without_an_annotation_are_unlabelled(tiny):
    table = AttributeTable({"hat": ("no", "yes")}, {7: np.array([1])})
    people = Subset("x", (Sample("a", 7, 0), Sample("b", 8, 0)))
    assert table.labels(people).tolist() == [[1], [UNLABELLED]]
    real = read_attribute_table(tiny["market1501"])
    gallery = tiny["market1501"].gallery
    distractors = gallery.persons <= 0
    assert distractors.any() and (real.labels(gallery)[distractors] == UNLABELLED).all()


def test_accuracy_stands_beside_that_of_the_majority(tmp_path):
    for name in "abcd":
        Image.new("RGB", (8, 16)).save(tmp_path / f"{name}.png")
    train = Subset("train", (Sample(tmp_path / "a.png", 1, 0), Sample(tmp_path / "a.png", 2, 0)))
    query = Subset(
        "query", tuple(Sample(tmp_path / f"{n}.png", p, 0) for n, p in zip("abcd", (3, 4, 5, 6), strict=True))
    )
    codes = {1: 0, 2: 0, 3: 0, 4: 1, 6: 1}  # the majority of the training people is not that of the queries
    table = AttributeTable({"hat": ("no", "yes")}, {person: np.array([code]) for person, code in codes.items()})

    class Run:
        settings = settings_of(cache=False)
        dataset = DataSet("x", tmp_path, {"train": train, "query": query}, (type("S", (), {"query": query})(),))

    found = attribute_scores(lambda images: {"hat": torch.tensor([[0.2, 0.8]]).expand(len(images), 2)}, Run, table)
    assert found == {"hat": {"accuracy": 2 / 3, "majority": 1 / 3}}  # the third has no label
    with pytest.raises(UserError, match="has no attributes of its people"):
        read_attribute_table(DataSet("msmt17", tmp_path, {}, ()))
