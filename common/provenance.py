"""Where a number came from: the source, the commit and the machine that made it."""

import hashlib
import importlib
import os
import platform
import subprocess
from pathlib import Path

import torch

REPOSITORY = Path(__file__).resolve().parents[1]


def paper_folder(paper: str) -> Path:
    return Path(importlib.import_module(paper).__path__[0])


def source_hash(paper: str) -> str:
    """16 hex digits over the Python source of the paper's folder and of common/, tests left out."""
    digest = hashlib.sha256()
    for folder in (paper_folder(paper), REPOSITORY / "common"):
        for file in sorted(folder.rglob("*.py")):
            if not file.name.endswith("_test.py"):
                digest.update(file.relative_to(folder).as_posix().encode() + b"\n" + file.read_bytes())
    return digest.hexdigest()[:16]


def source_commit() -> dict:
    """The commit that ran and whether files differed from it; null outside a git checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(REPOSITORY), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "uncommitted_changes": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "uncommitted_changes": None}


def describe_machine(device: torch.device, precision: str) -> dict:
    """What a record says of the machine that made it; no names of hosts or users."""
    return {
        "device": device.type,
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "precision": precision,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
