"""The checkpoints of a run: `last.pth`, and `previous.pth` from the epoch before it.

A checkpoint is written whole to a temporary name and then renamed, so that a run killed at any moment finds a whole
one. Loading runs no code (`weights_only=True`).
"""

import os
from pathlib import Path
from typing import Any

import torch

from common.errors import UserError

LAST, PREVIOUS, PARTIAL = "last.pth", "previous.pth", "last.pth.partial"


def write_checkpoint(directory: Path, checkpoint: dict[str, Any]) -> None:
    """Write `last.pth`; the one before it stays as `previous.pth`. UserError when the disk is full."""
    partial = directory / PARTIAL
    try:
        with open(partial, "wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        if (directory / LAST).is_file():
            (directory / LAST).replace(directory / PREVIOUS)
        partial.replace(directory / LAST)
    except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError when the disk is full
        partial.unlink(missing_ok=True)
        raise UserError(
            f"the checkpoint of epoch {checkpoint['epoch']} cannot be written to {directory}: {error}. Free some space "
            "and go on from the epoch before with --resume"
        ) from None


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
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
        found = checkpoint["identity"]
    except Exception as error:  # a damaged archive fails in many ways; all mean the same to its user
        reason = str(error).partition("\n")[0]
        raise UserError(f"{file} is damaged or no checkpoint ({type(error).__name__}: {reason}): {way_on}") from None
    for key, value in identity.items():
        if found.get(key) != value:
            raise UserError(f"{file} is of another run ({key} is {found.get(key)}, here {value}): {way_on}")
    return checkpoint
