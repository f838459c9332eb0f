"""The trunk as a stack of ellipses from shoulder (0) to hip (1), so that prints and straps turn with the body."""

import math
from dataclasses import dataclass
from typing import Self

from common.datasets.synthetic.canvas import Point
from common.datasets.synthetic.people.figure import Figure

# Half width along the trunk: (height t, weight of shoulder, waist, hip)
_PROFILE = (
    (0.0, 0.36, 0.0, 0.0),
    (0.04, 0.66, 0.0, 0.0),
    (0.10, 0.90, 0.0, 0.0),
    (0.28, 0.78, 0.15, 0.0),
    (0.62, 0.08, 0.92, 0.0),
    (1.0, 0.0, 0.1, 0.95),
)


@dataclass(frozen=True)
class Trunk:
    """Points on the clothed trunk. Azimuth 0 is the chest, pi / 2 the person's left, pi the back."""

    top: Point
    bottom: Point
    half_widths: tuple[float, ...]  # pixels, seen from this side, at the heights of _PROFILE
    turn: float  # added to an azimuth, so that 0 is what faces the camera

    @classmethod
    def of(cls, figure: Figure) -> Self:
        body, view = figure.person.body, figure.view
        cos, sin = math.cos(view.yaw), math.sin(view.yaw)
        wide, deep = abs(cos), body.depth * abs(sin)
        scale = math.hypot(wide, deep) * view.height * view.stretch * 1.08
        halves = tuple(scale * (s * body.shoulder + w * body.waist + h * body.hip) for _, s, w, h in _PROFILE)
        neck, pelvis = figure.at("neck"), figure.at("pelvis")
        # The surface point at azimuth a is at sin(a + turn) of the half width: sin(a) cos(yaw) + depth cos(a) sin(yaw).
        return cls((neck[0], neck[1]), pelvis, halves, math.atan2(body.depth * sin, cos))

    def half_width(self, t: float) -> float:
        for index in range(1, len(_PROFILE)):
            if t <= _PROFILE[index][0] or index == len(_PROFILE) - 1:
                t0, t1 = _PROFILE[index - 1][0], _PROFILE[index][0]
                share = min(1.0, (t - t0) / (t1 - t0))
                return self.half_widths[index - 1] + share * (self.half_widths[index] - self.half_widths[index - 1])
        raise AssertionError("unreachable: the profile has more than one height")

    def centre(self, t: float) -> Point:
        return self.top[0] + t * (self.bottom[0] - self.top[0]), self.top[1] + t * (self.bottom[1] - self.top[1])

    def point(self, t: float, azimuth: float, out: float) -> tuple[float, float, float]:
        """(right, down, facing): `out` half widths off the axis; facing is 1 towards the camera, -1 away from it."""
        x, y = self.centre(t)
        angle = azimuth + self.turn
        return x + out * self.half_width(t) * math.sin(angle), y, math.cos(angle)

    def band(self, t0: float, t1: float, left: float = -1.0, right: float = 1.0) -> list[Point]:
        """The outline between two heights and two shares of the half width, -1 the left edge on the screen."""
        heights = [t0, *(t for t, *_ in _PROFILE if t0 < t < t1), t1]
        edges = [(self.centre(t), self.half_width(t)) for t in heights]
        return [(x + right * half, y) for (x, y), half in edges] + [
            (x + left * half, y) for (x, y), half in edges[::-1]
        ]

    def panel(self, t0: float, t1: float, azimuth0: float, azimuth1: float) -> list[Point] | None:
        """Outline of the visible cloth between two heights and two azimuths; None if it is hidden."""
        middle = (azimuth0 + azimuth1) / 2 + self.turn
        shift = 2 * math.pi * round(middle / (2 * math.pi))
        low = max(azimuth0 + self.turn - shift, -math.pi / 2)
        high = min(azimuth1 + self.turn - shift, math.pi / 2)
        if high - low < 0.05:
            return None
        return self.band(t0, t1, math.sin(low), math.sin(high))
