"""The losses, with gradients, against eq. 3 and eq. 7-9 written out plainly."""

from pathlib import Path

import pytest
import torch

from common.runs.settings import load_settings

from .losses import Batch, location_loss, losses
from .model import Output
from .settings import Settings

LABELS = torch.tensor([0, 0, 1, 1, 2, 2])
# Each stage's regions among the seven, and its map's height and width at 128x64.
POSITIONS = {1: [0, 1, 2, 3], 2: [4, 5], 3: [6]}
CELLS = {1: (32, 16), 2: (16, 8), 3: (8, 4)}  # H and W of the demo's maps
UNITS = {"cells": CELLS, "image": dict.fromkeys(CELLS, (1, 1)), "cells of stage 4": dict.fromkeys(CELLS, (8, 4))}
UNIT_SETTINGS = {
    "cells": {},
    "image": {"location_units": "image"},
    "cells of stage 4": {"single_grained_features": True},  # whose map all modules read
}


def settings_of(**overrides):
    folder = Path(__file__).parent
    return load_settings(Settings, folder, dataset="market1501", demo=True, variant="full", overrides=overrides)


def plain_identity_loss(logits, labels):
    """Soft labels: 0.1 / K for each of K classes, and 0.9 more for the true one."""
    total = 0
    for row, label in zip(logits, labels, strict=True):
        logarithms = row - torch.log(torch.exp(row).sum())
        total -= 0.9 * logarithms[label] + 0.1 * logarithms.mean()
    return total / len(labels)


def plain_triplet_loss(features, labels):
    """The farthest match and the nearest non-match of each image, by Euclidean distance; margin 0.3."""
    total = 0
    for anchor, label in zip(features, labels, strict=True):
        distances = ((features - anchor) ** 2).sum(1).clamp(min=1e-12).sqrt()
        total += (0.3 + distances[labels == label].max() - distances[labels != label].min()).clamp(min=0)
    return total / len(labels)


def plain_location_loss(boxes, targets, known, stage, cells=CELLS):
    """Eq. 3, the mean over the regions that have joints. boxes: of the stage; targets and known: of all seven."""
    H, W = cells[stage]
    squares = []
    for image, own in enumerate(boxes):
        for box, position in zip(own, POSITIONS[stage], strict=True):
            if known[image, position]:
                x_min, y_min, x_max, y_max = box - targets[image, position]
                squares.append((W * x_min) ** 2 + (W * x_max) ** 2 + (H * y_min) ** 2 + (H * y_max) ** 2)
    return sum(squares) / len(squares) if squares else boxes.sum() * 0


def plain_losses(features, logits, boxes, labels, targets=None, known=None, *, lam=0.5, location=1.0, cells=CELLS):
    """Eq. 7 to 9, with each term; {stage: ...} of features, logits and boxes."""
    weight = {1: lam, 2: lam, 3: lam, 4: 1}
    identity = {stage: plain_identity_loss(logits[stage], labels) for stage in logits}
    terms = {
        "identity_loss": sum(weight[stage] * loss for stage, loss in identity.items()),
        "triplet_loss": sum(weight[stage] * plain_triplet_loss(features[stage], labels) for stage in features),
    }
    by_stage = {f"identity_loss_{stage}": loss for stage, loss in identity.items()}
    if boxes:
        located = {stage: plain_location_loss(boxes[stage], targets, known, stage, cells) for stage in boxes}
        terms["location_loss"] = location * lam * sum(located.values())
        by_stage |= {f"location_loss_{stage}": loss for stage, loss in located.items()}
    return {"loss": sum(terms.values()), **terms, **by_stage}


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


@pytest.mark.parametrize("stages", [(1, 2, 3, 4), (2, 4), (4,)])
@pytest.mark.parametrize("units", ["image", "cells", "cells of stage 4"])
@pytest.mark.parametrize(("lam", "location"), [(0.5, 1.0), (0.3, 2.0)])
def test_losses_and_gradients_are_eq_9_of_eq_3_and_7_and_8(stages, units, lam, location):
    torch.manual_seed(0)
    settings = settings_of(stage_loss_weight=lam, location_loss_weight=location, **UNIT_SETTINGS[units])
    features = {stage: torch.randn(6, 5, requires_grad=True) for stage in stages}
    logits = {stage: torch.randn(6, 3, requires_grad=True) for stage in stages}
    boxes = {stage: torch.rand(6, len(POSITIONS[stage]), 4, requires_grad=True) for stage in stages if stage != 4}
    targets, known = torch.rand(6, 7, 4), torch.rand(6, 7) < 0.7
    found = losses(Output(features, logits, boxes), Batch(LABELS, targets, known), settings)
    constants = {"lam": lam, "location": location, "cells": UNITS[units]}
    expected = plain_losses(features, logits, boxes, LABELS, targets, known, **constants)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-4), name
    inputs = [value for part in (features, logits, boxes) for value in part.values()]
    gradients = [torch.autograd.grad(terms["loss"], inputs) for terms in (found, expected)]
    for got, gradient in zip(*gradients, strict=True):
        torch.testing.assert_close(got, gradient, rtol=1e-3, atol=1e-6)


def test_the_values_of_the_paper_are_the_defaults():
    settings = settings_of()
    assert (settings.stage_loss_weight, settings.location_loss_weight) == (0.5, 1.0)
    assert (settings.label_smoothing, settings.triplet_margin) == (0.1, 0.3)
    assert (settings.location_units, settings.margin_units) == ("cells", "image")


def test_a_network_without_regions_has_no_location_loss():
    output = Output({4: torch.randn(4, 5)}, {4: torch.randn(4, 3)}, {})
    found = losses(output, Batch(torch.tensor([0, 0, 1, 2])), settings_of())
    assert list(found) == ["loss", "identity_loss", "triplet_loss", "identity_loss_4"]
