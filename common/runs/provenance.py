"""The commit and the machine behind a result."""

import os
import platform
import subprocess
from pathlib import Path

import torch

from common.paths import REPOSITORY


def source_commit() -> dict:
    """The checked-out commit and whether files differ from it; both None outside a git checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(REPOSITORY), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "uncommitted_changes": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "uncommitted_changes": None}


def describe_machine(device: torch.device, precision: str, processes: int = 1) -> dict:
    """What a record says about the machine; no host or user names."""
    return {
        "device": device.type,
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "precision": precision,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processes": processes,
    }


def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
