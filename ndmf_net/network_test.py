"""The whole network, in each variant, against eq. 1 to 10 written out plainly with its own weights."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

from common.backbones import ResNet

from . import model as model_module
from .model import NDMFNet
from .model_test import ROWS, settings_of

PCAM, SAM, NDEM = ("pcam", "pham", "full"), ("sam", "pham", "full"), ("ndem", "full")  # the rows with each module
# 64x32 images; 3 parts of layer1's 16 rows and of layer3's 4, which it does not divide.
SMALL = {"height": 64, "width": 32, "num_parts": 3, "lstm_hidden_size": 4, "dependency_size": 5, "feature_size": 7}


def narrow_resnet(name, *, last_stride, pretrained):
    """One block in each stage, of 8, 8, 16 and 16 channels."""
    inputs, widths, strides = (8, 8, 8, 16), (8, 8, 16, 16), (1, 2, 2, last_stride)

    def stage(channels, width, stride):
        shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        return nn.Sequential(BasicBlock(channels, width, stride, shortcut))

    stages = {f"layer{i}": stage(*sizes) for i, sizes in enumerate(zip(inputs, widths, strides, strict=True), 1)}
    stem = {"conv1": nn.Conv2d(3, 8, 7, 2, 3, bias=False), "bn1": nn.BatchNorm2d(8)}
    return ResNet(SimpleNamespace(**stem, relu=nn.ReLU(), maxpool=nn.MaxPool2d(3, 2, 1), **stages))


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


def horizontal_parts(x, N):
    """(B, C, H, W) -> N maps; the first H mod N of them have one row more."""
    return [x[:, :, rows[0] : rows[-1] + 1] for rows in np.array_split(np.arange(x.shape[2]), N)]


def plain_pcam(module, x, N):
    """Eq. 1 to 3."""
    (W,) = [weight for weight in module.parameters() if weight.ndim == 3]
    attended = []
    for i, part in enumerate(horizontal_parts(x, N)):
        descriptor = torch.cat([part.mean((2, 3)), part.amax((2, 3))], dim=1)
        attended.append(part * sigmoid(descriptor @ W[i].T)[:, :, None, None])
    return torch.cat(attended, dim=2)


def plain_sam(module, x):
    """Eq. 4 and 5."""
    (kernel,) = [weight for weight in module.parameters() if weight.ndim == 4]
    height, width = x.shape[2:]
    padded = nn.functional.pad(torch.stack([x.mean(1), x.amax(1)], dim=1), (1, 1, 1, 1))
    response = sum(
        kernel[0, descriptor, i, j] * padded[:, descriptor, i : i + height, j : j + width]
        for descriptor in range(2)
        for i in range(3)
        for j in range(3)
    )
    return x * sigmoid(response)[:, None]


def plain_lstm_direction(lstm, suffix, sequence):
    """Eq. 7; torch stacks the weights as input, forget, candidate, output."""
    W_x, W_h = getattr(lstm, f"weight_ih_{suffix}"), getattr(lstm, f"weight_hh_{suffix}")
    b = getattr(lstm, f"bias_ih_{suffix}") + getattr(lstm, f"bias_hh_{suffix}")
    h = C = sequence[0].new_zeros(len(sequence[0]), W_h.shape[1])
    states = []
    for x_t in sequence:
        i_t, f_t, candidate, o_t = (x_t @ W_x.T + h @ W_h.T + b).chunk(4, dim=1)
        C = sigmoid(f_t) * C + sigmoid(i_t) * torch.tanh(candidate)
        h = sigmoid(o_t) * torch.tanh(C)
        states.append(h)
    return states


def plain_ndem(module, x, N):
    """Eq. 8, with phi as config.yaml has it: parts flattened, the shorter ones padded with zeros."""
    parts = horizontal_parts(x, N)
    sequence = []
    for part in parts:
        padded = part.new_zeros(part.shape[0], part.shape[1], parts[0].shape[2], part.shape[3])
        padded[:, :, : part.shape[2]] = part
        sequence.append(padded.reshape(len(part), -1))
    for layer in ("l0", "l1"):
        forwards = plain_lstm_direction(module.lstm, layer, sequence)
        backwards = plain_lstm_direction(module.lstm, f"{layer}_reverse", sequence[::-1])[::-1]
        sequence = [torch.cat(pair, dim=1) for pair in zip(forwards, backwards, strict=True)]
    return sigmoid(torch.cat(sequence, dim=1) @ module.linear.weight.T)


def plain_neck(neck, f, *, training):
    mean, variance = (f.mean(0), f.var(0, correction=0)) if training else (neck.running_mean, neck.running_var)
    return (f - mean) / (variance + 1e-5).sqrt() * neck.weight


def plain_network(model, images, variant, *, N, bnneck, training):
    """What the losses and the classifier read: f_F (or f_B in the rows without NDEM), the neck's output, the logits."""

    def attended(module, x):  # eq. 6
        x = plain_pcam(module, x, N) if variant in PCAM else x
        return plain_sam(module, x) if variant in SAM else x

    x1 = attended(model.attention1, model.backbone.layer1(model.backbone.stem(images)))
    x3 = attended(model.attention3, model.backbone.layer3(model.backbone.layer2(x1)))
    f = model.backbone.layer4(x3).mean((2, 3))  # f_B
    if variant in NDEM:
        f_D = plain_ndem(model.dependency1, x1, N) + plain_ndem(model.dependency3, x3, N)  # eq. 9
        f = torch.cat([f, f_D], dim=1) @ model.fusion.weight.T  # eq. 10
    compared = plain_neck(model.neck, f, training=training) if bnneck else f
    logits = compared @ model.classifier.weight.T
    return f, compared, logits if model.classifier.bias is None else logits + model.classifier.bias


@pytest.fixture
def network(monkeypatch):
    """network(variant, ...): a small one in float64 whose running statistics and neck are not those of the start."""
    monkeypatch.setattr(model_module, "build_resnet", narrow_resnet)

    def build(variant, **overrides):
        torch.manual_seed(0)
        model = NDMFNet(6, settings_of(variant, **SMALL, **overrides)).double()
        if overrides.get("bnneck"):
            nn.init.uniform_(model.neck.weight, 0.5, 2)
        for _ in range(5):
            model(torch.randn(8, 3, 64, 32, dtype=torch.float64))
        return model

    return build


def gradients_of(model, outputs):
    """Of a scalar that depends on every output."""
    scalar = sum((output * torch.arange(1, output.numel() + 1).view_as(output)).sum() for output in outputs)
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    return dict(zip(trained, torch.autograd.grad(scalar, list(trained.values())), strict=True))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("bnneck", [False, True])
@pytest.mark.parametrize(("variant", "classifier"), [*((row, "normal") for row in ROWS), ("full", "resnet")])
def test_feature_and_logits_and_their_gradients_are_eq_1_to_10(network, variant, classifier, bnneck, training):
    model = network(variant, bnneck=bnneck, classifier=classifier).train(training)
    images = torch.randn(5, 3, 64, 32, dtype=torch.float64)
    found = model(images)
    feature, _, logits = plain_network(model, images, variant, N=3, bnneck=bnneck, training=training)
    torch.testing.assert_close(found.feature, feature, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(found.logits, logits, rtol=1e-9, atol=1e-11)
    expected = gradients_of(model, (feature, logits))
    torch.testing.assert_close(gradients_of(model, found), expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("bnneck", [False, True])
@pytest.mark.parametrize("variant", ROWS)
def test_the_test_feature_is_what_the_classifier_reads_at_unit_length(network, variant, bnneck):
    model = network(variant, bnneck=bnneck).eval()
    images = torch.randn(5, 3, 64, 32, dtype=torch.float64)
    _, compared, _ = plain_network(model, images, variant, N=3, bnneck=bnneck, training=False)
    lengths = (compared**2).sum(1, keepdim=True) ** 0.5
    torch.testing.assert_close(model.embed(images), (compared / lengths).float(), rtol=1e-5, atol=1e-6)


def test_the_heat_maps_are_of_layer4(network):
    """Fig. 8; f_B is their mean."""
    model = network("sam").eval()
    images = torch.randn(2, 3, 64, 32, dtype=torch.float64)
    maps = model.feature_map(images)
    assert maps.shape == (2, 16, 4, 2)  # a 16th of the images: layer4's stride is 1
    torch.testing.assert_close(maps.mean((2, 3)), model(images).feature)


def test_the_backbone_starts_from_the_weights_that_the_setting_names():
    backbone = NDMFNet(3, settings_of("baseline", pretrained="synthetic")).backbone
    named = model_module.build_resnet("resnet18", last_stride=1, pretrained="synthetic")
    for stage in ("stem", "layer1", "layer2", "layer3"):  # the file has no layer4
        found, starts = getattr(backbone, stage).state_dict(), getattr(named, stage).state_dict()
        torch.testing.assert_close(found, starts, rtol=0, atol=0)


def test_predictions_start_near_uniform(network):
    model = network("full", classifier="normal")
    assert 0.0005 < model.classifier.weight.std() < 0.0015
    assert model.classifier.bias is None and model.fusion.bias is None


@pytest.mark.parametrize("bnneck", [False, True])
def test_the_classifier_can_be_resnets_own_fc(network, bnneck):
    """torchvision's: weights and bias uniform within 1 / sqrt(inputs)."""
    classifier = network("full", classifier="resnet", bnneck=bnneck).classifier
    weight, bias = classifier.weight.abs().max().item(), classifier.bias.abs().max().item()
    bound = SMALL["feature_size"] ** -0.5
    assert 0.9 * bound < weight <= bound and 0.5 * bound < bias <= bound
