"""Location and sampling against eq. 1-2 and eq. 4-5 written out plainly."""

from pathlib import Path

import pytest
import torch

from common.runs.settings import load_settings

from .location import LocationModule, boxes_of
from .regions import regions_of
from .sampling import sample
from .settings import Settings


def settings_of(**overrides):
    folder = Path(__file__).parent
    return load_settings(Settings, folder, dataset="market1501", demo=True, variant="full", overrides=overrides)


# ------------------------------------------------------------------ sampling, eq. 4-5


def eq_5(U, centre, lengths, size):
    """Eq. 5's double sum at eq. 4's coordinates with pixel centres. U: (C, H, W); centre in (0, 1); lengths in
    pixels."""
    C, H, W = U.shape
    (l_1, l_2), (N, M) = lengths, size
    V = torch.zeros(C, N, M, dtype=U.dtype)
    for row in range(N):
        for column in range(M):
            x_s = centre[0] * W + (column + 0.5 - M / 2) * l_1 / M - 0.5
            y_s = centre[1] * H + (row + 0.5 - N / 2) * l_2 / N - 0.5
            for n in range(H):
                for m in range(W):
                    V[:, row, column] += U[:, n, m] * max(0, 1 - abs(x_s - m)) * max(0, 1 - abs(y_s - n))
    return V


# Within the map, larger than it, smaller than a pixel, and mostly outside.
@pytest.mark.parametrize(
    ("centre", "lengths"),
    [((0.45, 0.6), (3.1, 4.2)), ((0.5, 0.5), (9, 12)), ((0.3, 0.2), (0.4, 0.6)), ((1.0, 0.1), (4, 5))],
)
def test_sampling_is_eq_5_as_a_double_sum(centre, lengths):
    torch.manual_seed(0)
    U = torch.randn(2, 7, 5, dtype=torch.float64)
    half = torch.tensor(lengths) / (2 * torch.tensor([5.0, 7.0]))
    box = torch.cat([torch.tensor(centre) - half, torch.tensor(centre) + half])
    output = sample(U[None], box[None], (4, 3))
    torch.testing.assert_close(output[0], eq_5(U, centre, lengths, (4, 3)), atol=1e-5, rtol=1e-4)


def test_a_box_of_the_whole_map_at_its_own_size_is_the_map():
    x = torch.randn(2, 3, 6, 4)
    torch.testing.assert_close(sample(x, torch.tensor([[0.0, 0, 1, 1]] * 2), (6, 4)), x)


def test_coordinates_are_not_rounded_where_the_map_is_bf16():
    x = torch.randn(1, 1, 64, 32).bfloat16()
    boxes = torch.tensor([[0.2013, 0.3049, 0.8123, 0.9077]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = sample(x, boxes, (8, 8))
    torch.testing.assert_close(output, sample(x.float(), boxes, (8, 8)), atol=1e-5, rtol=1e-4)


def test_the_gradient_in_the_box_parameters_is_that_of_finite_differences():
    torch.manual_seed(0)
    x = torch.randn(1, 2, 8, 6)
    direction = torch.randn(1, 2, 3, 4)
    parameters = torch.tensor([[[0.13, -0.21, 1.1, 1.3]]], requires_grad=True)  # atanh dC, log l of one region

    def value(p):
        boxes = boxes_of(p, torch.tensor([[0.5, 0.4]]), 8, 6)
        return (sample(x, boxes[:, 0], (3, 4)).double() * direction).sum()

    (gradient,) = torch.autograd.grad(value(parameters), parameters)
    for position in range(4):
        step = torch.zeros(1, 1, 4)
        step[..., position] = 1e-3
        with torch.no_grad():
            difference = (value(parameters + step) - value(parameters - step)) / 2e-3
        assert gradient[0, 0, position].item() == pytest.approx(difference.item(), rel=0.02, abs=0.01)


# ------------------------------------------------------------------ location, eq. 1-3


def test_boxes_are_eq_2():
    # W = 10, H = 20; tanh(atanh) = 0.1 and -0.2; l = (4, 5): x from (0.5 + 0.1) 10 - 2 to + 2, y from (0.75 - 0.2) 20 -
    # 2.5.
    parameters = torch.tensor([[[0.1, -0.2, 4.0, 5.0]]])
    parameters = torch.cat([parameters[..., :2].atanh(), parameters[..., 2:].log()], dim=2)
    box = boxes_of(parameters, torch.tensor([[0.5, 0.75]]), 20, 10)
    torch.testing.assert_close(box * torch.tensor([10, 20, 10, 20]), torch.tensor([[[4.0, 8.5, 8.0, 13.5]]]))


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_boxes_start_at_table_1s_priors(stage):
    torch.manual_seed(0)
    regions, settings = regions_of(stage), settings_of(location_channels=3)
    height, width = {1: (64, 32), 2: (32, 16), 3: (16, 8)}[stage]
    boxes = LocationModule(4, (height, width), regions, settings)(torch.randn(2, 4, height, width))
    pixels = boxes[1] * torch.tensor([width, height, width, height])
    for region, (x_min, y_min, x_max, y_max) in zip(regions, pixels.tolist(), strict=True):
        assert (x_max - x_min, y_max - y_min) == pytest.approx((region.M, region.N))
        assert ((x_min + x_max) / 2, (y_min + y_max) / 2) == pytest.approx(
            (region.centre[0] * width, region.centre[1] * height), abs=1e-4
        )


def test_position_survives_in_the_location_module():
    """The same bright spot elsewhere gives other boxes once the last layer is not zero."""
    torch.manual_seed(0)
    module = LocationModule(1, (8, 8), regions_of(3), settings_of(location_channels=2)).eval()
    torch.nn.init.normal_(module.linear.weight)
    spots = torch.zeros(2, 1, 8, 8)
    spots[0, 0, 1, 1] = spots[1, 0, 5, 5] = 1
    first, second = module(spots)
    assert not torch.allclose(first, second)
