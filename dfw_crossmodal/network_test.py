"""The whole network, in each row of Table 1, against Fig. 2 and eq. 1 to 4 written out plainly with its own weights."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

from common.backbones import ResNet

from . import model as model_module
from .model import CrossModalityNet
from .model_test import ROWS, settings_of

ALPHA = 0.3  # other than either data set's
SMALL = {"height": 64, "width": 32, "dfw_alpha": ALPHA}


def narrow_resnet(name, *, last_stride, pretrained):
    """One block in each stage, of 8, 8, 12 and 16 channels."""
    inputs, widths, strides = (8, 8, 8, 12), (8, 8, 12, 16), (1, 2, 2, last_stride)

    def stage(channels, width, stride):
        shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        return nn.Sequential(BasicBlock(channels, width, stride, shortcut))

    stages = {f"layer{i}": stage(*sizes) for i, sizes in enumerate(zip(inputs, widths, strides, strict=True), 1)}
    stem = {"conv1": nn.Conv2d(3, 8, 7, 2, 3, bias=False), "bn1": nn.BatchNorm2d(8)}
    return ResNet(SimpleNamespace(**stem, relu=nn.ReLU(), maxpool=nn.MaxPool2d(3, 2, 1), **stages))


def plain_matrix(f, form, alpha, beta):
    """Eq. 2 for one image's f (h, w)."""
    if form == "D2":
        f = (f - f.min()) / (f.max() - f.min())
    high = f >= (beta if form == "D2" else f.sum() / f.numel())
    e = high.sum() / f.numel()
    factor = alpha if form == "D1" else e
    return torch.where(high, torch.as_tensor(factor), torch.tensor(1.0)).detach()


def plain_weakened(x, *, form="D1", alpha=ALPHA, beta=0.5, gate="multiply"):
    """Eq. 1 to 3, image by image."""
    weakened = []
    for image in x:
        f = image.sum(0) / len(image) + image.max(0).values
        M = plain_matrix(f.detach(), form, alpha, beta)
        weakened.append(image * (M if gate == "multiply" else 1 / (1 + torch.exp(-f * M))))
    return torch.stack(weakened)


def plain_gem(x, dim, power=3.0):
    """The power mean."""
    x = torch.maximum(x, torch.tensor(1e-6))
    return ((x**power).mean(dim)) ** (1 / power)


def plain_neck(neck, f, *, training):
    mean, variance = (f.mean(0), f.var(0, correction=0)) if training else (neck.running_mean, neck.running_var)
    return (f - mean) / (variance + 1e-5).sqrt() * neck.weight


def plain_maps(model, images, stream, variant, after=("layer2", "layer3"), **weakening):
    """F_s of each sub-network for images that have passed `stream`: {first stages: (b, 3, H, W)}."""
    x = torch.cat([layer1(stem(part)) for (stem, layer1), part in zip(stream, images, strict=True)])
    for stage in ("layer2", "layer3"):
        x = getattr(model, stage)(x)
        if variant in ("dfw", "dfw_re", "dfw_sln", "full") and stage in after:
            x = plain_weakened(x, **weakening)
    return [layer4(x) for layer4 in model.sub_networks]


def plain_output(model, visible, infrared, variant, *, training, power=3.0, **weakening):
    """Features, logits and eq. 4's maps of visible images, then infrared ones, of each sub-network."""
    streams = (model.visible_stream, model.infrared_stream)
    maps = plain_maps(model, (visible, infrared), streams, variant, **weakening)
    features = [plain_gem(F_s, (2, 3), power) for F_s in maps]
    necks = [plain_neck(neck, f, training=training) for neck, f in zip(model.necks, features, strict=True)]
    logits = [f @ classifier.weight.T for f, classifier in zip(necks, model.classifiers, strict=True)]
    return tuple(map(torch.stack, (features, logits, [plain_gem(F_s, 1, power) for F_s in maps])))


def plain_embedding(model, images, modality, variant, **weakening):
    """The sub-networks' features behind their necks, side by side, at unit length."""
    stream = model.visible_stream if modality == "visible" else model.infrared_stream
    maps = plain_maps(model, (images,), (stream,), variant, **weakening)
    both = torch.cat(
        [plain_neck(neck, plain_gem(F_s, (2, 3)), training=False) for neck, F_s in zip(model.necks, maps, strict=True)],
        dim=1,
    )
    return both / (both**2).sum(1, keepdim=True) ** 0.5


def images(count=5, seed=0):
    return torch.randn(count, 3, 64, 32, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def network(monkeypatch):
    """network(variant, ...): a small one whose streams, running statistics and necks are not those of the start."""
    monkeypatch.setattr(model_module, "build_resnet", narrow_resnet)

    def build(variant, **overrides):
        torch.manual_seed(0)
        model = CrossModalityNet(6, settings_of(variant, **SMALL | overrides))
        with torch.no_grad():
            for parameter in model.infrared_stream.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        for neck in model.necks:
            nn.init.uniform_(neck.weight, 0.5, 2)
        for seed in range(5):
            model(images(8, seed), images(8, seed + 5))
        return model

    return build


def gradients_of(model, outputs):
    """Of a scalar that depends on every output, scaled alike."""
    draws = torch.Generator().manual_seed(1)
    scalar = sum((output * torch.randn(output.shape, generator=draws)).sum() for output in outputs)
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    return dict(zip(trained, torch.autograd.grad(scalar, list(trained.values())), strict=True))


def assert_same_gradients(found, expected):
    for name, gradient in expected.items():
        error = (found[name] - gradient).norm() / gradient.norm()
        assert error < 2e-3, f"{name}: {error:.2g}"


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("variant", ROWS)
def test_outputs_and_their_gradients_are_eq_1_to_4(network, variant, training):
    model = network(variant).train(training)
    visible, infrared = images(4, seed=20), images(4, seed=21)
    found = model(visible, infrared)
    expected = plain_output(model, visible, infrared, variant, training=training)
    for own, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(own, plain, rtol=1e-4, atol=1e-5)
    assert_same_gradients(gradients_of(model, found), gradients_of(model, expected))


@pytest.mark.parametrize(
    ("settings", "weakening"),
    [
        ({"dfw_form": "D2", "dfw_beta": 0.8}, {"form": "D2", "beta": 0.8}),
        ({"dfw_form": "D3"}, {"form": "D3"}),
        ({"dfw_gate": "sigmoid"}, {"gate": "sigmoid"}),
        ({"dfw_after": ["layer3"]}, {"after": ("layer3",)}),
        ({"gem_power": 10.0}, {"power": 10.0}),
    ],
)
def test_so_are_those_of_the_other_forms(network, settings, weakening):
    model = network("full", **settings)
    visible, infrared = images(4, seed=20), images(4, seed=21)
    found = model(visible, infrared)
    expected = plain_output(model, visible, infrared, "full", training=True, **weakening)
    for own, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(own, plain, rtol=1e-4, atol=1e-5)
    assert_same_gradients(gradients_of(model, found), gradients_of(model, expected))


@pytest.mark.parametrize("modality", ["visible", "infrared", "thermal"])
@pytest.mark.parametrize("variant", ROWS)
def test_the_test_feature_is_what_the_classifiers_read_at_unit_length(network, variant, modality):
    model = network(variant).eval()
    found = model.embed(images(), modality)
    torch.testing.assert_close(found, plain_embedding(model, images(), modality, variant), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("modality", ["Visible", "rgb", "ir", ""])
def test_an_unknown_modality_is_refused(network, modality):
    model = network("baseline").eval()
    with pytest.raises(ValueError, match=f"visible, infrared, thermal, not '{modality}'"):
        model.embed(images(), modality)


def test_the_centres_can_be_those_of_the_weakened_map(network):
    """overlap_map `weakened`: only what eq. 5 reads changes."""
    model = network("sln", overlap_map="weakened")
    visible, infrared = images(4, seed=20), images(4, seed=21)
    found = model(visible, infrared)
    features, logits, _ = plain_output(model, visible, infrared, "sln", training=True)
    F_s = plain_maps(model, (visible, infrared), (model.visible_stream, model.infrared_stream), "sln")
    torch.testing.assert_close(found.features, features, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.logits, logits, rtol=1e-4, atol=1e-5)
    expected = torch.stack([plain_gem(plain_weakened(each), 1) for each in F_s])
    torch.testing.assert_close(found.maps, expected, rtol=1e-4, atol=1e-5)
    assert (found.maps - torch.stack([plain_gem(each, 1) for each in F_s])).abs().max() > 0.1


def test_both_streams_and_both_layer4s_start_from_the_weights_that_the_setting_names():
    model = CrossModalityNet(3, settings_of(pretrained="synthetic", sln_noise=0.0))
    named = model_module.build_resnet("resnet18", last_stride=1, pretrained="synthetic")
    shared = {"layer2": named.layer2, "layer3": named.layer3}
    streams = dict.fromkeys(("visible_stream", "infrared_stream"), nn.Sequential(named.stem, named.layer1))
    for name, expected in (shared | streams).items():
        torch.testing.assert_close(getattr(model, name).state_dict(), expected.state_dict(), rtol=0, atol=0)
    first, second = (part.state_dict() for part in model.sub_networks)
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_predictions_start_near_uniform(network):
    for classifier in network("full").classifiers:
        assert 0.0005 < classifier.weight.std() < 0.0015 and classifier.bias is None
