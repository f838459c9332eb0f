"""What Fig. 6 measures and draws, and that carriers name what the network has."""

import math

import pytest
import torch

from common.probes import frozen_to, outputs_of, replaced_outputs

from .figures import carriers_of, peak_distance
from .network_test import network  # noqa: F401, a fixture
from .skeleton import JOINTS


def test_a_peaks_distance_is_to_the_nearest_joint_of_its_part_that_can_be_seen():
    maps = torch.zeros(2, 8, 4)
    maps[:, 5, 1] = 1.0  # its centre is at x 1.5 / 4, y 5.5 / 8
    joints = torch.zeros(2, 17, 3)
    hip, knee, nose = (JOINTS.index(name) for name in ("left_hip", "left_knee", "nose"))
    joints[0, hip] = torch.tensor([0.375 + 0.06, 0.6875 + 0.04, 2.0])
    joints[0, knee] = torch.tensor([0.375, 0.6875, 1.0])  # hidden
    joints[0, nose] = torch.tensor([0.375, 0.6875, 2.0])  # not of the upper leg
    assert peak_distance(maps, joints, "upper_leg", 0.5) == pytest.approx(math.hypot(0.03, 0.04), rel=1e-4)
    assert peak_distance(maps, joints, "head", 0.5) == pytest.approx(0.0, abs=1e-6)
    assert math.isnan(peak_distance(maps, joints, "lower_arm", 0.5))


@pytest.mark.parametrize(("phase", "cpb"), [(2, True), (3, True), (3, False)])
def test_each_carrier_can_be_frozen_and_changes_what_is_compared(network, phase, cpb):  # noqa: F811
    model, images = network(phase, cpb=cpb).eval(), torch.randn(4, 3, 64, 32)
    rows = carriers_of(model)
    expected = {"backbone's map": ["backbone_norm"], "maps and fields": ["maps_norm", "fields_norm"]}
    if cpb:
        expected["CPBs"] = [f"pose_net.parse.{stage}.gates" for stage in (0, 1, 2)]
    expected["plenary branch"] = ["branches.plenary"]
    if phase == 3:
        expected |= {
            "head branch": ["branches.head"],
            "upper body branch": ["branches.upper_body"],
            "upper arm branch": ["branches.upper_arm"],
            "lower arm branch": ["branches.lower_arm"],
            "upper leg branch": ["branches.upper_leg"],
            "lower leg branch": ["branches.lower_leg"],
        }
    assert rows == expected and list(rows) == list(expected)
    with torch.no_grad():
        whole = model.embed(images)
        for names in rows.values():
            with outputs_of(model, names) as outputs:
                model(images)
            means = {name: frozen_to(output.mean(0)) for name, output in outputs.items()}
            with replaced_outputs(model, means):
                assert not torch.allclose(model.embed(images), whole, atol=1e-6), names
