"""Joint files: what is written is read, and a file made for other images is refused."""

import json

import numpy as np
import pytest
import torch

from common.datasets import open_dataset
from common.datasets.base import DataSet, Sample, Subset
from common.datasets.poses import pose_file, read_joints, read_poses, write_poses
from common.datasets.synthetic import make_dataset
from common.errors import UserError


def _dataset(folder, name="market1501", content=b"image"):
    path = folder / "query" / "0001_c1.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return DataSet(name, folder, {"query": Subset("query", (Sample(path, 1, 1),))}, ())


def test_joints_come_back_and_other_images_are_absent(tmp_path):
    dataset = _dataset(tmp_path)
    joints = np.arange(51, dtype=np.float32).reshape(17, 3) / 4
    write_poses(tmp_path / "poses.json", dataset, {"query/0001_c1.jpg": joints})
    read = read_poses(tmp_path / "poses.json", dataset)
    assert list(read) == ["query/0001_c1.jpg"]
    assert read["query/0001_c1.jpg"].dtype == np.float32
    np.testing.assert_array_equal(read["query/0001_c1.jpg"], joints)


def test_another_data_sets_joints_are_refused(tmp_path):
    write_poses(tmp_path / "poses.json", _dataset(tmp_path / "a"), {})
    with pytest.raises(UserError, match="made for other images"):
        read_poses(tmp_path / "poses.json", _dataset(tmp_path / "b", name="msmt17"))
    with pytest.raises(UserError, match="made for other images"):
        read_poses(tmp_path / "poses.json", _dataset(tmp_path / "c", content=b"a larger image"))


@pytest.mark.parametrize("text", ["", "[]", '{"dataset": "market1501"}', "\x00\x01"])
def test_missing_and_broken_files_are_named(tmp_path, text):
    dataset = _dataset(tmp_path)
    with pytest.raises(UserError, match=r"no joints at .*poses\.json"):
        read_poses(tmp_path / "poses.json", dataset)
    (tmp_path / "poses.json").write_text(text)
    with pytest.raises(UserError, match=r"poses\.json is not a file of joints"):
        read_poses(tmp_path / "poses.json", dataset)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    make_dataset(root / "market1501", like="market1501", size="tiny")
    return root


@pytest.fixture
def dataset(root):
    """The tiny data set, whose file of poses a test may change."""
    dataset = open_dataset("market1501", root)
    kept = pose_file(dataset).read_bytes()
    yield dataset
    pose_file(dataset).write_bytes(kept)


def test_joints_are_in_parts_of_each_image(dataset):
    joints = read_joints(dataset, dataset.train)
    assert joints.shape == (len(dataset.train), 17, 3)
    there = joints[joints[..., 2] > 0]
    assert len(there) and (there[:, :2] >= 0).all() and (there[:, :2] < 1).all()
    sample = dataset.train.samples[0]
    pixels = read_poses(pose_file(dataset), dataset)[sample.path.relative_to(dataset.folder).as_posix()]
    torch.testing.assert_close(joints[0, :, :2] * torch.tensor([64, 128]), torch.from_numpy(pixels[:, :2]))


def test_images_without_a_pose_are_kept_with_none(dataset):
    poses = read_poses(pose_file(dataset), dataset)
    first = dataset.train.samples[0].path.relative_to(dataset.folder).as_posix()
    write_poses(pose_file(dataset), dataset, {name: pose for name, pose in poses.items() if name != first})
    joints = read_joints(dataset, dataset.train)
    assert len(joints) == len(dataset.train)
    assert joints[0].abs().sum() == 0 and joints[1].abs().sum() > 0


def test_a_missing_file_of_poses_is_named_with_the_command_that_makes_it(dataset):
    pose_file(dataset).unlink()
    with pytest.raises(UserError, match=r"poses\.json does not exist(.|\n)*extract_poses --dataset market1501"):
        read_joints(dataset, dataset.train)


def test_poses_of_other_images_are_refused(dataset):
    content = json.loads(pose_file(dataset).read_text())
    pose_file(dataset).write_text(json.dumps(content | {"fingerprint": "0" * 16}))
    with pytest.raises(UserError, match="made for other images"):
        read_joints(dataset, dataset.train)
