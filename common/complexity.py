"""How large a model is: multiply-accumulates of one forward pass and parameters, as papers' complexity tables state.

ResNet-50 of re-ID (last stride 1) on one 256x128 image needs 4.06 G multiply-accumulates, which most papers
call "FLOPs"; counted as additions and multiplications they would be twice as many.
"""

import copy

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def count_macs(model: nn.Module, *inputs: Tensor) -> int:
    """Multiply-accumulates of `model(*inputs)` in evaluation mode, for the whole batch given.

    Counted are convolutions, matrix products (linear layers, einsum, recurrent layers of any direction) and attention;
    not counted are biases, norms, activations and pooling. Nothing is computed and the model is left as it is: a copy
    runs on torch's `meta` device, which knows shapes only. So a forward pass whose shapes depend on the values (boolean
    masks, `nonzero`, `item`) raises torch's NotImplementedError or RuntimeError.
    """
    shapes_only = copy.deepcopy(model).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shapes_only(*(tensor.to("meta") for tensor in inputs))
    return counter.get_total_flops() // 2  # one multiply-accumulate counts as two operations there


def count_parameters(model: nn.Module) -> int:
    """Numbers in all parameters, frozen ones too; one that two modules share counts once. Buffers do not count."""
    return sum(parameter.numel() for parameter in model.parameters())
