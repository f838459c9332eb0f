"""Training in several processes started by torchrun. In a single process every function is trivial.

P x K is the global batch. Each rank takes its share of the identities, triplets are mined in the global batch (features
are gathered with their gradient), and DistributedDataParallel averages the gradients. Each rank has its own batch-norm
statistics. Shapes: b images of a rank, B = world_size * b of the global batch.
"""

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from common.errors import on_user_error

PATIENCE = timedelta(hours=3)  # of processes that wait for one that decodes or re-ranks a large data set


def rank() -> int:
    """This process's number; torchrun sets RANK."""
    return int(os.environ.get("RANK", 0))


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", 1))


def place(rank_given: int | None, world_size_given: int | None) -> tuple[int, int]:
    """A rank and a world size: those given, else this process's."""
    return (
        rank() if rank_given is None else rank_given,
        world_size() if world_size_given is None else world_size_given,
    )


def is_main() -> bool:
    """Whether this process writes files and prints."""
    return rank() == 0


def initialise(device: torch.device) -> torch.device:
    """Join the process group if torchrun started one. Returns this process's device: its own GPU, or the CPU."""
    if world_size() > 1:
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(device)
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
            atexit.register(dist.destroy_process_group)
            _share_user_errors()
    return device


def _share_user_errors() -> None:
    """From now on, a UserError of one process ends all of them with its message and exit code 2.

    The others may be waiting for the failed process within a collective operation, where Python handles no signal;
    therefore a thread of each process waits for the message, through connections of its own.
    """
    address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    to_send, to_receive = (dist.TCPStore(*address, timeout=timedelta(days=365)) for _ in range(2))
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    message_key, ended_key = f"user_error_{restart}", f"user_error_ended_{restart}"
    failed = threading.Event()

    def send(message: str) -> None:
        failed.set()
        to_send.set(message_key, f"error: {message} (process {rank()})")
        to_send.add(ended_key, 1)
        deadline = time.monotonic() + 5  # torchrun kills the others as soon as this process has ended
        while to_send.add(ended_key, 0) < world_size() and time.monotonic() < deadline:
            time.sleep(0.05)

    def receive() -> None:
        try:
            message = to_receive.get(message_key).decode()  # waits for it
        except RuntimeError:  # the store has been closed: torchrun ends
            return
        if not failed.is_set():
            print(message, file=sys.stderr, flush=True)
            to_receive.add(ended_key, 1)
            os._exit(2)

    on_user_error.append(send)
    threading.Thread(target=receive, daemon=True).start()


def parallel(model: nn.Module, device: torch.device) -> nn.Module:
    """Wrap the model so that its backward pass averages gradients over ranks; unchanged in a single process."""
    if world_size() == 1:
        return model
    return nn.parallel.DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)


def share_buffers(*modules: Any) -> None:
    """Give every rank the buffers of rank 0: each has its own batch-norm statistics, and a network must score alike on
    all. What is no module is left as it is."""
    if world_size() > 1:
        for module in modules:
            for buffer in module.buffers() if isinstance(module, nn.Module) else ():
                dist.broadcast(buffer.data, 0)


def gather_with_gradient(features: Tensor) -> Tensor:
    """(b, ...) of each rank -> (B, ...), the same on every rank.

    When every rank computes the same loss of the gathered features, each rank gets world_size times its part of the
    gradient. `parallel` averages over ranks, which leaves the gradient that one process would have.
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


def gather_batches(own: dict[int, Tensor]) -> dict[int, Tensor]:
    """Every rank's tensors by their numbers, on the device of this rank's own."""
    if world_size() == 1:
        return own
    device = next(iter(own.values())).device if own else torch.device("cpu")
    parts = gather_objects({number: tensor.cpu() for number, tensor in own.items()})
    return {number: tensor.to(device) for part in parts for number, tensor in part.items()}


def from_main(compute: Callable[[], Any]) -> Any:
    """What the main process computes, with all cores, given to all processes; the others wait."""
    if world_size() == 1:
        return compute()
    found = [None]
    if is_main():
        threads = torch.get_num_threads()  # torchrun gives each process one
        torch.set_num_threads(os.cpu_count() or 1)
        try:
            found = [compute()]
        finally:
            torch.set_num_threads(threads)
    dist.broadcast_object_list(found)
    return found[0]


def mean(value: float, device: torch.device) -> float:
    """The mean of a number over ranks."""
    if world_size() == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return total.item() / world_size()


def barrier() -> None:
    if world_size() > 1 and dist.is_initialized():
        dist.barrier()


@contextmanager
def main_process_first() -> Iterator[None]:
    """Rank 0 runs the block before the others, for example to write files that they then read."""
    if not is_main():
        barrier()
    try:
        yield
    finally:  # an error that rank 0 handles itself must not leave the others waiting
        if is_main():
            barrier()
