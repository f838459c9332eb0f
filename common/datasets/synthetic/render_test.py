"""Pictures and joints of the synthetic pedestrians."""

from dataclasses import replace

import numpy as np
import pytest

from common.datasets.poses import COCO_JOINTS
from common.datasets.synthetic.camera import cameras
from common.datasets.synthetic.palettes import LOWER_COLOURS, UPPER_COLOURS
from common.datasets.synthetic.person import sample_person
from common.datasets.synthetic.pose import Gait, View, skeleton
from common.datasets.synthetic.render import CROP_HEIGHT, CROP_WIDTH, Shot, identity, render

SHOT = Shot(seed=0, split="train", person=5, camera=2, num_cameras=6, index=1)


def _pixels(shot):
    return np.asarray(render(shot).pixels, dtype=int)


def test_a_picture_is_a_function_of_its_shot_alone():
    first = _pixels(SHOT)
    for index in range(3):
        render(replace(SHOT, person=9, index=index))
    assert (first == _pixels(SHOT)).all()
    assert first.shape == (CROP_HEIGHT, CROP_WIDTH, 3)
    for other in ({"seed": 1}, {"person": 6}, {"camera": 3}, {"index": 2}, {"box": "junk"}, {"split": "test"}):
        assert (first != _pixels(replace(SHOT, **other))).mean() > 0.3, other


def test_an_identity_keeps_its_attributes_and_seeds_draw_others():
    assert identity(0, 5) == identity(0, 5)
    assert identity(0, 5) != identity(1, 5)


def test_joints_are_in_the_picture_and_mostly_seen():
    joints = np.stack([render(replace(SHOT, person=p, camera=p % 6)).joints for p in range(60)])
    x, y, v = joints.transpose(2, 0, 1)
    assert set(np.unique(v)) == {0, 1, 2}
    inside = v > 0
    assert (x[inside] >= 0).all() and (x[inside] < CROP_WIDTH).all()
    assert (y[inside] >= 0).all() and (y[inside] < CROP_HEIGHT).all()
    assert (joints[v == 0] == 0).all()
    body = slice(5, None)
    assert (v[:, body] == 2).mean() > 0.7
    assert inside.mean() > 0.9
    rows = {name: y[:, COCO_JOINTS.index(name)][inside[:, COCO_JOINTS.index(name)]].mean() for name in COCO_JOINTS}
    assert rows["nose"] < rows["left_shoulder"] < rows["left_hip"] < rows["left_knee"] < rows["left_ankle"]


def test_the_face_is_hidden_from_behind_and_sides_swap():
    body, gait = identity(0, 5).body, Gait(0.0, 0.0, "swing", "swing")
    points = skeleton(body, gait)
    front = View(0.0, 0.1, 32, 120, 110, 1.0).project(points)
    back = View(np.pi, 0.1, 32, 120, 110, 1.0).project(points)
    assert front["left_shoulder"][0] > front["right_shoulder"][0]  # facing us, a person's left is on our right
    assert back["left_shoulder"][0] < back["right_shoulder"][0]
    assert front["nose"][2] > front["head"][2] > back["nose"][2] + 0.01


@pytest.mark.parametrize("phase", np.linspace(0, 6, 7))
def test_bones_keep_their_lengths_and_a_foot_stands_on_the_ground(phase):
    body = identity(0, 3).body
    points = skeleton(body, Gait(phase, 1.0, "swing", "phone"))

    def length(a, b):
        return np.linalg.norm(np.subtract(points[a], points[b]))

    for side in ("left", "right"):
        assert length(f"{side}_hip", f"{side}_knee") == pytest.approx(body.leg / 2, rel=0.02)
        assert length(f"{side}_knee", f"{side}_ankle") == pytest.approx(body.leg / 2, rel=0.02)
        assert length(f"{side}_elbow", f"{side}_wrist") == pytest.approx(0.47 * body.arm, rel=0.02)
    assert min(points["left_ankle"][1], points["right_ankle"][1]) == pytest.approx(0.035)


def test_few_colours_dress_most_people():
    rng = np.random.default_rng(0)
    people = [sample_person(rng) for _ in range(600)]
    uppers = [person.upper_colour for person in people]
    assert np.mean([colour in ("white", "black", "gray", "blue") for colour in uppers]) > 0.65
    assert set(uppers) <= set(UPPER_COLOURS) and "none" in uppers
    assert {person.lower_colour for person in people} <= set(LOWER_COLOURS)
    for attribute in ("backpack", "bag", "handbag", "hat"):
        share = np.mean([getattr(person, attribute) != "none" for person in people])
        assert 0.03 < share < 0.5, attribute


def test_cameras_differ_in_colour():
    gains = np.array([camera.gains for camera in cameras(0, 6)])
    assert len(np.unique(gains.round(6), axis=0)) == 6
    assert cameras(0, 6) == cameras(0, 6)
    assert cameras(0, 6) != cameras(1, 6)
