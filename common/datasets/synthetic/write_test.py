"""Synthetic data sets on disk: counts, bytes, attributes and joints, read back by the reader of the real one."""

import numpy as np
import pytest
import scipy.io
from PIL import Image

from common.datasets import market1501
from common.datasets.attributes import read_market_attributes
from common.datasets.poses import read_poses
from common.datasets.synthetic import make_dataset
from common.datasets.synthetic.people.person import identity
from common.datasets.synthetic.splits import SIZES
from common.errors import UserError


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("synthetic") / "market1501", size="tiny", processes=1)


def _bytes(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_seed_gives_the_same_bytes_in_any_number_of_processes(tiny, tmp_path):
    assert _bytes(make_dataset(tmp_path / "again", size="tiny", processes=2)) == _bytes(tiny)


def test_another_seed_gives_other_people(tiny, tmp_path):
    other = _bytes(make_dataset(tmp_path / "other", size="tiny", seed=1, processes=1))
    assert not set(other.values()) & {content for name, content in _bytes(tiny).items() if name.endswith(".jpg")}


def test_is_read_as_market1501_with_the_counts_of_its_size(tiny):
    dataset, size = market1501.read(tiny), SIZES["tiny"]
    assert dataset.kind == "tiny"
    assert len(dataset.train) == size.train and dataset.train.num_identities == size.train_identities
    assert len(dataset.query) == size.query and dataset.query.num_identities == size.test_identities
    assert len(dataset.gallery) == size.gallery + size.junk + size.distractors
    assert (dataset.gallery.persons == -1).sum() == size.junk
    assert (dataset.gallery.persons == 0).sum() == size.distractors
    assert len(dataset.subsets["multi_query"]) == size.annotated
    assert not set(dataset.train.persons) & set(dataset.query.persons)
    assert (tiny / "bounding_box_train" / "Thumbs.db").is_file()
    for sample in dataset.train.samples:
        assert Image.open(sample.path).size == (64, 128)


def test_attributes_are_those_of_the_people_shown_and_halves_order_fields_differently(tiny):
    dataset = market1501.read(tiny)
    tables = read_market_attributes(tiny / "market_attribute.mat")
    assert tables["train"].index.tolist() == sorted(set(dataset.train.persons.tolist()))
    assert tables["test"].index.tolist() == sorted(set(dataset.query.persons.tolist()))
    for table in tables.values():
        for label, row in table.iterrows():
            person = identity(0, label)
            assert row["age"] == person.age
            assert row["gender"] == ("female" if person.female else "male")
            assert row["backpack"] == ("no" if person.backpack == "none" else "yes")
            assert row["lower_type"] == ("trousers" if person.lower in ("trousers", "shorts") else "dress")
            colour = None if row.isna()["upper_colour"] else row["upper_colour"]
            assert colour == (None if person.upper_colour == "none" else person.upper_colour)
    raw = scipy.io.loadmat(tiny / "market_attribute.mat")["market_attribute"]
    train, test = (raw[half][0, 0].dtype.names for half in ("train", "test"))
    assert sorted(train) == sorted(test) and train != test
    assert len(train) == 28  # age, 26 fields with values 1 and 2, image_index
    assert raw["train"][0, 0]["image_index"][0, 0][0, 0].item() == f"{tables['train'].index[0]:04d}"


def test_joints_are_there_for_every_good_box(tiny):
    dataset = market1501.read(tiny)
    poses = read_poses(tiny / "poses.json", dataset)
    good = [
        sample.path.relative_to(tiny).as_posix()
        for subset in (dataset.train, dataset.query, dataset.gallery)
        for sample in subset.samples
        if sample.person > 0
    ]
    assert sorted(poses) == sorted(good)
    assert np.mean([(joints[:, 2] > 0).sum() for joints in poses.values()]) > 14


def test_replaces_a_synthetic_folder_and_refuses_any_other(tiny, tmp_path):
    folder = make_dataset(tmp_path / "market1501", size="tiny", seed=1, processes=1)
    make_dataset(folder, size="tiny", processes=1)
    assert _bytes(folder) == _bytes(tiny)
    precious = tmp_path / "mine"
    precious.mkdir()
    (precious / "photo.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match="not overwriting"):
        make_dataset(precious, size="tiny")
    assert (precious / "photo.jpg").read_bytes() == b"x"


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("common.datasets.synthetic.layouts.market1501.write_poses", stop)
    with pytest.raises(KeyboardInterrupt):
        make_dataset(tmp_path / "market1501", size="tiny", processes=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"like": "imagenet"}, {"size": "huge"}, {"seed": -1}, {"seed": 2**32}])
def test_unknown_choices_are_refused(tmp_path, wrong):
    with pytest.raises(UserError):
        make_dataset(tmp_path / "x", **wrong)
    assert not (tmp_path / "x").exists()
