"""Crops of the synthetic pedestrians and their joints."""

from dataclasses import replace

import numpy as np

from common.datasets.poses import COCO_JOINTS
from common.datasets.synthetic.cameras.framing import CROP_HEIGHT, CROP_WIDTH
from common.datasets.synthetic.render import Shot, render

SHOT = Shot(seed=0, split="train", person=5, camera=2, num_cameras=6, index=1)


def _pixels(shot):
    return np.asarray(render(shot).pixels, dtype=int)


def test_a_crop_is_a_function_of_its_shot_alone():
    first = _pixels(SHOT)
    for index in range(3):
        render(replace(SHOT, person=9, index=index))
    assert (first == _pixels(SHOT)).all()
    assert first.shape == (CROP_HEIGHT, CROP_WIDTH, 3)
    for other in ({"seed": 1}, {"person": 6}, {"camera": 3}, {"index": 2}, {"box": "junk"}, {"split": "test"}):
        assert (first != _pixels(replace(SHOT, **other))).mean() > 0.3, other


def test_joints_are_in_the_crop_and_mostly_visible():
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
