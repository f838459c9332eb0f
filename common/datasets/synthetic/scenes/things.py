"""Objects: behind people as part of a scene, or in front of a person as an occluder."""

import math

from common.datasets.synthetic.canvas import Canvas
from common.datasets.synthetic.materials import SCENE_SLOT

OBJECTS = ("pole", "bin", "bicycle", "bush", "car", "sign", "rail")  # that may hide a person


def draw_thing(canvas: Canvas, kind: str, x: float, foot: float, size: float) -> None:
    """An object that stands at (x, foot) and is about `size` pixels of the crop high."""
    slot = SCENE_SLOT
    light = 112
    if kind == "pole":
        canvas.polygon(
            [(x - 0.035 * size, 0), (x + 0.035 * size, 0), (x + 0.045 * size, foot), (x - 0.045 * size, foot)],
            slot["metal"],
            light,
        )
        canvas.polygon(
            [(x - 0.01 * size, 0), (x + 0.012 * size, 0), (x + 0.015 * size, foot), (x - 0.012 * size, foot)],
            slot["metal_light"],
        )
    elif kind == "bicycle":
        _draw_bicycle(canvas, x, foot, size)
    elif kind == "car":
        low, high = foot - 0.12 * size, foot - 0.5 * size
        canvas.polygon(
            [(x - size, low), (x - 0.95 * size, high), (x + 0.95 * size, high), (x + size, low)], slot["vehicle"], 120
        )
        canvas.polygon(
            [
                (x - 0.6 * size, high),
                (x - 0.4 * size, high - 0.25 * size),
                (x + 0.4 * size, high - 0.25 * size),
                (x + 0.7 * size, high),
            ],
            slot["vehicle_glass"],
            128,
        )
        canvas.line(
            [(x - 0.97 * size, 0.5 * (low + high)), (x + 0.97 * size, 0.5 * (low + high))],
            0.02 * size,
            slot["metal_light"],
        )
        for sign in (-0.6, 0.6):
            canvas.ellipse(x + sign * size, low, 0.14 * size, 0.14 * size, slot["rubber"], 120)
    elif kind == "bin":
        canvas.polygon(
            [
                (x - 0.2 * size, foot - 0.6 * size),
                (x + 0.2 * size, foot - 0.6 * size),
                (x + 0.17 * size, foot),
                (x - 0.17 * size, foot),
            ],
            slot["object_1"],
            light,
        )
        canvas.ellipse(x, foot - 0.6 * size, 0.22 * size, 0.06 * size, slot["object_2"], light)
        canvas.polygon(
            [
                (x + 0.05 * size, foot - 0.55 * size),
                (x + 0.2 * size, foot - 0.55 * size),
                (x + 0.17 * size, foot),
                (x + 0.05 * size, foot),
            ],
            slot["object_2"],
        )
    elif kind == "tree":
        canvas.polygon(
            [(x - 0.07 * size, 0), (x + 0.07 * size, 0), (x + 0.10 * size, foot), (x - 0.10 * size, foot)],
            slot["trunk"],
            light,
        )
        for dx, dy, radius, tone in (
            (-0.25, 0.95, 0.35, 2),
            (0.25, 1.0, 0.35, 1),
            (0.0, 1.2, 0.4, 1),
            (0.1, 1.1, 0.22, 3),
        ):
            canvas.ellipse(x + dx * size, foot - dy * size, radius * size, radius * size, slot[f"leaf_{tone}"], light)
    elif kind == "bush":
        for dx, dy, radius, tone in (
            (-0.3, 0.15, 0.25, 2),
            (0.3, 0.15, 0.25, 2),
            (0.0, 0.25, 0.3, 1),
            (0.12, 0.35, 0.16, 3),
            (-0.2, 0.3, 0.15, 3),
            (0.35, 0.25, 0.1, 1),
        ):
            canvas.ellipse(x + dx * size, foot - dy * size, radius * size, radius * size, slot[f"leaf_{tone}"], 118)
    elif kind == "walker":
        _draw_walker(canvas, x, foot, size)
    elif kind == "sign":
        canvas.line([(x, foot), (x, foot - size)], 0.04 * size, slot["metal"])
        canvas.polygon(
            [
                (x - 0.22 * size, foot - size),
                (x + 0.22 * size, foot - size),
                (x + 0.22 * size, foot - 0.65 * size),
                (x - 0.22 * size, foot - 0.65 * size),
            ],
            slot["sign"],
            124,
        )
    else:
        for height in (0.25, 0.5):
            canvas.line(
                [(x - 1.5 * size, foot - height * size), (x + 1.5 * size, foot - height * size)],
                0.04 * size,
                slot["metal_light"],
            )
        for step in range(-3, 4):
            canvas.line(
                [(x + 0.5 * step * size, foot), (x + 0.5 * step * size, foot - 0.52 * size)], 0.05 * size, slot["metal"]
            )


def _draw_bicycle(canvas: Canvas, x: float, foot: float, size: float) -> None:
    radius = 0.30 * size
    axle = foot - radius
    left, right = x - 0.5 * size, x + 0.5 * size
    for hub in (left, right):
        rim = [(hub + radius * math.cos(a * math.pi / 8), axle + radius * math.sin(a * math.pi / 8)) for a in range(17)]
        canvas.line(rim, 0.045 * size, SCENE_SLOT["rubber"])
        canvas.line([(hub - radius, axle), (hub + radius, axle)], 0.015 * size, SCENE_SLOT["metal_light"])
    seat, bars = (x - 0.18 * size, axle - 0.42 * size), (x + 0.36 * size, axle - 0.48 * size)
    crank = (x - 0.05 * size, axle)
    frame = [(left, axle), crank, bars, (right, axle), bars, seat, crank, (left, axle), seat]
    canvas.line(frame, 0.04 * size, SCENE_SLOT["vehicle"])
    canvas.line([(seat[0] - 0.1 * size, seat[1]), (seat[0] + 0.08 * size, seat[1])], 0.06 * size, SCENE_SLOT["rubber"])
    canvas.line([(bars[0] - 0.1 * size, bars[1] - 0.04 * size), bars], 0.04 * size, SCENE_SLOT["rubber"])


def _draw_walker(canvas: Canvas, x: float, foot: float, size: float) -> None:
    slot = SCENE_SLOT
    for sign in (-1, 1):
        canvas.line([(x, foot - 0.5 * size), (x + sign * 0.07 * size, foot)], 0.09 * size, slot["crowd_lower"])
        canvas.line(
            [(x + sign * 0.09 * size, foot - 0.78 * size), (x + sign * 0.13 * size, foot - 0.48 * size)],
            0.06 * size,
            slot["crowd_upper"],
        )
    canvas.polygon(
        [
            (x - 0.11 * size, foot - 0.82 * size),
            (x + 0.11 * size, foot - 0.82 * size),
            (x + 0.09 * size, foot - 0.46 * size),
            (x - 0.09 * size, foot - 0.46 * size),
        ],
        slot["crowd_upper"],
    )
    canvas.ellipse(x, foot - 0.91 * size, 0.055 * size, 0.075 * size, slot["crowd_skin"])
    canvas.ellipse(x, foot - 0.94 * size, 0.06 * size, 0.06 * size, slot["crowd_dark"])
