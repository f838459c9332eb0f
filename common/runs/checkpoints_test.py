import pytest
import torch

from common.errors import UserError
from common.runs import checkpoints
from common.runs.checkpoints import newest_checkpoint, read_checkpoint, write_checkpoint

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
def test_a_kill_at_any_point_of_writing_leaves_a_complete_checkpoint(tmp_path, monkeypatch, killed_at):
    write(tmp_path, 1)
    write(tmp_path, 2)

    class Killed(BaseException):
        """Not an Exception, so that nothing in the writer catches it."""

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


def test_a_full_disk_is_reported_and_the_last_checkpoint_kept(tmp_path, monkeypatch):
    write(tmp_path, 1)

    def full(checkpoint, file):
        raise OSError(28, "No space left on device")

    with (
        monkeypatch.context() as patch,
        pytest.raises(UserError, match=r"last\.pth cannot be written.*No space left.*Epoch 2 is not saved"),
    ):
        patch.setattr(checkpoints.torch, "save", full)
        write(tmp_path, 2)
    assert [file.name for file in tmp_path.iterdir()] == ["last.pth"]
    assert read_checkpoint(tmp_path / "last.pth", RUN)["epoch"] == 1


def test_a_damaged_checkpoint_and_another_runs_are_refused_with_what_can_be_done(tmp_path):
    write(tmp_path, 1)
    with pytest.raises(UserError, match=r"to another run \(seed is 0, here 7\): start from scratch with --force$"):
        read_checkpoint(tmp_path / "last.pth", {**RUN, "seed": 7})
    write(tmp_path, 2)
    whole = (tmp_path / "last.pth").read_bytes()
    for damaged in (whole[:-100], whole[:50], b""):
        (tmp_path / "last.pth").write_bytes(damaged)
        with pytest.raises(UserError, match=r"last\.pth is damaged.*mv '.*previous\.pth' '.*last\.pth'"):
            read_checkpoint(tmp_path / "last.pth", RUN)


def test_loading_executes_no_code(tmp_path):
    class Malicious:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"identity": RUN, "model": Malicious()}, tmp_path / "last.pth")
    with pytest.raises(UserError, match="damaged or no checkpoint"):
        read_checkpoint(tmp_path / "last.pth", RUN)
    assert not (tmp_path / "ran").exists()
