import numpy as np
import pytest

from common.datasets.synthetic.people.person import identity
from common.datasets.synthetic.people.pose import Gait, View, skeleton


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
