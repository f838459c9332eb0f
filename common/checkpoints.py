"""The checkpoints of a run: `last.pth`, and `previous.pth` from the epoch before it.

A checkpoint is written whole to a temporary name and then renamed, so that a run killed at any moment finds a whole
one. Loading runs no code (`weights_only=True`).
"""

import os
from pathlib import Path
from typing import Any

import torch

from common.errors import UserError

LAST, PREVIOUS = "last.pth", "previous.pth"
PARTIAL = ".partial"  # ends the name of a file that is being written


def write_checkpoint(directory: Path, checkpoint: dict[str, Any]) -> None:
    """Write `last.pth`; the one before it stays as `previous.pth`. UserError when the disk is full."""
    what = f"the checkpoint of epoch {checkpoint['epoch']}"
    save_whole(directory / LAST, checkpoint, what, "go on from the epoch before with --resume", directory / PREVIOUS)


def save_whole(file: Path, content: dict[str, Any], what: str, way_on: str, older: Path | None = None) -> None:
    """Write a file of tensors and plain values whole or not at all. UserError, with `what` and `way_on`, when it cannot
    be written. older: where the file that stands there is moved."""
    partial = file.with_name(file.name + PARTIAL)
    try:
        with open(partial, "wb") as stream:
            torch.save(content, stream)
            stream.flush()
            os.fsync(stream.fileno())
        if older is not None and file.is_file():
            file.replace(older)
        partial.replace(file)
    except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError when the disk is full
        partial.unlink(missing_ok=True)
        raise UserError(f"{what} cannot be written to {file.parent}: {error}. Free some space and {way_on}") from None


def newest_checkpoint(directory: Path) -> Path | None:
    """`last.pth`, or `previous.pth` where the run was killed between the two renames, or None."""
    return next((directory / name for name in (LAST, PREVIOUS) if (directory / name).is_file()), None)


def read_checkpoint(file: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """The contents of a checkpoint, on the CPU.

    identity: what the checkpoint says of its run. UserError: damaged, or of another run; the message names the ways on.
    """
    previous = file.parent / PREVIOUS
    way_on = f"start anew with --force, or go on from the epoch before: mv '{previous}' '{file}'"
    if file.name == PREVIOUS or not previous.is_file():
        way_on = "start anew with --force"
    checkpoint = load_whole(file, way_on)
    found = checkpoint["identity"]
    for key, value in identity.items():
        if found.get(key) != value:
            raise UserError(f"{file} is of another run ({key} is {found.get(key)}, here {value}): {way_on}")
    return checkpoint


def load_whole(file: Path, way_on: str) -> dict[str, Any]:
    """What `save_whole` wrote, on the CPU, with its `identity`. UserError, with `way_on`: damaged, or no such file."""
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        dict(content["identity"])
    except Exception as error:  # a damaged archive fails in many ways; all mean the same to its user
        reason = str(error).partition("\n")[0]
        raise UserError(f"{file} is damaged or no checkpoint ({type(error).__name__}: {reason}): {way_on}") from None
    return content
