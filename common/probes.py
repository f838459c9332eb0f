"""What a network's modules put out, read or replaced from outside through forward hooks; the network is not changed.

A gate is watched at an `nn.Identity` through which the module passes it. Outputs are single tensors, images first.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn

SATURATED = 0.01  # a sigmoid's output within this of 0 or 1 passes next to no gradient


@contextmanager
def outputs_of(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Inside, {submodule's name: its last output, detached}, filled as the network runs."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable:
        return lambda _module, _inputs, output: found.__setitem__(name, output.detach())

    with _hooked(model, {name: keep(name) for name in names}):
        yield found


@contextmanager
def replaced_outputs(model: nn.Module, replace: Mapping[str, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Inside, a submodule puts out what its function makes of its output."""

    def hook(own: Callable[[Tensor], Tensor]) -> Callable:
        return lambda _module, _inputs, output: own(output)

    with _hooked(model, {name: hook(own) for name, own in replace.items()}):
        yield


@contextmanager
def _hooked(model: nn.Module, hooks: Mapping[str, Callable]) -> Iterator[None]:
    with ExitStack() as stack:
        for name, hook in hooks.items():
            stack.callback(model.get_submodule(name).register_forward_hook(hook).remove)
        yield


def frozen_to(mean: Tensor) -> Callable[[Tensor], Tensor]:
    """Every image gets the same output. mean: of the shape of one image's output."""
    return lambda output: mean.to(output).expand_as(output)


def shuffled(output: Tensor) -> Tensor:
    """Every image gets the output of the one half a batch further on."""
    return output.roll(len(output) // 2, 0)


def gate_statistics(gates: Tensor) -> dict[str, float]:
    """Of all values in (0, 1): `mean`, `spread` (standard deviation), and the `saturated` share, near 0 or 1."""
    gates = gates.float()
    near = (gates < SATURATED) | (gates > 1 - SATURATED)
    return {
        "mean": gates.mean().item(),
        "spread": gates.std().item(),
        "saturated": near.float().mean().item(),
    }


def deviation_over_images(outputs: Tensor) -> float:
    """How much outputs (B, ...) differ between images: the root mean square of their standard deviations over B."""
    return outputs.float().flatten(1).std(0).square().mean().sqrt().item()
