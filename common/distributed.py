"""Several processes, started by torchrun; every function does nothing special in a single process.

P x K is the global batch: each rank takes its share of the identities, triplets are mined in the whole of it (features
are gathered with their gradient), and gradients are averaged by DistributedDataParallel. Batch norm's statistics are
each rank's own. Shapes: b images of a rank, B = world_size * b of the global batch.
"""

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def rank() -> int:
    """This process's number; torchrun sets RANK."""
    return int(os.environ.get("RANK", 0))


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", 1))


def is_main() -> bool:
    """Whether this process writes files and speaks."""
    return rank() == 0


def initialise(device: torch.device) -> torch.device:
    """Join the other processes, if torchrun started several. Returns this process's device: its own GPU, or the CPU."""
    if world_size() > 1:
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(device)
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
            atexit.register(dist.destroy_process_group)
    return device


def parallel(model: nn.Module, device: torch.device) -> nn.Module:
    """The model whose backward pass averages gradients over ranks; the model itself in a single process."""
    if world_size() == 1:
        return model
    return nn.parallel.DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)


def gather_with_gradient(features: Tensor) -> Tensor:
    """(b, ...) of each rank -> (B, ...), the same on every rank.

    A loss of the gathered features, computed alike on every rank, gives each rank world_size times its part of the
    gradient, which the averaging of `parallel` then divides by world_size: the gradient of that loss in one process.
    """
    if world_size() == 1:
        return features
    from torch.distributed.nn.functional import all_gather

    return torch.cat(all_gather(features.contiguous()))


def gather(values: Tensor) -> Tensor:
    """(b, ...) of each rank -> (B, ...), without a gradient."""
    if world_size() == 1:
        return values
    gathered = [torch.empty_like(values) for _ in range(world_size())]
    dist.all_gather(gathered, values.contiguous())
    return torch.cat(gathered)


def gather_objects(value: Any) -> list[Any]:
    """Every rank's value, in the order of ranks."""
    if world_size() == 1:
        return [value]
    gathered: list[Any] = [None] * world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def mean(value: float, device: torch.device) -> float:
    """The mean of a number over ranks."""
    if world_size() == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return total.item() / world_size()


def barrier() -> None:
    """Wait for all ranks."""
    if world_size() > 1 and dist.is_initialized():
        dist.barrier()


@contextmanager
def main_process_first() -> Iterator[None]:
    """Rank 0 goes through the block first, alone, as where files are made that the others then read."""
    if not is_main():
        barrier()
    yield
    if is_main():
        barrier()
