"""The NDEM's other readings: one direction, and the weight decay of its parameters."""

from pathlib import Path

import numpy as np
import pytest
import torch

from common.runs.settings import load_settings

from .model import NDMFNet, NeighboringPartDependency, SpatialAttention
from .model_test import lstm_direction, sigmoid
from .settings import Settings
from .train import build_optimiser


def settings_of(**overrides):
    folder = Path(__file__).parent
    overrides = {"pretrained": "none", "lstm_hidden_size": 4, "dependency_size": 5} | overrides
    return load_settings(Settings, folder, dataset="market1501", demo=True, variant="full", overrides=overrides)


def states_of(lstm, sequence):
    return lstm_direction([parameter.detach().numpy() for parameter in lstm.parameters()], sequence)


def test_one_direction_concatenates_the_states_of_both_layers():
    torch.manual_seed(0)
    module = NeighboringPartDependency(3, (8, 2), settings_of(num_parts=4, lstm_directions=1)).double()
    x = torch.randn(2, 3, 8, 2, dtype=torch.float64)
    output = module(x).detach().numpy()
    for b in range(2):
        first = states_of(module.lstm[0], [part.reshape(-1) for part in np.split(x[b].numpy(), 4, axis=1)])
        second = states_of(module.lstm[1], first)
        states = np.concatenate([np.concatenate(pair) for pair in zip(first, second, strict=True)])
        np.testing.assert_allclose(output[b], sigmoid(module.linear.weight.detach().numpy() @ states), atol=1e-12)
    inputs = module.lstm[0].weight_ih_l0
    assert inputs.abs().max() <= inputs.shape[1] ** -0.5, "initialised by its fan-in"


def test_sams_gates_start_at_one_half_and_learn():
    module, x = SpatialAttention(), torch.rand(2, 6, 5, 4)
    torch.testing.assert_close(module(x), x / 2)
    module(x).square().mean().backward()
    assert (module.convolution.weight.grad != 0).all()


@pytest.mark.parametrize("way", ["coupled", "decoupled", "none"])
def test_the_ndems_decay_is_as_named_and_that_of_the_rest_is_always_coupled(way):
    torch.manual_seed(0)
    settings = settings_of(dependency_decay=way)
    model = NDMFNet(3, settings)
    optimiser = build_optimiser(model, settings, fused=False)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    gradients = {}
    for name, parameter in model.named_parameters():
        parameter.grad = gradients[name] = 1e-6 * torch.randn_like(parameter)
    optimiser.step()
    rate, decay = settings.learning_rate, 5e-4
    for name, parameter in model.named_parameters():
        own = way if name.startswith("dependency") else "coupled"
        gradient = gradients[name] + (decay * before[name] if own == "coupled" else 0)
        start = before[name] * (1 - rate * decay) if own == "decoupled" else before[name]
        expected = start - rate * gradient / (gradient.abs() + 1e-8)  # Adam's first step: m / sqrt(v) is the sign
        torch.testing.assert_close(parameter, expected, atol=1e-7, rtol=1e-4)
    assert sum(len(group["params"]) for group in optimiser.param_groups) == len(before)
