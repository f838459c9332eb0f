"""The whole network, in each row of Tables 4, 5 and 7 and each control, against eq. 1 to 6 and Fig. 3 written out
plainly with its own weights."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock

from common.backbones import ResNet

from . import model as model_module
from .model import MGRe
from .model_test import ROWS, settings_of

# Table 1 once more: C_x, C_y, N, M.
TABLE_1 = {
    1: ((1 / 2, 1 / 12, 8, 8), (1 / 2, 1 / 3, 32, 16), (1 / 2, 1 / 3, 32, 16), (1 / 2, 3 / 4, 24, 32)),
    2: ((1 / 2, 1 / 3, 16, 16), (1 / 2, 3 / 4, 16, 16)),
    3: ((1 / 2, 1 / 2, 16, 8),),
}
POSITIONS = {1: (0, 1, 2, 3), 2: (4, 5), 3: (6,)}  # of each stage's regions among the seven
# 64x32 images: maps of 16x8, 8x4, 4x2 and 4x2, a quarter of the paper's.
SMALL = {"height": 64, "width": 32, "feature_size": 6, "location_channels": 4}
FEATURE_WEIGHTS = {1: 0.35, 2: 0.5, 3: 0.7, 4: 0.8}


def narrow_resnet(name, *, last_stride, pretrained, ibn):
    """One block in each stage, of 8, 8, 12 and 16 channels."""
    inputs, widths, strides = (8, 8, 8, 12), (8, 8, 12, 16), (1, 2, 2, last_stride)

    def stage(channels, width, stride):
        shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        return nn.Sequential(BasicBlock(channels, width, stride, shortcut))

    stages = {f"layer{i}": stage(*sizes) for i, sizes in enumerate(zip(inputs, widths, strides, strict=True), 1)}
    stem = {"conv1": nn.Conv2d(3, 8, 7, 2, 3, bias=False), "bn1": nn.BatchNorm2d(8)}
    return ResNet(SimpleNamespace(**stem, relu=nn.ReLU(), maxpool=nn.MaxPool2d(3, 2, 1), **stages))


def plain_norm(module, x):
    """Batch norm of (B, C, ...), with the batch's own statistics in training mode."""
    dims = [0, *range(2, x.ndim)]
    mean, variance = module.running_mean, module.running_var
    if module.training:
        mean, variance = x.mean(dims), x.var(dims, correction=0)
    shape = (1, -1, *[1] * (x.ndim - 2))
    normalised = (x - mean.view(shape)) / (variance.view(shape) + 1e-5).sqrt()
    return normalised * module.weight.view(shape) + module.bias.view(shape)


def plain_stage_maps(model, images, variant):
    """What location and sampling read: semantic guidance in stages 1 and 2, upsampled before it is convolved."""
    found, x = {}, model.backbone.stem(images)
    for stage in (1, 2, 3, 4):
        x = found[stage] = getattr(model.backbone, f"layer{stage}")(x)
    if variant == "single_grained_features":
        return dict.fromkeys(found, x)
    for stage in (1, 2):
        if stage in ROWS[variant][0] or variant == "baseline_jo":
            large = functional.interpolate(x, found[stage].shape[2:], mode="bilinear", align_corners=False)
            found[stage] = found[stage] + torch.einsum("oi,bihw->bohw", kernel_of(model.guidance[str(stage)]), large)
    return found


def kernel_of(guidance):
    (weight,) = guidance.parameters()
    assert weight.shape[2:] == (1, 1)
    return weight[:, :, 0, 0]


def plain_location(module, x, stage):
    """Eq. 1 and 2: (B, R, 4) in parts of the map."""
    convolution, _, norm, _ = module.block
    hidden = functional.conv2d(x, convolution.weight, convolution.bias, padding=1).clamp(min=0)
    hidden = functional.max_pool2d(plain_norm(norm, hidden), 2).flatten(1)
    parameters = hidden * 0.3 / hidden.shape[1] ** 0.5 @ module.linear.weight.T + module.linear.bias
    boxes, (H, W) = [], x.shape[2:]
    for region, (C_x, C_y, N, M) in enumerate(TABLE_1[stage]):
        whole_H, whole_W = {1: (64, 32), 2: (32, 16), 3: (16, 8)}[stage]
        a, b, c, d = parameters[:, 4 * region : 4 * region + 4].unbind(1)
        x_c, y_c = (C_x + torch.tanh(a)) * W, (C_y + torch.tanh(b)) * H
        l_1, l_2 = torch.exp(c) * M * W / whole_W, torch.exp(d) * N * H / whole_H  # Table 1's sides at the start
        corners = (x_c - l_1 / 2) / W, (y_c - l_2 / 2) / H, (x_c + l_1 / 2) / W, (y_c + l_2 / 2) / H
        boxes.append(torch.stack(corners, dim=1))
    return torch.stack(boxes, dim=1)


def plain_sampling(U, boxes, N, M):
    """Eq. 4 with pixel centres, and eq. 5. U: (B, C, H, W); boxes: (B, 4)."""
    H, W = U.shape[2:]
    x_min, y_min, x_max, y_max = boxes.unbind(1)
    l_1, l_2, x_c, y_c = (x_max - x_min) * W, (y_max - y_min) * H, (x_min + x_max) / 2 * W, (y_min + y_max) / 2 * H
    x_s = x_c[:, None] + (torch.arange(M) + 0.5 - M / 2) * (l_1 / M)[:, None] - 0.5
    y_s = y_c[:, None] + (torch.arange(N) + 0.5 - N / 2) * (l_2 / N)[:, None] - 0.5
    across = (1 - (x_s[..., None] - torch.arange(W)).abs()).clamp(min=0)  # (B, M, W)
    down = (1 - (y_s[..., None] - torch.arange(H)).abs()).clamp(min=0)
    return torch.einsum("bchw,bmw,bnh->bcnm", U, across.to(U), down.to(U))


def plain_bottleneck(block, x):
    inner = plain_norm(block.bn1, functional.conv2d(x, block.conv1.weight)).clamp(min=0)
    inner = plain_norm(block.bn2, functional.conv2d(inner, block.conv2.weight, padding=1)).clamp(min=0)
    return (x + plain_norm(block.bn3, functional.conv2d(inner, block.conv3.weight))).clamp(min=0)


def plain_embedding(module, maps, *, linear=True):
    """Fig. 3: GAP + GMP of each region, concatenated, FC; the triplet's feature, the neck's output, the logits."""
    feature = torch.cat([x.flatten(2).mean(2) + x.flatten(2).max(2).values for x in maps], dim=1)
    feature = feature @ module.linear.weight.T if linear else feature
    neck = plain_norm(module.neck, feature)
    return feature, neck, neck @ module.classifier.weight.T


def plain_network(model, images, variant, given=None):
    """{stage: feature}, {stage: neck's output}, {stage: logits}, {stage: boxes}, by the row's own rules.

    given: (B, 7, 4) of without_jo.
    """
    stages, box_stages = ROWS[variant]
    maps, boxes, pooled = plain_stage_maps(model, images, variant), {}, {4: maps_of_stage_4(model, images, variant)}
    for stage in box_stages:
        boxes[stage] = plain_location(model.branches[str(stage)].location, maps[stage], stage)
    for stage in [stage for stage in stages if stage != 4]:
        blocks = model.branches[str(stage)].extraction
        if variant == "single_grained_regions" or (variant == "whole_image_stage3" and stage == 3):
            pooled[stage] = [plain_bottleneck(blocks[0], maps[stage])]
            continue
        if variant in ("without_jo", "boxes_fixed"):
            used = (given if variant == "without_jo" else model.fixed_boxes.expand(len(images), 7, 4))[
                :, list(POSITIONS[stage])
            ]
        else:
            used = boxes[stage].detach() if variant == "boxes_detached" else boxes[stage]
        whole = {1: (64, 32), 2: (32, 16), 3: (16, 8)}[stage]
        sizes = [
            (max(1, round(N * maps[stage].shape[2] / whole[0])), max(1, round(M * maps[stage].shape[3] / whole[1])))
            for _, _, N, M in TABLE_1[stage]
        ]
        parts = [plain_sampling(maps[stage], used[:, region], N, M) for region, (N, M) in enumerate(sizes)]
        pooled[stage] = [plain_bottleneck(block, part) for block, part in zip(blocks, parts, strict=True)]
    found = {
        stage: plain_embedding(model.embeddings[str(stage)], pooled[stage], linear=stages != [4]) for stage in stages
    }
    return *({stage: one[i] for stage, one in found.items()} for i in range(3)), boxes


def maps_of_stage_4(model, images, variant):
    """The whole image's map; extracted in the rows with features of their own stages, pooled as it is in the others."""
    x = model.backbone(images)
    return [x] if ROWS[variant][0] == [4] else [plain_bottleneck(model.branches["4"].extraction[0], x)]


@pytest.fixture
def network(monkeypatch):
    """network(variant, ...): a small one in float64 with running statistics, necks and boxes unlike those of the
    start."""
    monkeypatch.setattr(model_module, "build_resnet", narrow_resnet)

    def build(variant, **overrides):
        torch.manual_seed(0)
        unlimited = {} if variant == "boxes_detached" else {"box_gradient": "full"}  # the demo clips it
        model = MGRe(5, settings_of(variant, **SMALL | unlimited | overrides)).double()
        for name, parameter in model.named_parameters():
            if "neck.weight" in name or ".bn" in name:
                nn.init.uniform_(parameter, 0.5, 1.5)
            if ".location.linear" in name:
                nn.init.normal_(parameter, std=0.3 if parameter.ndim == 2 else 0.1)
        if model.fixed_boxes is not None:
            model.fixed_boxes.copy_(some_boxes(1)[0])
        for _ in range(3):
            model(*inputs_of(variant))
        return model

    return build


def some_boxes(count):
    low = torch.rand(count, 7, 2, dtype=torch.float64) * 0.5 - 0.1
    return torch.cat([low, low + 0.3 + 0.4 * torch.rand(count, 7, 2, dtype=torch.float64)], dim=2)


def inputs_of(variant, count=5):
    images = torch.randn(count, 3, 64, 32, dtype=torch.float64)
    return images, some_boxes(count) if variant == "without_jo" else None


def gradients_of(model, outputs):
    """Of a scalar that depends on every output, in each trained parameter."""
    scalar = sum((output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum() for output in outputs)
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    found = torch.autograd.grad(scalar, list(trained.values()), allow_unused=True)
    return dict(zip(trained, found, strict=True))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("variant", ROWS)
def test_features_logits_boxes_and_their_gradients_are_eq_1_to_5_and_fig_3(network, variant, training):
    model = network(variant).train(training)
    images, given = inputs_of(variant)
    found = model(images, given)
    features, _, logits, boxes = plain_network(model, images, variant, given)
    for got, expected in ((found.features, features), (found.logits, logits), (found.boxes, boxes)):
        assert list(got) == sorted(expected)
        for stage, value in expected.items():  # coordinates are float32
            torch.testing.assert_close(
                got[stage].double(), value, rtol=1e-4, atol=2e-5, msg=lambda m, s=stage: f"{s} {m}"
            )
    # Boxes among the outputs, so that location has a gradient where the features give none.
    outputs = [
        [part[stage] for part in parts for stage in sorted(part)] for parts in (found, (features, logits, boxes))
    ]
    got, expected = (gradients_of(model, values) for values in outputs)
    for name, gradient in expected.items():
        assert (gradient is None) == (got[name] is None), name
        if gradient is not None:
            assert (got[name] - gradient).norm() <= 1e-3 * gradient.norm() + 1e-6, name


@pytest.mark.parametrize("variant", ROWS)
def test_the_test_feature_is_eq_6_of_the_necks_outputs(network, variant):
    model = network(variant).eval()
    images, given = inputs_of(variant)
    _, necks, _, _ = plain_network(model, images, variant, given)
    parts = [FEATURE_WEIGHTS[stage] * necks[stage] / necks[stage].norm(dim=1, keepdim=True) for stage in sorted(necks)]
    torch.testing.assert_close(model.embed(images, given).double(), torch.cat(parts, dim=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", ROWS)
def test_each_region_has_a_feature_extraction_of_its_own(network, variant):
    model = network(variant)
    blocks = [block for branch in model.branches.values() for block in branch.extraction]
    stages, _ = ROWS[variant]
    expected = 0 if stages == [4] else 1 + sum(len(TABLE_1.get(stage, ())) for stage in stages)
    if variant in ("single_grained_regions", "whole_image_stage3"):
        expected = {"single_grained_regions": 4, "whole_image_stage3": 8}[variant]
    weights = [parameter for block in blocks for parameter in block.parameters()]
    assert len(blocks) == expected and len(set(map(id, weights))) == 9 * expected


def test_the_guided_maps_do_not_reach_the_next_stage(network):
    """Guidance needs stage 4's map; stages 2 to 4 are those of the plain backbone."""
    model = network("full").eval()
    images, _ = inputs_of("full")
    x1 = model.backbone.layer1(model.backbone.stem(images))
    torch.testing.assert_close(model.stage_maps(images)[4], model.backbone(images))
    torch.testing.assert_close(
        model.stage_maps(images)[3], model.backbone.layer3(model.backbone.layer2(x1)), rtol=0, atol=0
    )


def test_predictions_start_near_uniform_and_nothing_but_location_has_a_bias(network):
    torch.manual_seed(0)
    model = MGRe(200, settings_of(**SMALL))
    for embedding in model.embeddings.values():
        assert 0.0008 < embedding.classifier.weight.std() < 0.0012
        assert embedding.classifier.bias is None and embedding.linear.bias is None
        assert not embedding.neck.bias.requires_grad
    assert all(module.convolution.bias is None for module in model.guidance.values())


def test_the_backbone_is_the_one_that_the_settings_name(monkeypatch):
    asked = {}
    monkeypatch.setattr(
        model_module, "build_resnet", lambda name, **options: (asked.update(options), narrow_resnet(name, **options))[1]
    )
    MGRe(3, settings_of("full", demo=False, **SMALL))
    assert asked == {"last_stride": 1, "pretrained": "imagenet", "ibn": True}
    MGRe(3, settings_of("full", last_stride=2, pretrained="none", ibn=False, **SMALL))
    assert asked == {"last_stride": 2, "pretrained": "none", "ibn": False}
