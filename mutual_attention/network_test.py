"""The whole network, in each variant and reading of eq. 5-6, against eq. 1 to 12 written out plainly with its own
weights."""

import copy
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from torch import nn
from torchvision.models.resnet import BasicBlock

from common.backbones import ResNet

from . import model as model_module
from .model import MutualAttentionNet
from .model_test import settings_of

SMALL = {"height": 64, "width": 32, "descriptor_size": 6, "pretrained": "none"}
NORMALISATIONS = ["none", "rms", "layer", "batch", "cosine", "correlation"]
READINGS = [
    ("full", {}),
    ("baseline", {}),
    ("literal", {}),
    ("shuffled", {}),
    ("full", {"attention_bias": True}),
    ("full", {"temperature": 3.0}),
    ("literal", {"temperature": 3.0, "attention_gain": "linear"}),
    *(("full", {"normalisation": name, "temperature": 0.5}) for name in NORMALISATIONS),
    *(("literal", {"normalisation": name}) for name in NORMALISATIONS[1:]),
]
IDS = ["-".join([variant, *(f"{key}={value}" for key, value in sets.items())]) for variant, sets in READINGS]


def narrow_resnet(name, *, last_stride, pretrained):
    """One block in each stage, of 8, 8, 8 and 16 channels."""
    inputs, widths, strides = (8, 8, 8, 8), (8, 8, 8, 16), (1, 2, 2, last_stride)

    def stage(channels, width, stride):
        shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        return nn.Sequential(BasicBlock(channels, width, stride, shortcut))

    stages = {f"layer{i}": stage(*sizes) for i, sizes in enumerate(zip(inputs, widths, strides, strict=True), 1)}
    stem = {"conv1": nn.Conv2d(3, 8, 7, 2, 3, bias=False), "bn1": nn.BatchNorm2d(8)}
    return ResNet(SimpleNamespace(**stem, relu=nn.ReLU(), maxpool=nn.MaxPool2d(3, 2, 1), **stages))


# ------------------------------------------------------------------ the equations


def convolved(convolution, x):
    """1x1: (B, C, H, W)."""
    y = torch.einsum("kc,bchw->bkhw", convolution.weight[:, :, 0, 0], x)
    return y if convolution.bias is None else y + convolution.bias[:, None, None]


def plain_normalised(norm, x, *, training):
    """Channel by channel of (n, C) or (n, C, H, W), then scale and shift, if it has them."""
    axes = [axis for axis in range(x.dim()) if axis != 1]
    shape = [-1 if axis == 1 else 1 for axis in range(x.dim())]
    mean, variance = (x.mean(axes), x.var(axes, correction=0)) if training else (norm.running_mean, norm.running_var)
    x = (x - mean.view(shape)) / (variance.view(shape) + 1e-5).sqrt()
    return x if norm.weight is None else x * norm.weight.view(shape) + norm.bias.view(shape)


def plain_self_attention(module, f):
    """Eq. 1 to 4."""
    SPA = f.sum(1, keepdim=True) / f.shape[1]
    Q = f.flatten(2).sum(2)[:, :, None, None] / (f.shape[2] * f.shape[3])
    return convolved(module.self_convolution, SPA * convolved(module.channel_convolution, Q))


def root_mean_square(x):
    return ((x**2).flatten(1).mean(1) + 1e-6).sqrt()[:, None, None, None]


def plain_attention(module, f1, f2, settings, *, training):
    """MA of eq. 5-6, read as the settings say."""
    SA1, SA2 = (plain_self_attention(module, f) for f in (f1, f2))
    if settings.normalisation == "cosine":
        SA1, SA2 = (SA / root_mean_square(SA) for SA in (SA1, SA2))
    if settings.normalisation == "correlation":
        both = plain_normalised(module.self_normalisation, torch.cat([SA1, SA2]), training=training)
        SA1, SA2 = both.chunk(2)
    MA = convolved(module.mutual_convolution, SA1 * SA2)
    if settings.normalisation == "layer":
        MA = MA - MA.flatten(1).mean(1)[:, None, None, None]
    if settings.normalisation in ("rms", "layer"):
        MA = MA / root_mean_square(MA)
    if settings.normalisation == "batch":
        MA = plain_normalised(module.mutual_normalisation, MA, training=training)
    MA = MA / settings.temperature
    MA = 1 / (1 + torch.exp(-MA)) if settings.activation == "sigmoid" else MA
    if settings.attention_pairing == "shuffled":
        MA = torch.stack([MA[b - max(1, len(MA) // 4)] for b in range(len(MA))])
    return MA


def plain_attended(module, f, settings, *, training):
    """Eq. 7 and 8."""
    f1, f2 = f.chunk(2)
    MA = plain_attention(module, f1, f2, settings, training=training)
    return torch.cat([f1 * MA + f1, f2 * MA + f2])


def plain_layer(layer, x, *, training):
    """A sequential layer: linear without bias, batch norm, ReLU."""
    return plain_normalised(layer[1], x @ layer[0].weight.T, training=training).clamp(min=0)


def with_own_statistics(model):
    """Layer4 and the 512-d layer as the attended path has them: the same weights, its running statistics."""
    layer4, embedding = copy.deepcopy((model.backbone.layer4, model.embedding))
    copies = [part for module in (layer4, embedding) for part in module.modules() if hasattr(part, "running_mean")]
    for norm, own in zip(copies, model.attended_statistics.second, strict=True):
        norm.running_mean, norm.running_var = own.running_mean.clone(), own.running_var.clone()
    for module, original in ((layer4, model.backbone.layer4), (embedding, model.embedding)):
        for name, parameter in original.named_parameters():
            owner, _, leaf = name.rpartition(".")
            del module.get_submodule(owner)._parameters[leaf]
            setattr(module.get_submodule(owner), leaf, parameter)
    return layer4, embedding


def plain_network(model, images, settings, *, training):
    """Logits of both tasks without dropout, for images (2B, 3, H, W)."""
    backbone = copy.deepcopy(model.backbone)  # for its running statistics; its weights are the model's own
    for name, parameter in model.backbone.named_parameters():
        owner, _, leaf = name.rpartition(".")
        del backbone.get_submodule(owner)._parameters[leaf]
        setattr(backbone.get_submodule(owner), leaf, parameter)
    maps3 = backbone.layer3(backbone.layer2(backbone.layer1(backbone.stem(images))))
    plain = plain_layer(model.embedding, backbone.layer4(maps3).mean((2, 3)), training=training)
    identity_logits = plain @ model.classifier.weight.T + model.classifier.bias  # eq. 9
    compared = plain
    if settings.attention:
        layer4, embedding = with_own_statistics(model)
        maps4 = layer4(plain_attended(model.attention3, maps3, settings, training=training))
        maps4 = plain_attended(model.attention4, maps4, settings, training=training)
        compared = plain_layer(embedding, maps4.mean((2, 3)), training=training)
    first, second = compared.chunk(2)
    sequential, _, output = model.verifier
    hidden = plain_layer(sequential, (first - second) ** 2, training=training)
    return identity_logits, hidden @ output.weight.T + output.bias  # eq. 11


# ------------------------------------------------------------------ the network


@pytest.fixture
def network(monkeypatch):
    """network(variant, sets): a small one in float64 with its settings; running statistics, outputs and biases are not
    those of the start."""
    monkeypatch.setattr(model_module, "build_resnet", narrow_resnet)

    def build(variant, sets):
        settings = settings_of(variant, **SMALL | {"dropout": 0.0} | sets)
        torch.manual_seed(0)
        model = MutualAttentionNet(5, settings).double()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("bias") or name.startswith(("classifier", "verifier.2")):
                    parameter.normal_(std=0.3)
            for module in model.modules():
                module.momentum = 0.7  # of batch norms: running statistics soon leave 0 and 1
            for _ in range(2):
                model.train()(*images_of(6))
        return model, settings

    return build


def images_of(num_pairs):
    return torch.randn(2, num_pairs, 3, 64, 32, dtype=torch.float64)


def gradients_of(model, outputs):
    """Of a scalar that depends on every output."""
    scalar = sum((output * torch.arange(1, output.numel() + 1).view_as(output)).sum() for output in outputs)
    named = dict(model.named_parameters())
    return dict(zip(named, torch.autograd.grad(scalar, list(named.values())), strict=True))  # fails if one is unused


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("variant", "sets"), READINGS, ids=IDS)
def test_both_tasks_logits_and_their_gradients_are_eq_1_to_11(network, variant, sets, training):
    model, settings = network(variant, sets)
    model.train(training)
    first, second = images_of(4)
    expected = plain_network(model, torch.cat([first, second]), settings, training=training)
    found = model(first, second)
    for ours, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-7, atol=1e-9)
    gradients = gradients_of(model, found)
    for name, plain in gradients_of(model, expected).items():
        torch.testing.assert_close(gradients[name], plain, rtol=1e-5, atol=1e-7, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(("variant", "sets"), READINGS, ids=IDS)
def test_the_verifier_says_same_by_the_first_of_two_softmax_outputs(network, variant, sets):
    model, settings = network(variant, sets)
    first, second = images_of(4)
    _, logits = plain_network(model.eval(), torch.cat([first, second]), settings, training=False)
    expected = 1 / (1 + torch.exp(logits[:, 1] - logits[:, 0]))  # eq. 12: [1, 0] for the same person
    torch.testing.assert_close(model.same_probability(first, second), expected.float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("variant", "sets"), [*READINGS[:4], ("full", {"normalisation": "batch"})])
def test_descriptors_are_of_the_plain_path_or_attended_with_the_image_itself_or_the_mean_image(network, variant, sets):
    model, settings = network(variant, sets)
    images, model = images_of(3)[0], model.eval()
    maps3 = model.backbone.layer3(model.backbone.layer2(model.backbone.layer1(model.backbone.stem(images))))
    before = plain_normalised(
        model.embedding[1], model.backbone.layer4(maps3).mean((2, 3)) @ model.embedding[0].weight.T, training=False
    )
    expected = {"plain": before.clamp(min=0), "before_relu": before}
    assert (before < 0).any()
    if variant in ("full", "literal"):  # with attention of their own
        layer4, embedding = with_own_statistics(model)
        zeros = torch.zeros_like(images)  # the mean image, less itself
        mean3 = model.backbone.layer3(model.backbone.layer2(model.backbone.layer1(model.backbone.stem(zeros))))
        for name, partner in (("self_attended", maps3), ("mean_attended", mean3)):
            maps4 = layer4(plain_attended(model.attention3, torch.cat([maps3, partner]), settings, training=False))
            maps4 = plain_attended(model.attention4, maps4, settings, training=False)[:3]
            expected[name] = plain_layer(embedding, maps4.mean((2, 3)), training=False)
    assert model.descriptors == tuple(expected)
    assert model.descriptor == "plain"
    torch.testing.assert_close(model.embed(images), expected["plain"])
    for name, vectors in expected.items():
        torch.testing.assert_close(model.embed(images, name), vectors)
        model.descriptor = name
        torch.testing.assert_close(model.embed(images), vectors)
    assert len({tuple(vectors.flatten().tolist()) for vectors in expected.values()}) == len(expected)
    for name in {"self_attended", "mean_attended"} - set(expected):  # nothing of the images beside it in the batch
        torch.testing.assert_close(model.embed(images, name), expected["plain"])


def test_figure_4s_maps_are_layer4s_on_the_verification_path(network):
    for variant in ("full", "baseline"):
        model, settings = network(variant, {})
        first, second = images_of(3)
        maps = model.eval().feature_map(first, second)
        maps3 = model.layer3_maps(torch.cat([first, second]))
        if settings.attention:
            layer4, _ = with_own_statistics(model)
            maps4 = layer4(plain_attended(model.attention3, maps3, settings, training=False))
            expected = plain_attended(model.attention4, maps4, settings, training=False)[:3]
        else:
            expected = model.backbone.layer4(maps3)[:3]
        torch.testing.assert_close(maps, expected)


# ------------------------------------------------------------------ dropout and initialisation


def test_three_quarters_of_what_both_output_layers_read_are_dropped(network):
    """Sec. 5.1; what is left is four times as large."""
    model, _ = network("full", {"dropout": settings_of(demo=False).dropout, "descriptor_size": 600})
    seen = {}
    for name in ("embedding", "classifier", "verifier.0", "verifier.2"):
        module = model.get_submodule(name)
        module.register_forward_hook(lambda _, inputs, output, n=name: seen.setdefault(n, []).append((*inputs, output)))
    model.train()(*images_of(16))
    for before, after in ((seen["embedding"][0][1], "classifier"), (seen["verifier.0"][0][1], "verifier.2")):
        read = seen[after][0][0]
        kept = read[before > 0] != 0
        assert kept.double().mean() == pytest.approx(0.25, abs=0.01)
        torch.testing.assert_close(read[read != 0], 4 * before[read != 0])
    assert (seen["verifier.0"][0][0] != 0).double().mean() > 0.4  # the vectors that are compared are not dropped


def standard_deviations(settings):
    torch.manual_seed(0)
    model = MutualAttentionNet(300, settings)
    return {name: weight.std().item() for name, weight in model.named_parameters() if weight.dim() > 1}


@pytest.mark.parametrize(("gain", "variance"), [("relu", 2), ("linear", 1)])
def test_new_layers_start_as_kaiming_and_outputs_near_zero_unless_chosen(network, gain, variance):
    """He et al.: a variance of 2 (in front of a ReLU) or 1 over the number of inputs."""
    found = standard_deviations(settings_of(demo=False, attention_gain=gain, backbone="resnet18", pretrained="none"))
    printed = standard_deviations(
        settings_of("literal", demo=False, attention_gain=gain, backbone="resnet18", pretrained="none")
    )
    for deviations in (found, printed):
        assert deviations["embedding.0.weight"] == pytest.approx((2 / 16) ** 0.5, rel=0.03)
        assert deviations["verifier.0.0.weight"] == pytest.approx((2 / 512) ** 0.5, rel=0.03)
        for kind in ("channel", "self", "mutual"):
            for stage, channels in ((3, 8), (4, 16)):
                name = f"attention{stage}.{kind}_convolution.weight"
                assert deviations[name] == pytest.approx((variance / channels) ** 0.5, rel=0.25)
    for name in ("classifier.weight", "verifier.2.weight"):
        assert found[name] == pytest.approx(0.001, rel=0.1)
        assert printed[name] == pytest.approx((2 / 512) ** 0.5, rel=0.1)


@pytest.mark.parametrize("demo", [False, True])
def test_variants_differ_from_the_full_model_in_what_they_name_and_nothing_else(demo):
    printed = {"activation": "none", "normalisation": "none", "output_initialisation": "kaiming"}
    expected = {
        "full": {},
        "baseline": {"attention": False},
        "literal": printed | {"attention_gain": "relu"},
        "identity_only": {"attention": False, "verification_weight": 0.0},
        "shuffled": {"attention_pairing": "shuffled"},
    }
    variants = yaml.safe_load(Path(__file__).with_name("config.yaml").read_text())["variants"]
    assert set(variants) == set(expected)
    full = asdict(settings_of(demo=demo))
    departures = {"activation": "sigmoid", "normalisation": "correlation", "output_initialisation": "near_zero"}
    assert full | departures | {"attention_gain": "linear"} == full
    for variant, values in expected.items():
        of = asdict(settings_of(variant, demo=demo))
        assert {name: value for name, value in of.items() if value != full[name]} == values, variant


def test_biases_of_new_layers_start_at_zero(network):
    torch.manual_seed(0)
    model = MutualAttentionNet(5, settings_of("literal", **SMALL, attention_bias=True))
    biases = {name: bias for name, bias in model.named_parameters() if name.endswith("bias") and "backbone" not in name}
    assert sum("convolution" in name for name in biases) == 6 and "classifier.bias" in biases
    assert not any(bias.any() for bias in biases.values())
    assert not any("convolution.bias" in name for name, _ in network("full", {})[0].named_parameters())


def test_the_backbone_starts_from_the_weights_and_the_stride_that_the_settings_name():
    backbone = MutualAttentionNet(3, settings_of("baseline", pretrained="synthetic")).backbone
    named = model_module.build_resnet("resnet18", last_stride=2, pretrained="synthetic")
    for stage in ("stem", "layer1", "layer2", "layer3"):  # the file has no layer4
        found, starts = getattr(backbone, stage).state_dict(), getattr(named, stage).state_dict()
        torch.testing.assert_close(found, starts, rtol=0, atol=0)
    assert backbone.layer4[0].conv1.stride == (2, 2)
