"""The size of a model: parameters and multiply-accumulates of one forward pass, as in papers' complexity tables.

The ResNet-50 of re-ID (last stride 1) needs 4.06 G multiply-accumulates for one 256x128 image. Most papers call them
"FLOPs"; additions and multiplications counted separately would be twice as many.
"""

import copy

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def count_macs(model: nn.Module, *inputs: Tensor) -> int:
    """Multiply-accumulates of `model(*inputs)` in evaluation mode, for the whole batch given.

    Counts convolutions, matrix products (linear layers, einsum, recurrent layers of any direction) and attention, but
    not biases, norms, activations and pooling. Nothing is computed and the model is unchanged: a copy runs on torch's
    `meta` device, which tracks shapes only. A forward pass whose shapes depend on values (boolean masks, `nonzero`,
    `item`) therefore raises torch's NotImplementedError or RuntimeError.
    """
    shapes_only = copy.deepcopy(model).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shapes_only(*(tensor.to("meta") for tensor in inputs))
    return counter.get_total_flops() // 2  # one multiply-accumulate counts as two operations there


def model_size(model: nn.Module, *inputs: Tensor) -> dict[str, int]:
    """`num_parameters`, and `macs` of `model(*inputs)`, as result records have them."""
    return {"num_parameters": count_parameters(model), "macs": count_macs(model, *inputs)}


def count_parameters(model: nn.Module) -> int:
    """Elements of all parameters, frozen ones included; a shared parameter counts once. Buffers do not count."""
    return sum(parameter.numel() for parameter in model.parameters())
