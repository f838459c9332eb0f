"""The device of a run, the precision that it computes in, and copies that the host need not wait for."""

import functools
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

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


def compute_in_full_precision(device: torch.device) -> None:
    """What is float32 is computed in float32 on a GPU (no TF32), and convolutions take cuDNN's fastest algorithm."""
    if device.type == "cuda":
        torch.backends.cuda.matmul.fp32_precision = "ieee"
        torch.backends.cudnn.conv.fp32_precision = "ieee"
        torch.backends.cudnn.rnn.fp32_precision = "ieee"
        torch.backends.cudnn.benchmark = True  # input sizes are fixed


def full_precision(device: torch.device) -> AbstractContextManager:
    """The context, within autocast, of what must not be computed in half precision."""
    return torch.autocast(device.type, enabled=False) if device.type != "meta" else nullcontext()


def to_device(values: Tensor | np.ndarray, device: torch.device) -> Tensor:
    """A CPU tensor or array on the device. A copy to a GPU goes through pinned memory, and the host does not wait."""
    return staged(values, device).to(device, non_blocking=True)


def staged(values: Tensor | np.ndarray, device: torch.device) -> Tensor:
    """A CPU tensor or array as a CPU tensor that can be copied to the device without waiting."""
    tensor = torch.as_tensor(values)
    return tensor.pin_memory() if device.type == "cuda" else tensor


@functools.cache
def constant(values: tuple, device: torch.device) -> Tensor:
    """A tensor of numbers that never change, such as a mean colour, copied to a device once."""
    with torch.inference_mode(False):  # else training could not read what scoring has made
        return torch.tensor(values, device=device)
