"""A walking skeleton and its orthographic projection.

Body axes: x to the person's left, y up, z forward, in units of the stature; the origin is the ground below the pelvis.
View axes: right and down in pixels of the crop, and depth towards the camera in units of the stature.
"""

import math
from dataclasses import dataclass

import numpy as np

from common.datasets.synthetic.people.person import Body

Point3 = tuple[float, float, float]
Point = tuple[float, float]

ARM_POSES = {  # shoulder forward, elbow bend, in radians, and how far the arm is held from the body
    "pocket": (-0.25, 0.75, 0.22),
    "strap": (0.35, 2.15, 0.15),
    "phone": (0.45, 1.60, 0.02),
    "ear": (0.9, 2.5, 0.30),
}


@dataclass(frozen=True)
class Gait:
    """One moment of a walk: phase in radians (0: left foot passing), stride 0 (standing) to 1, and arm poses."""

    phase: float
    stride: float
    left_arm: str  # "swing" or a key of ARM_POSES
    right_arm: str


@dataclass(frozen=True)
class View:
    """Viewpoint and position in the crop. A person with yaw 0 faces the camera, with pi / 2 walks to the right."""

    yaw: float
    pitch: float
    x: float  # of the ground below the pelvis, pixels
    y: float
    height: float  # of one stature, pixels
    stretch: float  # width over height of a pixel: boxes of any shape are resized to one

    def project(self, points: dict[str, Point3]) -> dict[str, Point3]:
        """Body axes to (right, down, towards the camera)."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        tilt_cos, tilt_sin = math.cos(self.pitch), math.sin(self.pitch)
        wide, high = self.height * self.stretch, self.height
        out = {}
        for name, (x, y, z) in points.items():
            near = z * cos - x * sin
            out[name] = (self.x + (x * cos + z * sin) * wide, self.y - (y * tilt_cos - near * tilt_sin) * high, near)
        return out


def sample_gait(rng: np.random.Generator, strap_likely: bool) -> Gait:
    """A random moment of a walk. People with a backpack hold its strap more often."""
    arms = ["swing"] * 2
    for side in range(2):
        if rng.random() < (0.24 if strap_likely else 0.16):
            names = ["strap", "phone"] if strap_likely else ["pocket", "phone", "phone", "ear"]
            arms[side] = names[int(rng.integers(len(names)))]
    stride = float(rng.uniform(0.6, 1.15)) if rng.random() < 0.82 else float(rng.uniform(0.0, 0.25))
    return Gait(float(rng.uniform(0, 2 * math.pi)), stride, arms[0], arms[1])


def skeleton(body: Body, gait: Gait) -> dict[str, Point3]:
    """Joints in body axes: the 17 of COCO, and pelvis, neck, head, hands and toes for drawing."""
    points: dict[str, Point3] = {}
    lowest = 0.0
    hip_half = 0.55 * body.hip
    for side, sign, phase in (("left", 1, gait.phase), ("right", -1, gait.phase + math.pi)):
        forward = body.swing * gait.stride * math.sin(phase)
        bend = 0.06 + 0.75 * gait.stride * max(0.0, math.cos(phase)) ** 1.5
        shank = forward - bend
        half = body.leg / 2
        knee = (sign * hip_half * 0.95, -half * math.cos(forward), half * math.sin(forward))
        ankle = (sign * hip_half * 0.85, knee[1] - half * math.cos(shank), knee[2] + half * math.sin(shank))
        pitch = 0.8 * shank
        toe_y, toe_z = 0.085 * math.sin(pitch) - 0.025, 0.085 * math.cos(pitch)
        points[f"{side}_hip"] = (sign * hip_half, 0.0, 0.0)
        points[f"{side}_knee"], points[f"{side}_ankle"] = knee, ankle
        points[f"{side}_toe"] = (ankle[0] * 1.25, ankle[1] + toe_y, ankle[2] + toe_z)
        lowest = min(lowest, ankle[1] - 0.035)
    points["pelvis"] = (0.0, 0.0, 0.0)
    trunk = 0.82 - (body.leg + 0.035)
    sway, lift = trunk * math.sin(body.lean), trunk * math.cos(body.lean)
    points["neck"] = (0.0, lift, sway)
    twist = -0.18 * gait.stride * math.sin(gait.phase)
    for side, sign in (("left", 1), ("right", -1)):
        shoulder_x, shoulder_z = body.shoulder * 0.88 * sign * math.cos(twist), body.shoulder * sign * math.sin(-twist)
        shoulder = (shoulder_x, lift - 0.028, sway + shoulder_z)
        points[f"{side}_shoulder"] = shoulder
        points.update(_arm(body, gait, side, sign, shoulder))
    head_y, head_z = lift + 0.030 + body.head, sway + body.stoop
    points["head"] = (0.0, head_y, head_z)
    r = body.head
    points["nose"] = (0.0, head_y - 0.25 * r, head_z + 0.85 * r)
    for side, sign in (("left", 1), ("right", -1)):
        points[f"{side}_eye"] = (sign * 0.32 * r, head_y + 0.05 * r, head_z + 0.72 * r)
        points[f"{side}_ear"] = (sign * 0.72 * r, head_y - 0.1 * r, head_z)
    return {name: (x, y - lowest, z) for name, (x, y, z) in points.items()}


def _arm(body: Body, gait: Gait, side: str, sign: int, shoulder: Point3) -> dict[str, Point3]:
    pose = gait.left_arm if side == "left" else gait.right_arm
    if pose == "swing":
        swing = -sign * 1.1 * body.swing * gait.stride * math.sin(gait.phase)
        forward, bend, out = swing, 0.18 + max(0.0, swing), 0.10
    else:
        forward, bend, out = ARM_POSES[pose]
    upper, fore = 0.53 * body.arm, 0.47 * body.arm
    x, y, z = shoulder
    elbow = (
        x + sign * upper * math.sin(out),
        y - upper * math.cos(forward) * math.cos(out),
        z + upper * math.sin(forward),
    )
    inward = 0.0 if pose in ("swing", "ear") else (0.35 if pose == "pocket" else 0.55)
    angle = forward + bend
    wrist = (
        elbow[0] - sign * fore * math.sin(inward),
        elbow[1] - fore * math.cos(angle) * math.cos(inward),
        elbow[2] + fore * math.sin(angle) * math.cos(inward),
    )
    hand = tuple(w + 0.22 * (w - e) for w, e in zip(wrist, elbow, strict=True))
    return {f"{side}_elbow": elbow, f"{side}_wrist": wrist, f"{side}_hand": hand}
