"""Counts against published numbers and formulas written out by hand."""

import pytest
import torch
import torchvision
from torch import nn

from common.complexity import count_macs, count_parameters


@pytest.mark.parametrize(("depth", "billions"), [(50, 4.05), (101, 6.48), (152, 8.90)])
def test_resnets_of_person_re_identification(depth, billions):
    model = torchvision.models.get_model(f"resnet{depth}", weights=None)
    first = model.layer4[0]
    first.conv2.stride = first.downsample[0].stride = (1, 1)
    assert count_macs(model, torch.zeros(1, 3, 256, 128)) == pytest.approx(billions * 1e9, rel=0.01)


def test_linear_counts_every_row_of_the_batch():
    assert count_macs(nn.Linear(10, 20), torch.zeros(3, 5, 10)) == 3 * 5 * 10 * 20
    assert count_parameters(nn.Linear(10, 20)) == 10 * 20 + 20


def test_convolution():
    # Each of 8 x 3 x 4 outputs of 2 images sums over a 3x3 window of one group's 2 channels.
    model = nn.Conv2d(4, 8, kernel_size=3, stride=2, padding=1, groups=2, bias=False)
    assert count_macs(model, torch.zeros(2, 4, 6, 8)) == 2 * (8 * 3 * 4) * (2 * 3 * 3)
    assert count_parameters(model) == 8 * 2 * 3 * 3


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("directions", [1, 2])
def test_two_layer_lstm(directions, batch_first):
    width, hidden, batch, steps = 10, 7, 3, 5
    model = nn.LSTM(width, hidden, num_layers=2, bidirectional=directions == 2, batch_first=batch_first)
    # Four gates read the input and the last hidden state; the second layer's input is both directions of the first.
    gates = 4 * hidden
    one_step = gates * (width + hidden) + gates * (directions * hidden + hidden)
    shape = (batch, steps, width) if batch_first else (steps, batch, width)
    assert count_macs(model, torch.zeros(shape)) == batch * steps * directions * one_step
    assert count_parameters(model) == directions * (one_step + 2 * 2 * gates)  # each layer has two biases


class Similarity(nn.Module):
    def forward(self, features, others):
        return torch.einsum("bnc,bmc->bnm", features, others)


def test_einsum_of_two_inputs():
    assert count_macs(Similarity(), torch.zeros(2, 3, 4), torch.zeros(2, 5, 4)) == 2 * 3 * 5 * 4


def test_attention():
    batch, tokens, width, heads = 2, 6, 8, 2
    model = nn.MultiheadAttention(width, heads, batch_first=True)
    inputs = torch.zeros(batch, tokens, width)
    projections = 4 * tokens * width * width  # query, key, value, output
    products = 2 * tokens * tokens * width  # query by key, weights by value
    assert count_macs(model, inputs, inputs, inputs) == batch * (projections + products)


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    count_macs(model, torch.zeros(2, 3, 8, 8))
    assert model.training and model[1].training and int(model[1].num_batches_tracked) == 0
    assert model[0].weight.device.type == "cpu" and model[0].weight.grad is None


def test_shared_parameters_count_once():
    layer = nn.Linear(4, 4, bias=False)
    layer.weight.requires_grad_(False)
    assert count_parameters(nn.Sequential(layer, layer)) == 16
