"""Dynamic feature weakening against eq. 1-3 worked out by hand."""

import copy
import math

import pytest
import torch
import torchvision

from .weakening import DynamicFeatureWeakening, response

# Two channels of 2 x 3 cells. Mean over channels: [[1, 2, 3], [0, 4, 2]]; maximum: [[2, 2, 5], [0, 4, 3]].
MAP = torch.tensor([[[[2.0, 2, 1], [0, 4, 3]], [[0.0, 2, 5], [0, 4, 1]]]])
RESPONSE = torch.tensor([[[3.0, 4, 8], [0, 8, 5]]])  # eq. 1; its mean is 28 / 6 = 4.67, its range 0 to 8


def test_response_is_eq_1():
    torch.testing.assert_close(response(MAP), RESPONSE)


@pytest.mark.parametrize(
    ("form", "numbers", "expected"),
    [
        # At or above the mean: 8, 8 and 5, so e = 3/6.
        ("D1", {"alpha": 0.2}, [[1, 1, 0.2], [1, 0.2, 0.2]]),
        ("D3", {}, [[1, 1, 1 / 2], [1, 1 / 2, 1 / 2]]),
        # Stretched to [0, 1]: 3/8, 4/8, 1, 0, 1, 5/8. At or above 0.5 are four, so e = 4/6; above 0.8 two, e = 2/6.
        ("D2", {"beta": 0.5}, [[1, 2 / 3, 2 / 3], [1, 2 / 3, 2 / 3]]),
        ("D2", {"beta": 0.8}, [[1, 1, 1 / 3], [1, 1 / 3, 1]]),
    ],
)
def test_matrix_is_eq_2_and_the_map_is_multiplied_by_it(form, numbers, expected):
    dfw = DynamicFeatureWeakening(form, **numbers)
    M = torch.tensor([expected], dtype=torch.float32)
    torch.testing.assert_close(dfw.matrix(RESPONSE), M)
    torch.testing.assert_close(dfw(MAP), MAP * M[:, None])
    gated = DynamicFeatureWeakening(form, **numbers, gate="sigmoid")
    by_hand = [
        [1 / (1 + math.exp(-f * m)) for f, m in zip(*rows, strict=True)] for rows in zip(RESPONSE[0], M[0], strict=True)
    ]
    torch.testing.assert_close(gated(MAP), MAP * torch.tensor(by_hand))  # eq. 3


@pytest.mark.parametrize("form", ["D1", "D2", "D3"])
def test_each_image_is_weakened_by_its_own_threshold(form):
    maps = torch.rand(5, 7, 6, 3) * torch.tensor([1.0, 10, 0.1, 3, 50]).view(5, 1, 1, 1)
    dfw = DynamicFeatureWeakening(form)
    torch.testing.assert_close(dfw(maps), torch.cat([dfw(maps[i : i + 1]) for i in range(5)]))


def test_weakening_keeps_shape_and_type_and_lets_gradients_through():
    maps = torch.rand(2, 5, 4, 3, dtype=torch.bfloat16, requires_grad=True)
    for gate in ("multiply", "sigmoid"):
        out = DynamicFeatureWeakening("D3", gate=gate)(maps)
        assert out.shape == maps.shape and out.dtype == maps.dtype
        (gradient,) = torch.autograd.grad(out.float().sum(), maps)
        assert torch.isfinite(gradient).all() and (gradient != 0).all()


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="D1, D2, D3, not 'D4'"):
        DynamicFeatureWeakening("D4")


def test_one_line_puts_it_into_a_torchvision_resnet():
    network = torchvision.models.resnet18(weights=None).eval()
    plain = copy.deepcopy(network)
    network.layer3 = torch.nn.Sequential(network.layer3, DynamicFeatureWeakening("D3"))
    x = torch.randn(2, 3, 64, 32)
    maps = plain.layer3(plain.layer2(plain.layer1(plain.maxpool(plain.relu(plain.bn1(plain.conv1(x)))))))
    weakened = DynamicFeatureWeakening("D3")(maps)
    assert (weakened <= maps).all() and (weakened < maps).any()
    expected = plain.fc(plain.avgpool(plain.layer4(weakened)).flatten(1))
    torch.testing.assert_close(network(x), expected)
    assert sum(p.numel() for p in network.parameters()) == sum(p.numel() for p in plain.parameters())
