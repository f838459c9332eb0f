"""Four optimiser steps of a training run, worked out by hand: the gradients, SGD's steps and the logged losses."""

import copy

import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook

from . import model as model_module
from . import train
from .augmentation_test import IDENTITIES, IMAGES, STD, chart_run, mean_chart, pixels_of, read_chart  # noqa: F401
from .losses_test import plain_losses
from .model import MutualAttentionNet
from .network_test import SMALL, narrow_resnet, plain_network

SETS = {"pairs_per_batch": 32, "dropout": 0.0, "descriptor_size": 6, "erasing_probability": 0.0}
SCHEDULE = {"num_epochs": 2, "decay_start": 1, "decay_end": 2}  # two steps each, at 1e-2 and 1e-3


class Step:
    """What an optimiser had before a step: each parameter's value and gradient."""

    def __init__(self, optimiser):
        parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        self.values = {parameter: parameter.detach().clone() for parameter in parameters}
        self.gradients = {parameter: parameter.grad.clone() for parameter in parameters}


def trained(folder, **overrides):
    """A run, its trained network, the steps, and the images that the network received in each."""
    run = chart_run(folder, **SMALL | SETS | SCHEDULE | overrides)
    steps, received = [], []
    hooks = [
        register_optimizer_step_pre_hook(lambda optimiser, *_: steps.append(Step(optimiser))),
        register_module_forward_pre_hook(
            lambda module, inputs: (
                received.append(inputs) if isinstance(module, MutualAttentionNet) and module.training else None
            )
        ),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_module, "build_resnet", narrow_resnet)
        patch.setenv("REID_DATA", str(folder))
        model = train.train(run)
    for hook in hooks:
        hook.remove()
    return run, model, steps, received


@pytest.fixture(scope="module")
def four_steps(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("steps"))


def identities_of(images, mean):
    """Read from the blue channel, which mirroring leaves: its median, less speckles, names the image."""
    blue = (images.double() * torch.tensor(STD).view(3, 1, 1) * 255 + mean)[:, 2].flatten(1).median(1).values
    return (((blue + 0.01 - 20) / 3).floor().long()) // IMAGES


def test_parameters_after_the_steps_are_sgds_by_hand(four_steps):
    """With momentum 0.9; weight decay 5e-4 is added to the gradient."""
    _, model, steps, _ = four_steps
    assert len(steps) == 4 and set(steps[0].values) == set(model.parameters())
    for name, parameter in model.named_parameters():
        theta, velocity = steps[0].values[parameter].double(), 0
        for step, rate in zip(steps, (1e-2, 1e-2, 1e-3, 1e-3), strict=True):
            velocity = 0.9 * velocity + step.gradients[parameter].double() + 5e-4 * theta
            theta = theta - rate * velocity
        torch.testing.assert_close(
            parameter.detach().double(), theta, rtol=1e-5, atol=1e-6, msg=lambda m, n=name: n + m
        )


def test_each_steps_gradient_is_that_of_eq_1_to_13(four_steps):
    """On the images that the network received, under identities that are read from their pixels."""
    run, model, steps, received = four_steps
    mean = torch.tensor(sum(pixels_of(i).astype(float) for i in range(IDENTITIES * IMAGES)) / (IDENTITIES * IMAGES))
    plain = copy.deepcopy(model).double().train()
    assert len(received) == 4
    for step, (first, second) in zip(steps, received, strict=True):
        with torch.no_grad():
            for parameter, trained in zip(plain.parameters(), model.parameters(), strict=True):
                parameter.copy_(step.values[trained])
        identities = [identities_of(images, mean.permute(2, 0, 1)) for images in (first, second)]
        images = torch.cat([first, second]).double()
        logits = plain_network(plain, images, run.settings, training=True)
        same = (identities[0] == identities[1]).tolist()
        assert sum(same) == 16
        loss = plain_losses(*logits, torch.cat(identities).tolist(), same)["loss"]
        gradients = torch.autograd.grad(loss, list(plain.parameters()))
        for (name, trained), expected in zip(model.named_parameters(), gradients, strict=True):
            error = (step.gradients[trained] - expected).norm() / (expected.norm() + 1e-9)
            assert error < 2e-3, f"{name}: {error}"


def test_the_network_is_trained_in_training_mode_and_logged_in_bounds(four_steps):
    run, model, _, _ = four_steps
    assert model.training
    assert [entry["epoch"] for entry in run.history.log] == [1, 2]
    for entry in run.history.log:
        total = 0.5 * entry["verification_loss"] + entry["identification_loss"]
        assert entry["loss"] == pytest.approx(total, rel=1e-5)


def test_another_seed_has_other_pairs_flips_and_starting_weights(four_steps, tmp_path, mean_chart, monkeypatch):  # noqa: F811
    monkeypatch.setattr(model_module, "build_resnet", narrow_resnet)
    drawn = []
    for run, model, steps, received in (four_steps, trained(tmp_path, seed=1, num_epochs=1)):
        pairs = [[read_chart(image, mean_chart) for image in images] for images in received[0]]
        start = {name: steps[0].values[p] for name, p in model.named_parameters() if p.ndim > 1}
        run.seed_epoch(0)
        fresh = dict(MutualAttentionNet(IDENTITIES, run.settings).named_parameters())
        for name, weight in start.items():
            torch.testing.assert_close(weight, fresh[name], rtol=0, atol=0, msg=name)
        indices, flips = ([[image[part] for image in half] for half in pairs] for part in (0, 1))
        drawn.append((*indices, *flips, start))
    (*of_seed_0, start), (*of_seed_1, other_start) = drawn
    assert all(one != other for one, other in zip(of_seed_0, of_seed_1, strict=True))
    assert not [name for name in start if torch.equal(start[name], other_start[name])]
