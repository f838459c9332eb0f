"""What is logged of the boxes, against plain computations; and that carriers name what the network has."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from common.datasets import open_dataset
from common.datasets.poses import read_joints
from common.datasets.synthetic import make_dataset
from common.probes import frozen_to, replaced_outputs

from .activity import BoxGradients, Watched, carriers_of, location_activity, predicted_boxes, watched_people
from .losses import Batch, losses
from .losses_test import CELLS, POSITIONS, UNITS, plain_location_loss
from .model import MGRe
from .model_test import ROWS, settings_of
from .regions import REGIONS, prior_boxes, target_boxes

REGION_NAMES = [
    "head", "half_left_torso", "half_right_torso", "legs", "upper_body", "lower_body", "whole_body",
]  # fmt: skip
MARGINS = torch.full((7, 2), 0.05)


def network(variant="full", **overrides):
    torch.manual_seed(0)
    settings = settings_of(variant, feature_size=8, location_channels=4, pretrained="none", **overrides)
    model = MGRe(3, settings)
    for stage in model.box_stages:
        torch.nn.init.normal_(model.branches[str(stage)].location.linear.weight, std=0.1)
    return model


def plain_iou(box, other):
    width = max(0, min(box[2], other[2]) - max(box[0], other[0]))
    height = max(0, min(box[3], other[3]) - max(box[1], other[1]))
    area, other_area = ((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other))
    return width * height / (area + other_area - width * height)


def random_boxes(count):
    low = torch.rand(count, 7, 2) * 0.5
    return torch.cat([low, low + 0.1 + 0.4 * torch.rand(count, 7, 2)], dim=2)


@pytest.mark.parametrize("units", ["image", "cells"])
def test_overlaps_and_location_loss_of_predicted_and_of_constant_boxes(units):
    torch.manual_seed(0)
    settings = settings_of(location_units=units)
    true, known, mean = random_boxes(5), torch.rand(5, 7) < 0.7, random_boxes(1)[0]
    known[0] = True
    boxes = random_boxes(5)
    predicted = {stage: boxes[:, own] for stage, own in POSITIONS.items()}
    found = location_activity(predicted, Watched(torch.empty(0), true, known, mean), settings)

    def overlaps(some):
        return [
            np.mean([plain_iou(some[i, r].tolist(), true[i, r].tolist()) for i in range(5) if known[i, r]])
            for r in range(7)
        ]

    for name, iou in zip(REGION_NAMES, overlaps(boxes), strict=True):
        assert found[f"iou_{name}"] == pytest.approx(iou, abs=1e-5), name
    compared = {"": boxes, "_mean_boxes": mean.expand(5, 7, 4), "_table1": prior_boxes().expand(5, 7, 4)}
    for name, some in compared.items():
        assert found[f"iou{name}"] == pytest.approx(np.mean(overlaps(some)), abs=1e-5)
    for name, some in (("held_out", boxes), ("mean_boxes", compared["_mean_boxes"])):
        cells = UNITS[units]
        loss = sum(plain_location_loss(some[:, own], true, known, stage, cells) for stage, own in POSITIONS.items())
        assert found[f"{name}_location_loss"] == pytest.approx(0.5 * loss.item(), rel=1e-4)
    assert CELLS[1] == (32, 16)


def test_overlaps_are_of_the_stages_that_locate():
    true = random_boxes(2)
    watched = Watched(torch.empty(0), true, torch.ones(2, 7, dtype=torch.bool), true[0])
    found = location_activity({2: true[:, 4:6]}, watched, settings_of("stage2"))
    assert {name for name in found if name.startswith("iou_")} == {
        "iou_upper_body", "iou_lower_body", "iou_mean_boxes", "iou_table1",
    }  # fmt: skip
    assert found["iou"] == pytest.approx(1) and found["held_out_location_loss"] == 0


@pytest.mark.parametrize("rule", ["full", "scaled", "clipped", "detached"])
def test_the_ratio_of_the_gradients_in_the_boxes(rule):
    """What arrives of the re-ID gradient over the location loss's; the backward pass is what it is without."""
    images, labels = torch.randn(4, 3, 128, 64), torch.tensor([0, 0, 1, 1])
    batch = Batch(labels, random_boxes(4), torch.ones(4, 7, dtype=torch.bool))
    kept = {}
    for watched in (False, True):
        model = network(box_gradient=rule, box_gradient_factor=0.05)
        output = model(images)
        terms = losses(output, batch, settings_of())
        gradients = BoxGradients(output, terms) if watched else None
        (8.0 * terms["loss"]).backward()  # as GradScaler does
        kept[watched] = [p.grad for p in model.parameters() if p.grad is not None]
    torch.testing.assert_close(kept[True], kept[False], rtol=0, atol=0)
    found = gradients.ratios(8.0)
    assert list(found) == [f"box_gradient_{name}" for name in REGION_NAMES]

    model = network(box_gradient="full")
    output = model(images)
    terms = losses(output, batch, settings_of())
    for stage, boxes in output.boxes.items():
        re_id, location = (
            torch.autograd.grad(part, boxes, retain_graph=True)[0]
            for part in (terms["identity_loss"] + terms["triplet_loss"], terms["location_loss"])
        )
        for region, position in enumerate(POSITIONS[stage]):
            ratio = (re_id[:, region].norm() / location[:, region].norm()).item()
            expected = {"full": ratio, "scaled": 0.05 * ratio, "clipped": min(ratio, 0.05), "detached": 0.0}[rule]
            value = found[f"box_gradient_{REGION_NAMES[position]}"]
            assert value == pytest.approx(expected, rel=0.02, abs=1e-4), REGION_NAMES[position]


def test_the_people_watched_are_not_trained_on(tmp_path, monkeypatch):
    monkeypatch.setenv("REID_DATA", str(tmp_path / "data"))
    make_dataset(tmp_path / "market1501", like="market1501", size="tiny")
    dataset = open_dataset("market1501", tmp_path)
    mean = prior_boxes() + 0.01
    for held_out, subset in ((0, dataset.query), (3, dataset.hold_out(3)[1].query)):
        run = SimpleNamespace(dataset=dataset, settings=settings_of(validation_identities=held_out, cache=False))
        watched = watched_people(run, mean)
        assert len(watched.images) == len(np.unique(subset.persons)) and watched.mean is mean
        true, _ = target_boxes(read_joints(dataset, subset), MARGINS)
        everyone = {tuple(box.flatten().tolist()) for box in true}
        assert {tuple(box.flatten().tolist()) for box in watched.true} <= everyone and watched.known.any(1).all()
    (tmp_path / "market1501" / "poses.json").unlink()
    assert watched_people(run, mean) is None


def test_predicted_boxes_are_those_of_evaluation_mode_and_the_mode_stays():
    model, images = network(), torch.randn(3, 3, 128, 64)
    found = predicted_boxes(model.train(), images)
    assert model.training
    for stage, boxes in model.eval().locate(images).items():
        torch.testing.assert_close(found[stage], boxes.detach())
    predicted_boxes(model, images)
    assert not model.training


FEATURES = {
    1: {"feature of stage 1": ["embeddings.1.neck"]},
    2: {"feature of stage 2": ["embeddings.2.neck"]},
    3: {"feature of stage 3": ["embeddings.3.neck"]},
    4: {"feature of stage 4": ["embeddings.4.neck"]},
}
BOXES = {
    1: {"boxes of stage 1": ["branches.1.location"]},
    2: {"boxes of stage 2": ["branches.2.location"]},
    3: {"boxes of stage 3": ["branches.3.location"]},
}
ALL_BOXES = {
    (1, 2, 3): {"all boxes": ["branches.1.location", "branches.2.location", "branches.3.location"]},
    (2, 3): {"all boxes": ["branches.2.location", "branches.3.location"]},
    (1, 2): {"all boxes": ["branches.1.location", "branches.2.location"]},
}


@pytest.mark.parametrize("variant", ROWS)
def test_replacing_any_carrier_changes_the_test_feature(variant):
    stages, box_stages = ROWS[variant]
    model, images = network(variant).eval(), torch.randn(3, 3, 128, 64)
    boxes = prior_boxes().expand(3, -1, -1) if variant == "without_jo" else None
    carriers = carriers_of(model)
    expected = {}
    for rows in (*(FEATURES[stage] for stage in stages), *(BOXES[stage] for stage in box_stages)):
        expected |= rows
    expected |= ALL_BOXES.get(tuple(box_stages), {})
    assert carriers == expected and list(carriers) == list(expected)
    with torch.no_grad():
        before = model.stage_features(images, boxes)
        for row, names in carriers.items():
            other = {
                name: frozen_to(torch.tensor([0.2, 0.2, 0.7, 0.7]) if "location" in name else torch.ones(()))
                for name in names
            }
            with replaced_outputs(model, other):
                changed = (model.stage_features(images, boxes) - before).abs().amax((0, 2)) > 1e-5
            own = [str(stage) in row or (row == "all boxes" and stage in box_stages) for stage in stages]
            assert changed.tolist() == (own if variant != "baseline_jo" or "feature" in row else [False]), row
    assert [region.name.replace(" ", "_") for region in REGIONS] == REGION_NAMES
