"""Joints, the boxes around them, and flips."""

import pytest
import torch

from common.datasets.poses import COCO_JOINTS

from .model_test import settings_of
from .regions import (
    REGIONS,
    boxes_from_poses,
    flip_joints,
    intersection_over_union,
    margins_of,
    mean_boxes,
    prior_boxes,
    target_boxes,
)

NAMES = [region.name for region in REGIONS]
MARGINS = torch.full((7, 2), 0.05)


def pose(**places):
    """(1, 17, 3): the named joints at (x, y), seen; the others absent."""
    joints = torch.zeros(1, 17, 3)
    for name, (x, y) in places.items():
        joints[0, COCO_JOINTS.index(name)] = torch.tensor([x, y, 2.0])
    return joints


def box_of(boxes, name):
    return boxes[0, NAMES.index(name)].tolist()


def test_priors_are_table_1():
    expected = {  # C_x -+ M/2W, C_y -+ N/2H
        "head": (1 / 2 - 1 / 8, 1 / 12 - 1 / 16, 1 / 2 + 1 / 8, 1 / 12 + 1 / 16),
        "half left torso": (1 / 4, 1 / 3 - 1 / 4, 3 / 4, 1 / 3 + 1 / 4),
        "legs": (0, 3 / 4 - 3 / 16, 1, 3 / 4 + 3 / 16),
        "lower body": (0, 1 / 2, 1, 1),
        "whole body": (0, 0, 1, 1),
    }
    for name, box in expected.items():
        assert prior_boxes()[NAMES.index(name)].tolist() == pytest.approx(box)


def test_targets_are_the_joints_extent_with_the_margin():
    joints = pose(
        nose=(0.5, 0.1), left_ear=(0.6, 0.12), left_wrist=(0.8, 0.5), right_knee=(0.4, 0.7), left_hip=(0.55, 0.45)
    )
    boxes, known = target_boxes(joints, MARGINS)
    assert box_of(boxes, "head") == pytest.approx((0.45, 0.05, 0.65, 0.17))
    assert box_of(boxes, "half left torso") == pytest.approx((0.50, 0.40, 0.85, 0.55))
    assert box_of(boxes, "legs") == pytest.approx((0.35, 0.40, 0.60, 0.75))
    assert box_of(boxes, "upper body") == pytest.approx((0.45, 0.05, 0.85, 0.55))
    assert box_of(boxes, "whole body") == pytest.approx((0.35, 0.05, 0.85, 0.75))
    assert known[0].tolist() == [name != "half right torso" for name in NAMES]
    assert box_of(boxes, "half right torso") == [0, 0, 0, 0]


def test_margins_are_parts_of_the_image_or_of_a_cell():
    """At 128x64 stage 1's map is 32x16; with single-grained features all read stage 4's, 8x4."""
    torch.testing.assert_close(margins_of(settings_of()), MARGINS)
    found = margins_of(settings_of(margin_units="cells")) / 0.05
    torch.testing.assert_close(1 / found, torch.tensor([[16.0, 32.0]] * 4 + [[8.0, 16.0]] * 2 + [[4.0, 8.0]]))
    single = margins_of(settings_of("single_grained_features", margin_units="cells")) / 0.05
    torch.testing.assert_close(1 / single, torch.tensor([[4.0, 8.0]] * 7))
    joints = pose(nose=(0.5, 0.1), left_ear=(0.6, 0.12))
    boxes, _ = target_boxes(joints, margins_of(settings_of(margin_units="cells")))
    x, y = 0.05 / 16, 0.05 / 32
    assert box_of(boxes, "head") == pytest.approx((0.5 - x, 0.1 - y, 0.6 + x, 0.12 + y))


def test_mean_boxes_are_over_the_images_in_which_a_region_is_known():
    targets, known = torch.rand(3, 7, 4), torch.ones(3, 7, dtype=torch.bool)
    known[0, 1] = known[:, 2] = False
    mean = mean_boxes(targets, known)
    torch.testing.assert_close(mean[0], (targets[0, 0] + targets[1, 0] + targets[2, 0]) / 3)
    torch.testing.assert_close(mean[1], (targets[1, 1] + targets[2, 1]) / 2)
    torch.testing.assert_close(mean[2], prior_boxes()[2])


def test_boxes_straight_from_poses_fall_back_to_the_priors():
    joints = torch.zeros(2, 17, 3)
    joints[0, 0] = torch.tensor([0.5, 0.1, 2])  # a nose only
    boxes = boxes_from_poses(*target_boxes(joints, MARGINS))
    torch.testing.assert_close(boxes[0, 0], torch.tensor([0.45, 0.05, 0.55, 0.15]))
    torch.testing.assert_close(boxes[0, 1], prior_boxes()[1])
    torch.testing.assert_close(boxes[1], prior_boxes())


def test_an_image_without_a_pose_has_no_known_region():
    boxes, known = target_boxes(torch.cat([torch.zeros(1, 17, 3), pose(nose=(0.5, 0.1))]), MARGINS)
    assert not known[0].any() and known[1].any() and torch.isfinite(boxes).all()


def test_a_flip_mirrors_x_and_swaps_left_and_right():
    joints = torch.cat([pose(left_wrist=(0.8, 0.5), left_hip=(0.6, 0.4), nose=(0.3, 0.1))] * 2)
    flipped = flip_joints(joints, torch.tensor([True, False]))
    assert torch.equal(flipped[1], joints[1])
    expected = pose(right_wrist=(0.2, 0.5), right_hip=(0.4, 0.4), nose=(0.7, 0.1))
    present = expected[0, :, 2] > 0
    torch.testing.assert_close(flipped[0, present], expected[0, present])
    assert (flipped[0, ~present, 2] == 0).all()
    torch.testing.assert_close(flip_joints(flipped, torch.tensor([True, False])), joints)
    boxes, known = target_boxes(flipped, MARGINS)
    assert known[0, NAMES.index("half right torso")] and not known[0, NAMES.index("half left torso")]
    assert box_of(boxes, "half right torso") == pytest.approx((0.15, 0.35, 0.45, 0.55))


def test_intersection_over_union():
    boxes = torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]])
    others = torch.tensor([[0.0, 0, 1, 1], [0.5, 0, 1.5, 1], [2, 2, 3, 3]])
    assert intersection_over_union(boxes, others).tolist() == pytest.approx([1, 1 / 3, 0])
