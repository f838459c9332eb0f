"""Three steps of a training run: their gradients from eq. 1 to 7, the parameters after them by hand, what is logged."""

import copy

import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook

from . import model as model_module
from . import train
from .activity import activity, watched_images
from .augmentation_test import IMAGES, chart_run, read_chart
from .losses import Batch
from .losses_test import plain_losses
from .model import CrossModalityNet, Output
from .network_test import narrow_resnet, plain_embedding, plain_output

RATES = (0.05, 0.1, 0.01)  # of the new parameters in each epoch; a tenth for the backbone's
NEW = ("necks.", "classifiers.")


class Step:
    """What an optimiser had before a step: each parameter's value and gradient."""

    def __init__(self, optimiser):
        parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        self.values = {parameter: parameter.detach().clone() for parameter in parameters}
        self.gradients = {parameter: parameter.grad for parameter in parameters if parameter.grad is not None}


def run_of_three_steps(folder, **overrides):
    """A run of three epochs of one step, its trained network, the steps, and the images that the network received."""
    schedule = {"num_epochs": 3, "warmup_epochs": 2, "decay_epochs": [2]}
    run = chart_run(folder, 4, identities_per_batch=4, **schedule, **overrides)
    steps, received = [], []

    def keep(module, inputs):
        if isinstance(module, CrossModalityNet) and module.training:
            received.append(inputs)

    hooks = [
        register_optimizer_step_pre_hook(lambda optimiser, *_: steps.append(Step(optimiser))),
        register_module_forward_pre_hook(keep),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_module, "build_resnet", narrow_resnet)
        patch.setenv("REID_DATA", str(folder))
        model = train.train(run)
    for hook in hooks:
        hook.remove()
    return run, model, steps, received


@pytest.fixture(scope="module")
def three_steps(tmp_path_factory):
    return run_of_three_steps(tmp_path_factory.mktemp("steps"))


def assert_parameters_are(model, steps, by_hand):
    """by_hand(theta, g, state, rate) -> (theta, state), step after step."""
    assert len(steps) == 3 and set(steps[0].values) == set(model.parameters())
    for name, parameter in model.named_parameters():
        theta, state = steps[0].values[parameter].double(), None
        for step, rate in zip(steps, RATES, strict=True):
            if parameter in step.gradients:
                own = rate if name.startswith(NEW) else rate / 10
                theta, state = by_hand(theta, step.gradients[parameter].double(), state, own)
        torch.testing.assert_close(
            parameter.detach().double(), theta, rtol=1e-6, atol=1e-6, msg=lambda m, n=name: n + m
        )


@pytest.mark.parametrize("nesterov", [False, True])
def test_parameters_after_three_steps_are_sgds_by_hand(three_steps, tmp_path, nesterov):
    """Sutskever et al.'s momentum of 0.9 as torch writes it; weight decay of 5e-4 is added to the gradient."""
    _, model, steps, _ = run_of_three_steps(tmp_path, nesterov=True) if nesterov else three_steps

    def by_hand(theta, gradient, velocity, rate):
        g = gradient + 5e-4 * theta
        velocity = g if velocity is None else 0.9 * velocity + g
        return theta - rate * (g + 0.9 * velocity if nesterov else velocity), velocity

    assert_parameters_are(model, steps, by_hand)


def test_parameters_after_three_steps_are_adamws_by_hand(tmp_path):
    """The demo's optimiser: Loshchilov and Hutter's Algorithm 2, weight decay at the rate."""
    _, model, steps, _ = run_of_three_steps(tmp_path, optimiser="adam")

    def by_hand(theta, g, state, rate):
        m, v, t = state or (0, 0, 0)
        m, v, t = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2, t + 1
        moved = theta * (1 - rate * 5e-4) - rate * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
        return moved, (m, v, t)

    assert_parameters_are(model, steps, by_hand)


def test_each_steps_gradient_is_that_of_eq_1_to_7(three_steps):
    """On the images that the network received, under the labels that are read from their pixels."""
    _, model, steps, received = three_steps
    plain = copy.deepcopy(model).train()
    for step, (visible, infrared) in zip(steps, received, strict=True):
        with torch.no_grad():
            for parameter, trained in zip(plain.parameters(), model.parameters(), strict=True):
                parameter.copy_(step.values[trained])
        labels = torch.tensor([read_chart(image).index // (2 * IMAGES) for image in torch.cat([visible, infrared])])
        output = Output(*plain_output(plain, visible, infrared, "full", training=True, alpha=0.5))
        batch = Batch(labels, torch.arange(len(labels)) < len(visible), torch.Generator())
        loss = plain_losses(output, batch, weight=0.5, height=288.0, width=144.0)["loss"]
        trained = {name: p for name, p in plain.named_parameters() if p.requires_grad}
        gradients = dict(zip(trained, torch.autograd.grad(loss, list(trained.values())), strict=True))
        for name, parameter in model.named_parameters():
            if name in gradients:
                error = (step.gradients[parameter] - gradients[name]).norm() / gradients[name].norm()
                assert error < 5e-3, f"{name}: {error:.2g}"


def test_a_test_feature_is_of_the_normalised_image(three_steps):
    run, model, _, _ = three_steps
    bytes_ = torch.randint(0, 256, (4, 3, 64, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
    plain = copy.deepcopy(model).eval()
    plain.requires_grad_(False)
    for modality, embed in train.embedders(model.eval(), run).items():
        expected = plain_embedding(plain, (bytes_ / 255 - mean) / std, modality, "full", alpha=0.5)
        torch.testing.assert_close(embed(bytes_), expected, rtol=1e-3, atol=1e-5)


def test_each_epoch_logs_where_the_sub_networks_look_on_test_images(three_steps, tmp_path, monkeypatch):
    run, model, _, _ = three_steps
    assert [entry["epoch"] for entry in run.history.log] == [1, 2, 3]
    assert len({entry["distance"] for entry in run.history.log}) == 3
    monkeypatch.setenv("REID_DATA", str(tmp_path))
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
    normalised = {modality: (images / 255 - mean) / std for modality, images in watched_images(run).items()}
    expected = activity(model, normalised, run.settings)
    assert len(expected) == 14
    assert {name: run.history.log[-1][name] for name in expected} == pytest.approx(expected, rel=1e-3)


def test_the_same_seed_has_the_same_steps(three_steps, tmp_path):
    _, model, steps, received = three_steps
    torch.rand(1)  # whatever was drawn before
    _, again, steps_again, received_again = run_of_three_steps(tmp_path)
    for name, parameter in again.named_parameters():
        start = next(p for own, p in model.named_parameters() if own == name)
        assert torch.equal(steps_again[0].values[parameter], steps[0].values[start]), name
    pairs = zip(torch.cat([*map(torch.cat, received)]), torch.cat([*map(torch.cat, received_again)]), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


def test_another_seed_has_other_batches_crops_and_weights_to_start_from(three_steps, tmp_path):
    drawn = []
    for _, model, steps, received in (three_steps, run_of_three_steps(tmp_path, seed=1)):
        found = [read_chart(image) for image in torch.cat(received[0])]
        crops = {image.index: (image.top, image.left, image.flipped) for image in found}
        start = {name: steps[0].values[p] for name, p in model.named_parameters() if p.ndim > 1}
        drawn.append(([image.index for image in found], crops, start))
    (order, crops, start), (other_order, other_crops, other_start) = drawn
    assert order != other_order
    shared = crops.keys() & other_crops.keys()
    assert len(shared) > 20 and sum(crops[index] == other_crops[index] for index in shared) < len(shared) / 4
    assert not [name for name in start if torch.equal(start[name], other_start[name])]
