"""Joint files: what is written is read, and a file made for other images is refused."""

import numpy as np
import pytest

from common.datasets.base import DataSet, Sample, Subset
from common.datasets.poses import read_poses, write_poses
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
