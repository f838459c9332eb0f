"""The losses against eq. 3 and eq. 7-9 written out plainly."""

from pathlib import Path

import pytest
import torch

from common.runs.settings import load_settings

from .losses import Batch, location_loss, losses
from .model import Output
from .regions import positions_of, regions_of
from .settings import Settings


def settings_of(**overrides):
    folder = Path(__file__).parent
    return load_settings(Settings, folder, dataset="market1501", demo=True, variant="full", overrides=overrides)


def test_location_loss_is_eq_3_with_unknown_boxes_left_out():
    boxes = torch.tensor([[[0.1, 0.2, 0.5, 0.6], [0, 0, 1, 1]], [[0.3, 0.3, 0.7, 0.9], [0, 0, 1, 1]]])
    low = torch.tensor([[0.3, 0.2], [0.25, 0.4]])  # min of the joints of the known regions, then max
    high = torch.tensor([[0.4, 0.5], [0.65, 0.75]])
    targets = torch.zeros(2, 2, 4)
    targets[:, 0] = torch.cat([low - 0.05, high + 0.05], dim=1)
    known = torch.tensor([[True, False], [True, False]])
    first = (0.1 - 0.25) ** 2 + (0.2 - 0.15) ** 2 + (0.5 - 0.45) ** 2 + (0.6 - 0.55) ** 2
    second = (0.3 - 0.2) ** 2 + (0.3 - 0.35) ** 2 + (0.7 - 0.7) ** 2 + (0.9 - 0.8) ** 2
    assert location_loss(boxes, targets, known).item() == pytest.approx((first + second) / 2)
    nothing = location_loss(boxes.requires_grad_(), targets, torch.zeros_like(known))
    nothing.backward()
    assert nothing == 0 and boxes.grad.abs().sum() == 0


def test_losses_are_eq_9_of_eq_3_and_7_and_8():
    torch.manual_seed(0)
    settings = settings_of(stage_loss_weight=0.3, location_loss_weight=2.0)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    features = {stage: torch.randn(6, 5) for stage in (1, 2, 3, 4)}
    logits = {stage: torch.randn(6, 3) for stage in (1, 2, 3, 4)}
    boxes = {stage: torch.rand(6, len(regions_of(stage)), 4) for stage in (1, 2, 3)}
    targets, known = torch.rand(6, 7, 4), torch.rand(6, 7) < 0.7
    found = losses(Output(features, logits, boxes), Batch(labels, targets, known), settings)

    def identity(stage):  # soft labels: 0.1 / 3 for each of three classes, and 0.9 more for the true one
        total = 0
        for row, label in zip(logits[stage].softmax(1).log(), labels, strict=True):
            total -= (0.9 * row[label] + 0.1 / 3 * row.sum()) / 6
        return total

    def triplet(stage):
        total = 0
        for anchor in range(6):
            distances, same = (features[stage] - features[stage][anchor]).norm(dim=1), labels == labels[anchor]
            total += max(0, distances[same].max() - distances[~same].min() + 0.3) / 6
        return total

    def location(stage):
        squares = [
            ((boxes[stage][image, region] - targets[image, position]) ** 2).sum()
            for image in range(6)
            for region, position in enumerate(range(7)[positions_of(stage)])
            if known[image, position]
        ]
        return sum(squares) / len(squares)

    expected = {
        "identity_loss": 0.3 * sum(identity(stage) for stage in (1, 2, 3)) + identity(4),
        "triplet_loss": 0.3 * sum(triplet(stage) for stage in (1, 2, 3)) + triplet(4),
        "location_loss": 0.3 * 2.0 * sum(location(stage) for stage in (1, 2, 3)),
    }
    expected = {"loss": sum(expected.values()), **expected}
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-4), name


def test_a_network_without_regions_has_no_location_loss():
    output = Output({4: torch.randn(4, 5)}, {4: torch.randn(4, 3)}, {})
    found = losses(output, Batch(torch.tensor([0, 0, 1, 2])), settings_of())
    assert list(found) == ["loss", "identity_loss", "triplet_loss"]
