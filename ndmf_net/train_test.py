"""The training loop: its gradients and Adam's steps worked out by hand, and what scoring sees."""

import copy
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook

from common.datasets import READERS
from common.datasets.synthetic import make_dataset
from common.metrics import score_features

from . import model as model_module
from . import train
from .augmentation_test import IMAGES, MEAN, STD, MeanColour, chart, chart_run, read_chart
from .losses import Batch, losses
from .losses_test import plain_losses
from .model import NDMFNet
from .model_test import ROWS, settings_of
from .network_test import SMALL, narrow_resnet, plain_network


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with a tiny Market-1501."""
    folder = tmp_path_factory.mktemp("tiny")
    make_dataset(folder / "market1501", size="tiny", processes=1)
    return folder


class Step:
    """What an optimiser had before a step: its groups, and each parameter's value and gradient."""

    def __init__(self, optimiser):
        self.groups = [{name: v for name, v in group.items() if name != "params"} for group in optimiser.param_groups]
        parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        self.values = {parameter: parameter.detach().clone() for parameter in parameters}
        self.gradients = {parameter: parameter.grad.clone() for parameter in parameters}


@pytest.fixture(scope="module")
def three_steps(tmp_path_factory):
    """A run of three epochs of one step, its trained network, the steps, and the images that the network received."""
    folder = tmp_path_factory.mktemp("steps")
    schedule = {"num_epochs": 3, "warmup_epochs": 1, "decay_epochs": [2]}
    run = chart_run(folder, 5, identities_per_batch=4, **SMALL, **schedule)
    steps, received = [], []
    hooks = [
        register_optimizer_step_pre_hook(lambda optimiser, *_: steps.append(Step(optimiser))),
        register_module_forward_pre_hook(
            lambda module, inputs: (
                received.append(inputs[0]) if isinstance(module, NDMFNet) and module.training else None
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


def test_parameters_after_three_steps_are_adams_by_hand(three_steps):
    """Kingma and Ba's Algorithm 1; weight decay is added to the gradient."""
    _, model, steps, _ = three_steps
    assert len(steps) == 3 and set(steps[0].values) == set(model.parameters())
    for name, parameter in model.named_parameters():
        theta, m, v = steps[0].values[parameter].double(), 0, 0
        for t, (step, rate) in enumerate(zip(steps, (3.5e-5, 3.5e-4, 3.5e-5), strict=True), start=1):
            g = step.gradients[parameter].double() + 5e-4 * theta
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            theta = theta - rate * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
        torch.testing.assert_close(parameter.detach().double(), theta, rtol=0, atol=4e-7, msg=lambda m, n=name: n + m)


def test_the_first_weights_are_those_of_the_seed(three_steps, monkeypatch):
    run, model, steps, _ = three_steps
    monkeypatch.setattr(model_module, "build_resnet", narrow_resnet)
    run.seed_epoch(0)
    expected = NDMFNet(run.dataset.train.num_identities, run.settings)
    for (name, parameter), trained in zip(expected.named_parameters(), model.parameters(), strict=True):
        assert torch.equal(parameter, steps[0].values[trained]), name


def test_each_steps_gradient_is_that_of_eq_1_to_14(three_steps):
    """On the images that the network received, under the labels that are read from their pixels."""
    _, model, steps, received = three_steps
    plain = copy.deepcopy(model).double().train()
    for step, images in zip(steps, received, strict=True):
        with torch.no_grad():
            for parameter, trained in zip(plain.parameters(), model.parameters(), strict=True):
                parameter.copy_(step.values[trained])
        labels = torch.tensor([read_chart(image).index // IMAGES for image in images])
        feature, _, logits = plain_network(plain, images.double(), "full", N=3, bnneck=False, training=True)
        loss = plain_losses(feature, logits, labels)["loss"]
        gradients = torch.autograd.grad(loss, list(plain.parameters()))
        for (name, trained), expected in zip(model.named_parameters(), gradients, strict=True):
            error = (step.gradients[trained] - expected).norm() / expected.norm()
            assert error < 1e-3, f"{name}: {error}"


def test_a_test_feature_is_of_the_normalised_image(three_steps):
    run, model, _, _ = three_steps
    pixels = np.stack([chart(3), chart(19)])
    found = train.embedder(model.eval(), run)(torch.from_numpy(pixels.transpose(0, 3, 1, 2)))
    images = torch.from_numpy(((pixels / 255 - MEAN) / STD).transpose(0, 3, 1, 2))
    plain = copy.deepcopy(model).double().eval()
    _, compared, _ = plain_network(plain, images, "full", N=3, bnneck=False, training=False)
    expected = compared / compared.norm(dim=1, keepdim=True)
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-5)


def test_scoring_sees_each_test_image_once_as_it_is_and_leaves_the_network_alone(root, tmp_path, monkeypatch):
    MeanColour.received = []
    monkeypatch.setattr(train, "NDMFNet", MeanColour)
    monkeypatch.setattr(train, "activity", lambda *_: {})  # MeanColour has no modules
    monkeypatch.setenv("REID_DATA", str(tmp_path))
    words = ["--demo", "--data-root", str(root), "--device", "cpu", "--run-dir", str(tmp_path / "run"), "--set"]
    train.main([*words, "height=64", "width=32", "num_parts=4", "identities_per_batch=4", "num_epochs=1"])
    scored = torch.cat([images for training, images in MeanColour.received if not training])
    dataset = READERS["market1501"].read(root / "market1501", "market1501")
    files = [sample.path for subset in (dataset.query, dataset.gallery) for sample in subset.samples]
    expected = []
    for file in files:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB").resize((32, 64), Image.Resampling.BILINEAR))
        expected.append(((pixels / 255 - MEAN) / STD).transpose(2, 0, 1))
    np.testing.assert_allclose(scored.numpy(), np.stack(expected), atol=1e-5)
    features = torch.from_numpy(np.stack(expected).mean((2, 3)))
    features = (features / features.norm(dim=1, keepdim=True)).split([len(dataset.query), len(dataset.gallery)])
    labels = [dataset.query.persons, dataset.gallery.persons, dataset.query.cameras, dataset.gallery.cameras]
    scores = json.loads((tmp_path / "run" / "result.json").read_text())["scores"]
    assert scores["mAP"] == pytest.approx(score_features(*features, *labels).mAP, abs=1e-6)


# ------------------------------------------------------------------ what drives each parameter

# The NDEMs' parameters that weight decay pulls harder than the loss does at the start of training `full` with
# `dependency_gain: 1`, as nn.LSTM and nn.Linear start: nearly all, so that decay shrinks them before they have learned.
DECAYED = [f"dependency{stage}.linear.weight" for stage in (1, 3)] + [
    f"dependency{stage}.lstm.{kind}_l{layer}{direction}"
    for stage in (1, 3)
    for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    for layer in (0, 1)
    for direction in ("", "_reverse")
    if (stage, kind, layer) != (1, "weight_ih", 0)
]
LARGER = [name for name in DECAYED if "linear" in name or "weight_ih_l1" in name]  # those that the gain makes larger


def decayed(root, variant, *, bnneck=False, seed=1, **overrides):
    """Names of the trained parameters whose gradient under eq. 14 has a smaller rms than 5e-4 times the weight, the
    pull of weight decay in the same sum; on synthetic pedestrians, from the demo's starting weights."""
    subset = READERS["market1501"].read(root / "market1501", "market1501").train
    settings = settings_of(variant, height=64, width=32, num_parts=4, bnneck=bnneck, cache=False, **overrides)
    chosen = np.concatenate([np.flatnonzero(subset.labels == label)[:2] for label in range(8)])
    images = train.ImageStore(subset, 64, 32, cache=False).gather(chosen)
    torch.manual_seed(seed)
    model = NDMFNet(8, settings).train()
    labels = torch.from_numpy(subset.labels[chosen])
    losses(model(train.prepared(images)), Batch(labels), settings)["loss"].backward()
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert set(dict(model.named_parameters())) - set(trained) <= {"neck.bias"}  # frozen at zero, as the neck defines
    return {name for name, weight in trained.items() if not weight.grad.norm() > 5e-4 * weight.norm()}


@pytest.mark.parametrize(
    ("variant", "bnneck", "classifier"),
    [*((variant, False, "normal") for variant in ROWS[:-1]), ("full", True, "normal"), ("full", True, "resnet")],
)
def test_the_loss_drives_every_parameter_outside_ndem_harder_than_weight_decay(root, variant, bnneck, classifier):
    found = decayed(root, variant, bnneck=bnneck, classifier=classifier)
    neck = {"neck.weight"} if bnneck and classifier == "normal" else set()  # at 1, before a classifier near zero
    assert {name for name in found if not name.startswith("dependency")} == neck


def test_with_the_gain_the_loss_drives_the_ndem_harder_than_weight_decay_does(root):
    """But for the weights that the gain makes larger, whose decay grows with them."""
    assert decayed(root, "full", dependency_gain=1.0) == set(DECAYED)
    assert decayed(root, "full") <= set(LARGER)
