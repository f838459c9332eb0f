"""The networks of all phases against eq. 1 to 8 written out plainly with their own weights."""

from types import SimpleNamespace

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.functional import conv2d, max_pool2d, normalize, relu
from torchvision.models.resnet import BasicBlock

from common.backbones import ResNet
from common.errors import UserError

from . import model as model_module
from .model import network_of_phase
from .model_test import settings_of
from .pose_net import PoseNet
from .skeleton import PARTS, part_channels

TASKS = {"gender": ("head", 2), "sleeves": ("upper_arm", 2), "lower_type": ("upper_leg", 3)}
NUM_VALUES = {task: count for task, (_, count) in TASKS.items()}
SMALL = {"height": 64, "width": 32, "bilinear_size": 16, "plenary_size": 6, "part_size": 5, "pretrained": "none"}
SMALL |= {"pose_width_factor": 1 / 8, "pose_batch_norm": False, "pose_image_height": 64, "pose_image_width": 32}


def narrow_resnet(name, *, last_stride, pretrained):
    """One block in each stage, of 8, 8, 16 and 16 channels."""
    inputs, widths, strides = (8, 8, 8, 16), (8, 8, 16, 16), (1, 2, 2, last_stride)

    def stage(channels, width, stride):
        shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        return nn.Sequential(BasicBlock(channels, width, stride, shortcut))

    stages = {f"layer{i}": stage(*sizes) for i, sizes in enumerate(zip(inputs, widths, strides, strict=True), 1)}
    stem = {"conv1": nn.Conv2d(3, 8, 7, 2, 3, bias=False), "bn1": nn.BatchNorm2d(8)}
    return ResNet(SimpleNamespace(**stem, relu=nn.ReLU(), maxpool=nn.MaxPool2d(3, 2, 1), **stages))


# ------------------------------------------------------------------ the equations


def convolved(sequence, x, pools=()):
    """Convolutions with ReLU, max pooling after those numbered in `pools`; no ReLU after a last one to 19 or 38."""
    layers = [layer for layer in sequence if isinstance(layer, nn.Conv2d)]
    for number, layer in enumerate(layers):
        x = conv2d(x, layer.weight, layer.bias, padding=layer.weight.shape[2] // 2)
        x = x if layer.weight.shape[0] in (19, 38) and number == len(layers) - 1 else relu(x)
        x = max_pool2d(x, 2) if number in pools else x
    return x


def plain_cpb(block, x):
    hidden = relu(x.mean((2, 3)) @ block.squeeze.weight[:, :, 0, 0].T + block.squeeze.bias)
    return x / (1 + torch.exp(-(hidden @ block.excite.weight[:, :, 0, 0].T + block.excite.bias)))[:, :, None, None]


def plain_pose_net(net, images, *, cpb=True):
    """Eq. 2: each stage's maps and fields, before its channel parse block and after it."""
    features = convolved(net.adaptor, convolved(net.front, images, pools=(1, 3, 7)))
    x, stages, parsed = features, [], []
    for stage, block in zip(net.stages, net.parse, strict=True):
        stages.append(torch.cat([convolved(stage["maps"], x), convolved(stage["fields"], x)], dim=1))
        parsed.append(plain_cpb(block, stages[-1]) if cpb else stages[-1])
        x = torch.cat([features, parsed[-1]], dim=1)
    return stages, parsed


def standardised(x, norm, *, training):
    """Eq. 6, 7 or 8: by the mini batch in training, else by the running statistics of `norm`."""
    mean, variance = norm.running_mean, norm.running_var
    if training:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    return (x - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()


def plain_branch(branch, channels, pose, feature_map, backbone_sketch, D):
    """1x1 convolution, the sketch of the outer products, signed root, L2, sqrt(D), 1x1 convolution."""
    own = torch.einsum("oc,bchw->bohw", branch.integrate.weight[:, :, 0, 0], pose[:, channels])
    own = own + branch.integrate.bias[:, None, None]
    outer = torch.einsum("bchw,bdhw->bcd", feature_map, own)
    place = (backbone_sketch.place[:, None] + branch.sketch.place[None]) % D
    sign = backbone_sketch.sign[:, None] * branch.sketch.sign[None]
    pooled = torch.stack([(outer * sign * (place == d)).sum((1, 2)) for d in range(D)], dim=1)
    pooled = torch.sign(pooled) * (pooled.abs() + 1e-5).sqrt()
    pooled = D**0.5 * pooled / pooled.norm(dim=1, keepdim=True)
    return pooled @ branch.embedding.weight[:, :, 0, 0].T + branch.embedding.bias


def plain_neck(neck, f, *, training):
    mean, variance = (f.mean(0), f.var(0, correction=0)) if training else (neck.running_mean, neck.running_var)
    return (f - mean) / (variance + 1e-5).sqrt() * neck.weight


def plain_network(model, images, phase, *, training, bnneck=False, cpb=True):
    """Embeddings by branch, those compared at test time, identity logits, attribute logits, the pose net's stages."""
    feature_map, stages = model.backbone(images), []  # eq. 1
    if phase == 1:
        embeddings = {"plenary": feature_map.mean((2, 3))}
    else:
        stages, parsed = plain_pose_net(model.pose_net, images, cpb=cpb)
        maps, fields = parsed[-1][:, :19], parsed[-1][:, 19:]
        feature_map = standardised(feature_map, model.backbone_norm, training=training)
        pose = [standardised(maps, model.maps_norm, training=training)]
        pose = torch.cat([*pose, standardised(fields, model.fields_norm, training=training)], dim=1)
        B, _, h, w = pose.shape
        H, W = feature_map.shape[2:]
        pose = pose.reshape(B, 57, H, h // H, W, w // W).mean((3, 5))
        channels = {"plenary": list(range(57))} | ({p: part_channels(p) for p in PARTS} if phase == 3 else {})
        embeddings = {
            name: plain_branch(model.branches[name], own, pose, feature_map, model.backbone_sketch, 16)
            for name, own in channels.items()
        }
    compared = dict(embeddings)
    if bnneck:
        compared["plenary"] = plain_neck(model.neck, embeddings["plenary"], training=training)
    classifier = model.identity_classifier
    identity_logits = compared["plenary"] @ classifier.weight.T + classifier.bias
    attribute_logits = {}
    for task, (part, _) in TASKS.items() if phase > 1 else ():
        own, f = model.attribute_classifiers[task], compared[part if phase == 3 else "plenary"]
        attribute_logits[task] = f @ own.weight.T + own.bias
    return embeddings, compared, identity_logits, attribute_logits, stages


@pytest.fixture
def network(monkeypatch):
    """network(phase, ...): a small one whose running statistics and neck are not those of the start."""
    monkeypatch.setattr(model_module.backbones, "build_resnet", narrow_resnet)

    def build(phase, variant="full", **overrides):
        torch.manual_seed(0)
        num_values = NUM_VALUES if phase > 1 else {}
        model = network_of_phase(phase, 4, num_values, settings_of(variant, **SMALL | overrides)).train()
        if overrides.get("bnneck"):
            nn.init.uniform_(model.neck.weight, 0.5, 2)
        if phase > 1:
            with torch.no_grad():
                for weight in model.pose_net.parse.parameters():  # weights of the channels that differ
                    weight.normal_()
                for stream in (s for stage in model.pose_net.stages for s in stage.values()):
                    stream[-1].weight.normal_()  # maps that are not near 0
        for _ in range(4):
            model(1 + 2 * torch.randn(6, 3, 64, 32))
        return model

    return build


def close(found, expected):
    """The signed root jumps by 0.006 at 0, where rounding decides the sign."""
    torch.testing.assert_close(found.double(), expected.double(), rtol=1e-2, atol=6e-3)


@pytest.mark.parametrize(("phase", "bnneck"), [(1, False), (1, True), (2, False), (2, True), (3, False), (3, True)])
@pytest.mark.parametrize("training", [True, False])
def test_a_network_is_its_equations(network, phase, bnneck, training):
    model = network(phase, bnneck=bnneck).train(training)
    images = torch.randn(6, 3, 64, 32)
    with torch.no_grad():
        expected = plain_network(model, images, phase, training=training, bnneck=bnneck)
        found = model(images)
        embeddings, compared, identity_logits, attribute_logits, stages = expected
        assert list(found.embeddings) == list(embeddings) and list(found.attribute_logits) == list(attribute_logits)
        for name in embeddings:
            close(found.embeddings[name], embeddings[name])
        close(found.identity_logits, identity_logits)
        for task, logits in attribute_logits.items():
            close(found.attribute_logits[task], logits)
        for maps, own in zip(found.pose_stages, stages, strict=True):
            close(maps, own)
        if not training:
            feature = torch.cat(list(compared.values()), dim=1)
            close(model.embed(images), feature / feature.norm(dim=1, keepdim=True))


def test_without_cpb_the_stages_are_read_as_they_are(network):
    model = network(3, "lram", cpb=False).eval()
    images = torch.randn(3, 3, 64, 32)
    with torch.no_grad():
        embeddings, *_ = plain_network(model, images, 3, training=False, cpb=False)
        for name, found in model(images).embeddings.items():
            close(found, embeddings[name])


def test_named_readings_of_the_branches(network):
    images, model = torch.randn(4, 3, 64, 32), network(3).eval()
    with torch.no_grad():
        plain = model(images).compared
        state = model.state_dict()

        def read_as(**overrides):
            other = network(3, **overrides).eval()
            own = {name: value.shape for name, value in other.state_dict().items()}
            other.load_state_dict({n: v for n, v in state.items() if own.get(n) == v.shape}, strict=False)
            return other

        unit = torch.cat([normalize(feature) for feature in plain.values()], dim=1)
        close(read_as(unit_branches=True).embed(images), unit / 7**0.5)
        short = read_as(bilinear_scale="unit_length")(images).compared["head"]
        bias = model.branches["head"].embedding.bias
        close(short - bias, (plain["head"] - bias) / 16**0.5)
        assert list(read_as(taskless_branches=False)(images).compared) == ["plenary", "head", "upper_arm", "upper_leg"]
        alone = read_as(parts=False)(images)
        assert list(alone.compared) == ["plenary"] and list(alone.attribute_logits) == list(TASKS)
        # With the running statistics norm and mean commute, but for what the batch's own would be.
        first = read_as(pose_pooling="before_norm")
        close(first(images).compared["head"], plain["head"])
        assert not torch.allclose(first.train()(images).compared["head"], model.train()(images).compared["head"])


def test_pose_images_replace_those_whose_stages_are_given(network):
    model = network(2).eval()
    images, others = torch.randn(2, 3, 64, 32), torch.randn(3, 3, 64, 32)
    with torch.no_grad():
        found = model(images, others)
        close(found.identity_logits, model(images).identity_logits)
        for maps, own in zip(found.pose_stages, plain_pose_net(model.pose_net, others)[0], strict=True):
            close(maps, own)


def test_a_frozen_pose_net_trains_its_cpbs_alone_and_keeps_its_statistics(network):
    model = network(3, pose_trained=False, pose_loss="none", pose_batch_norm=True)
    trained = {name for name, weight in model.pose_net.named_parameters() if weight.requires_grad}
    assert trained == {name for name, _ in model.pose_net.named_parameters() if name.startswith("parse.")}
    before = {name: value.clone() for name, value in model.pose_net.named_buffers()}
    model.train()(torch.randn(3, 3, 64, 32))
    assert before and all(torch.equal(value, before[name]) for name, value in model.pose_net.named_buffers())
    free = network(3, pose_batch_norm=True)
    before = {name: value.clone() for name, value in free.pose_net.named_buffers()}
    free.train()(torch.randn(3, 3, 64, 32))
    assert not any(torch.equal(value, before[name]) for name, value in free.pose_net.named_buffers())


# ------------------------------------------------------------------ VGG-19's weights


def vgg_file(folder):
    """torchvision's file of VGG-19, of which `features.<n>.weight` and `.bias` of the convolutions are read."""
    network = torchvision.models.vgg19(weights=None).features
    state = {f"features.{name}": torch.full_like(value, number) for number, (name, value) in enumerate(
        network.state_dict().items(), start=1)}  # fmt: skip
    state |= {"classifier.6.weight": torch.zeros(2, 2), "classifier.6.bias": torch.zeros(2)}
    (folder / "checkpoints").mkdir(parents=True)
    return state


def test_the_front_is_loaded_from_torchvisions_file(tmp_path, monkeypatch):
    """The file lies where torchvision looks for it; each convolution gets its own weights, and nothing else changes."""
    state = vgg_file(tmp_path)
    weights = torchvision.models.VGG19_Weights.IMAGENET1K_V1
    file = tmp_path / "checkpoints" / weights.url.rpartition("/")[2]
    torch.save({name: value for name, value in state.items() if value.numel() < 3e6}, file)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: pytest.fail("it is downloaded"))
    nets = {}
    for pretrained in ("none", "imagenet"):
        torch.manual_seed(0)
        nets[pretrained] = PoseNet(settings_of(demo=False), cpb=False, pretrained=pretrained)
    net = nets["imagenet"]
    numbers = [layer.weight.mean().item() for layer in net.front if isinstance(layer, nn.Conv2d)]
    assert numbers == [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]  # weights and biases are numbered in turn
    assert [layer.bias.mean().item() for layer in net.front if isinstance(layer, nn.Conv2d)] == [n + 1 for n in numbers]
    untouched = {name: value for name, value in nets["none"].state_dict().items() if not name.startswith("front.")}
    assert all(torch.equal(net.state_dict()[name], value) for name, value in untouched.items())


def test_a_missing_file_says_where_to_put_it(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with torch.device("meta"), pytest.raises(UserError, match="no network"):
        PoseNet(settings_of(demo=False), cpb=False, pretrained="imagenet")
