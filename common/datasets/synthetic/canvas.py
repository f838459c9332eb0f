"""Two images drawn together: which surface each pixel shows, and how much light falls on it.

Coordinates are pixels of the finished crop, x to the right and y down. The surface image is SCALE times larger, for
smooth edges. The light image is blurred afterwards, which turns its few flat tones into round limbs and soft shadows.
"""

import math

from PIL import Image, ImageDraw

SCALE = 3
NEUTRAL = 128  # light value that keeps a colour unchanged; 64 halves it

_ARC = [(math.cos(angle), math.sin(angle)) for angle in (math.pi * step / 5 for step in range(6))]

Point = tuple[float, float]


class Canvas:
    """Draws on `surfaces`, an L image SCALE times the crop's size, and `light`, an L image of the crop's size."""

    def __init__(self, surfaces: Image.Image, light: Image.Image):
        self.surfaces, self.light = surfaces, light
        self._surface_pen, self._light_pen = ImageDraw.Draw(surfaces), ImageDraw.Draw(light)

    def polygon(self, points: list[Point], surface: int, light: int | None = None) -> None:
        """Filled. With `light` None the light stays as it is, as for a print on cloth."""
        self._surface_pen.polygon([SCALE * value for point in points for value in point], fill=surface)
        if light is not None:
            self._light_pen.polygon([value for point in points for value in point], fill=light)

    def ellipse(
        self, x: float, y: float, half_width: float, half_height: float, surface: int, light: int | None = None
    ):
        box = (x - half_width, y - half_height, x + half_width, y + half_height)
        self._surface_pen.ellipse([SCALE * value for value in box], fill=surface)
        if light is not None:
            self._light_pen.ellipse(box, fill=light)

    def line(self, points: list[Point], width: float, surface: int) -> None:
        self._surface_pen.line(
            [SCALE * value for point in points for value in point], fill=surface, width=max(1, round(SCALE * width))
        )

    def shadow(self, points: list[Point], light: int) -> None:
        """Changes the light only: folds, lit and dark sides, shadows on the ground."""
        self._light_pen.polygon([value for point in points for value in point], fill=light)

    def limb(
        self, start: Point, end: Point, start_radius: float, end_radius: float, surface: int, lit_side: float
    ) -> None:
        """A tapered capsule, darker at its edge and lit from `lit_side` (-1 left, 1 right)."""
        outline = capsule(start, end, start_radius, end_radius)
        self._surface_pen.polygon([SCALE * value for point in outline for value in point], fill=surface)
        self._light_pen.polygon([value for point in outline for value in point], fill=88)
        shift = 0.35 * lit_side * start_radius
        core = capsule((start[0] + shift, start[1]), (end[0] + shift, end[1]), 0.6 * start_radius, 0.6 * end_radius)
        self._light_pen.polygon([value for point in core for value in point], fill=142)


def capsule(start: Point, end: Point, start_radius: float, end_radius: float) -> list[Point]:
    """The outline of two discs and the area between them."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.hypot(dx, dy) or 1.0
    ux, uy = dx / length, dy / length
    vx, vy = -uy, ux
    first = [
        (start[0] + start_radius * (c * vx - s * ux), start[1] + start_radius * (c * vy - s * uy)) for c, s in _ARC
    ]
    second = [(end[0] + end_radius * (s * ux - c * vx), end[1] + end_radius * (s * uy - c * vy)) for c, s in _ARC]
    return first + second


def between(start: Point, end: Point, share: float) -> Point:
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])
