"""The checkpoints of a run: `last.pth`, and `previous.pth` from the epoch before it.

Checkpoints are written atomically: a run killed at any moment leaves a complete one. Loading executes no code
(`weights_only=True`).
"""

from pathlib import Path
from typing import Any

import torch

from common.errors import UserError
from common.files import written_atomically

LAST, PREVIOUS = "last.pth", "previous.pth"


def write_checkpoint(directory: Path, checkpoint: dict[str, Any]) -> None:
    """Write `last.pth` and keep the one before as `previous.pth`. UserError: the disk is full."""
    advice = f"Epoch {checkpoint['epoch']} is not saved. Free some space and resume from the epoch before with --resume"
    save_tensors(directory / LAST, checkpoint, advice, older=directory / PREVIOUS)


def save_tensors(file: Path, content: dict[str, Any], advice: str, *, older: Path | None = None) -> None:
    """Write tensors and plain values atomically. UserError, ending with `advice`, when they cannot be written.

    older: where an existing `file` is moved first.
    """
    with written_atomically(file, advice=advice) as partial:
        with open(partial, "wb") as stream:
            try:
                torch.save(content, stream)
            except RuntimeError as error:  # torch's writer raises it when the disk is full
                raise OSError(error) from None
        if older is not None and file.is_file():
            file.replace(older)


def newest_checkpoint(directory: Path) -> Path | None:
    """`last.pth`, or `previous.pth` where the run was killed between the two renames, or None."""
    return next((directory / name for name in (LAST, PREVIOUS) if (directory / name).is_file()), None)


def read_checkpoint(file: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """The contents of a checkpoint, on the CPU.

    identity: must equal the checkpoint's own. UserError, saying what can be done: damaged, or of another run.
    """
    previous = file.parent / PREVIOUS
    advice = f"start from scratch with --force, or resume from the epoch before: mv '{previous}' '{file}'"
    if file.name == PREVIOUS or not previous.is_file():
        advice = "start from scratch with --force"
    checkpoint = load_tensors(file, advice)
    found = checkpoint["identity"]
    for key, value in identity.items():
        if found.get(key) != value:
            raise UserError(f"{file} belongs to another run ({key} is {found.get(key)}, here {value}): {advice}")
    return checkpoint


def load_tensors(file: Path, advice: str) -> dict[str, Any]:
    """What `save_tensors` wrote, on the CPU, with its `identity`. UserError, with `advice`: damaged or missing."""
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        dict(content["identity"])
    except Exception as error:  # a damaged archive fails in many ways; all mean the same to the user
        reason = str(error).partition("\n")[0]
        raise UserError(f"{file} is damaged or no checkpoint ({type(error).__name__}: {reason}): {advice}") from None
    return content
