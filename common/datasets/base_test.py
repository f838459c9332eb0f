"""Identities held out of the training."""

from pathlib import Path

import pytest

from common.datasets.base import DataSet, Sample, Subset
from common.errors import UserError

IMAGES = [(person, camera) for person in (3, 5, 8, 9) for camera in (1, 1, 2)]


@pytest.fixture
def dataset():
    samples = tuple(Sample(Path(f"{number}.jpg"), *labels) for number, labels in enumerate(IMAGES))
    return DataSet("market1501", Path(), {"train": Subset("train", samples)}, ())


def test_held_out_identities_are_not_trained_on(dataset):
    train, search = dataset.hold_out(2)
    held_out = set(search.query.persons.tolist())
    assert len(held_out) == 2 and held_out == set(search.gallery.persons.tolist())
    assert set(train.persons.tolist()) == {3, 5, 8, 9} - held_out
    assert len(train) == 6 and train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert dataset.hold_out(2) == (train, search)


def test_held_out_queries_are_one_image_of_each_identity_in_each_camera(dataset):
    _, search = dataset.hold_out(2)
    assert search.query.cameras.tolist() == [1, 2, 1, 2]
    assert search.gallery.cameras.tolist() == [1, 1]


def test_none_or_all_identities_held_out(dataset):
    assert dataset.hold_out(0) == (dataset.train, None)
    with pytest.raises(UserError, match="4 identities cannot be held out of a training set of 4"):
        dataset.hold_out(4)
