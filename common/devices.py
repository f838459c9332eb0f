"""The device of a run and the precision that it computes in."""

import sys
from pathlib import Path

import torch

from common.errors import UserError

NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
UNUSABLE_GPU = (
    f"there is a GPU, but torch {torch.__version__} cannot use it; its driver may be too old for this build. "
    "Update the driver, or install another build of torch: make TORCH_INDEX=https://download.pytorch.org/whl/cu126"
)


def select_device(name: str) -> torch.device:
    """`auto` (a GPU if torch can use one, else the CPU), `cpu`, `cuda` or `cuda:N`."""
    if name == "auto":
        if not torch.cuda.is_available() and NVIDIA_DRIVER.is_file():
            print(f"using the CPU: {UNUSABLE_GPU}", file=sys.stderr)
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"unknown device '{name}': auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        problem = UNUSABLE_GPU if NVIDIA_DRIVER.is_file() else f"torch {torch.__version__} finds no GPU here"
        raise UserError(f"--device {name}: {problem}. Use --device cpu (make: DEVICE=cpu)")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {name}: there are {torch.cuda.device_count()} GPUs, counted from 0")
    return device


def select_precision(setting: str, device: torch.device) -> str:
    """`auto` -> bf16 where the device computes it natively, else fp16 on a GPU and fp32 on a CPU."""
    if setting != "auto":
        return setting
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"  # Ampere and later
    # torch has no public function for these two checks.
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if native else "fp32"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which the network runs at the given precision (weights and losses stay float32)."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")
