"""Outputs read and replaced from outside, and their statistics."""

import numpy as np
import pytest
import torch
from torch import nn

from common.probes import (
    deviation_over_images,
    frozen_to,
    gate_statistics,
    outputs_of,
    replaced_outputs,
    shuffled,
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Sigmoid(), nn.Linear(4, 2)))


def test_outputs_are_read_without_changing_the_network(model):
    x = torch.randn(5, 3)
    before = model(x)
    with outputs_of(model, ["0", "1.0"]) as found:
        torch.testing.assert_close(model(x), before)
    torch.testing.assert_close(found["1.0"], torch.sigmoid(model[0](x)))
    assert set(found) == {"0", "1.0"} and not found["0"].requires_grad
    model(torch.zeros(1, 3))
    assert len(found["0"]) == 5, "nothing is read any more"


def test_an_output_is_replaced_inside_only_also_after_an_error(model):
    x, mean = torch.randn(5, 3), torch.rand(4)
    before = model(x)
    with replaced_outputs(model, {"1.0": frozen_to(mean)}):
        torch.testing.assert_close(model(x), model[1][1](mean).expand(5, 2))
    with pytest.raises(ZeroDivisionError), replaced_outputs(model, {"1.0": frozen_to(mean)}):
        raise ZeroDivisionError
    torch.testing.assert_close(model(x), before)


def test_each_image_gets_the_output_of_the_one_half_a_batch_further_on():
    assert shuffled(torch.arange(5.0)[:, None]).flatten().tolist() == [3, 4, 0, 1, 2]


def test_gates_near_0_and_1_are_saturated():
    gates = torch.tensor([[0.001, 0.5], [0.995, 0.2]])
    found = gate_statistics(gates)
    assert found["saturated"] == 0.5
    assert found["mean"] == pytest.approx(gates.mean().item())
    assert found["spread"] == pytest.approx(np.std(gates.numpy(), ddof=1))


def test_the_deviation_is_that_over_images_not_over_dimensions():
    same = torch.randn(1, 7).expand(4, 7)
    assert deviation_over_images(same) == 0
    outputs = torch.tensor([[0.0, 0.0, 5.0], [2.0, 0.0, 9.0]])  # variances 2, 0, 8
    assert deviation_over_images(outputs) == pytest.approx((10 / 3) ** 0.5)
