import pytest
import torch

from common import checkpoints
from common.checkpoints import newest_checkpoint, read_checkpoint, write_checkpoint
from common.errors import UserError

RUN = {"paper": "my_paper", "seed": 0}


def write(folder, epoch):
    write_checkpoint(folder, {"epoch": epoch, "identity": RUN, "model": {"weight": torch.full((3,), float(epoch))}})


def test_the_last_two_epochs_are_kept_and_read_back(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    for epoch in (1, 2, 3):
        write(tmp_path, epoch)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["last.pth", "previous.pth"]
    assert read_checkpoint(newest_checkpoint(tmp_path), RUN)["model"]["weight"].tolist() == [3.0] * 3
    assert read_checkpoint(tmp_path / "previous.pth", RUN)["epoch"] == 2


@pytest.mark.parametrize("killed_at", ["save", "first rename", "second rename"])
def test_a_kill_at_any_point_of_writing_leaves_a_whole_checkpoint(tmp_path, monkeypatch, killed_at):
    write(tmp_path, 1)
    write(tmp_path, 2)

    class Killed(BaseException):
        """Unlike an error, nothing in the writer may catch it."""

    def half_a_file(checkpoint, file):
        file.write(b"half")
        raise Killed

    renames = []
    rename = checkpoints.Path.replace

    def rename_until_killed(source, target):
        renames.append(target)
        if len(renames) == {"first rename": 1, "second rename": 2}[killed_at]:
            raise Killed
        return rename(source, target)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        if killed_at == "save":
            patch.setattr(checkpoints.torch, "save", half_a_file)
        else:
            patch.setattr(checkpoints.Path, "replace", rename_until_killed)
        write(tmp_path, 3)
    assert read_checkpoint(newest_checkpoint(tmp_path), RUN)["epoch"] == 2
    write(tmp_path, 3)
    assert read_checkpoint(newest_checkpoint(tmp_path), RUN)["epoch"] == 3


def test_a_full_disk_keeps_the_last_checkpoint_and_says_so(tmp_path, monkeypatch):
    write(tmp_path, 1)

    def full(checkpoint, file):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(UserError, match=r"epoch 2 cannot be written.*No space left"):
        patch.setattr(checkpoints.torch, "save", full)
        write(tmp_path, 2)
    assert [file.name for file in tmp_path.iterdir()] == ["last.pth"]
    assert read_checkpoint(tmp_path / "last.pth", RUN)["epoch"] == 1


def test_a_truncated_and_a_foreign_checkpoint_are_refused_with_the_ways_on(tmp_path):
    write(tmp_path, 1)
    with pytest.raises(UserError, match=r"of another run \(seed is 0, here 7\): start anew with --force$"):
        read_checkpoint(tmp_path / "last.pth", {**RUN, "seed": 7})
    write(tmp_path, 2)
    whole = (tmp_path / "last.pth").read_bytes()
    for damaged in (whole[:-100], whole[:50], b""):
        (tmp_path / "last.pth").write_bytes(damaged)
        with pytest.raises(UserError, match=r"last\.pth is damaged.*mv '.*previous\.pth' '.*last\.pth'"):
            read_checkpoint(tmp_path / "last.pth", RUN)


def test_loading_runs_no_code(tmp_path):
    class Malicious:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"identity": RUN, "model": Malicious()}, tmp_path / "last.pth")
    with pytest.raises(UserError, match="damaged or no checkpoint"):
        read_checkpoint(tmp_path / "last.pth", RUN)
    assert not (tmp_path / "ran").exists()
