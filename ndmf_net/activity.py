"""What the modules do: their gates, the deviation of f_D over images, and its shares in f_F. Logged after each epoch,
so that a module that has died is seen."""

import torch
from torch import Tensor

from common import probes

from .model import NDMFNet

STAGES = (1, 3)
ATTENTION = ("pcam", "sam")


def gates_of(model: NDMFNet) -> dict[str, str]:
    """{name in the log: submodule} of the gates of every attention that the network has."""
    return {
        f"{kind}{stage}": f"attention{stage}.{kind}.gates"
        for kind in ATTENTION
        for stage in STAGES
        if hasattr(getattr(model, f"attention{stage}"), kind)
    }


def dependencies_of(model: NDMFNet) -> dict[str, str]:
    """{name in the log: submodule} of the NDEMs."""
    names = {f"f_D{stage}": f"dependency{stage}" for stage in STAGES}
    return {name: module for name, module in names.items() if getattr(model, module) is not None}


def carriers_of(model: NDMFNet) -> dict[str, list[str]]:
    """{row of `what each module carries`: its submodules}."""
    rows = {f"{name[:-1].upper()} after layer{name[-1]}": [module] for name, module in gates_of(model).items()}
    dependencies = dependencies_of(model)
    rows |= {f"NDEM after layer{name[-1]}": [module] for name, module in dependencies.items()}
    return rows | ({"both NDEMs": list(dependencies.values())} if dependencies else {})


@torch.no_grad()
def activity(model: NDMFNet, images: Tensor) -> dict[str, float]:
    """Of the network in evaluation mode on images (B, 3, H, W), normalised; it is left in the mode in which it was.

    `<gates>_mean`, `_spread` and `_saturated` as in `gate_statistics`; `f_B_deviation`, `f_D1_deviation`,
    `f_D3_deviation` as in `deviation_over_images`; `f_D1_weights`, `f_D3_weights`: the root mean square of the LSTM's
    weights, biases left out, which falls to 0 where weight decay wins; `f_D_share`: the part of f_D's term in the sum
    of both terms' variances in f_F (eq. 10); `f_D1_share`, `f_D3_share`: that of each NDEM's own term in the same sum
    (they add up to `f_D_share` but for twice their covariance).
    """
    gates, dependencies, training = gates_of(model), dependencies_of(model), model.training
    watched = [*gates.values(), *dependencies.values(), "backbone.layer4"]
    with probes.outputs_of(model.eval(), watched) as found:
        model(images)
    model.train(training)
    f_B = found["backbone.layer4"].float().mean((2, 3))
    values = {"f_B_deviation": probes.deviation_over_images(f_B)}
    for name, module in gates.items():
        values |= {f"{name}_{key}": value for key, value in probes.gate_statistics(found[module]).items()}
    values |= {
        f"{name}_deviation": probes.deviation_over_images(found[module]) for name, module in dependencies.items()
    }
    for name, module in dependencies.items():
        matrices = [p.detach().flatten() for p in model.get_submodule(module).lstm.parameters() if p.dim() == 2]
        values[f"{name}_weights"] = torch.cat(matrices).float().square().mean().sqrt().item()
    if dependencies:
        outputs = {name: found[module].float() for name, module in dependencies.items()}
        outputs["f_D"] = sum(outputs.values())
        from_B, from_D = model.fusion.weight.float().tensor_split([f_B.shape[1]], dim=1)
        of_B = probes.deviation_over_images(f_B @ from_B.T) ** 2
        variances = {name: probes.deviation_over_images(f @ from_D.T) ** 2 for name, f in outputs.items()}
        values |= {f"{name}_share": variance / (of_B + variances["f_D"]) for name, variance in variances.items()}
    return values
