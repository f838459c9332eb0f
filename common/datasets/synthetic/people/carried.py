"""Draws carried objects: backpack, shoulder bag and strap, handbag."""

import math

from common.datasets.synthetic.canvas import Canvas, Point
from common.datasets.synthetic.people.figure import Figure
from common.datasets.synthetic.people.trunk import Trunk


def draw_handbag(canvas: Canvas, figure: Figure, hand: Point) -> None:
    size = figure.view.height * figure.person.handbag_size
    half = (0.028 + 0.025 * abs(math.sin(figure.view.yaw))) * size
    top, bottom = hand[1] + 0.045 * size, hand[1] + 0.125 * size
    slot = figure.slot("handbag")
    canvas.line([(hand[0] - 0.6 * half, top), hand, (hand[0] + 0.6 * half, top)], 0.008 * size, slot)
    canvas.polygon(
        [
            (hand[0] - 0.85 * half, top),
            (hand[0] + 0.85 * half, top),
            (hand[0] + half, bottom),
            (hand[0] - half, bottom),
        ],
        slot,
        112,
    )


def draw_backpack(canvas: Canvas, figure: Figure) -> None:
    person = figure.person
    if person.backpack == "none":
        return
    scale = figure.view.height
    cos, sin = figure.facing, math.sin(figure.view.yaw)
    half_side, half_deep, length = {
        "round": (0.088, 0.055, 0.20),
        "square": (0.098, 0.05, 0.23),
        "tall": (0.090, 0.065, 0.30),
    }[person.backpack]
    neck, pelvis = figure.at("neck"), figure.at("pelvis")
    offset = person.body.depth * person.body.shoulder * 0.75 + half_deep
    x = neck[0] - offset * sin * scale * figure.view.stretch
    top = neck[1] + 0.005 * scale
    bottom = top + length * scale * (pelvis[1] - neck[1]) / (0.30 * scale + 1e-6)
    half = math.hypot(half_side * cos, half_deep * sin) * scale * figure.view.stretch
    lean = 0.5 * (pelvis[0] - neck[0])
    slot, accent = figure.slot("backpack"), figure.slot("backpack_accent")
    if person.backpack == "square":
        canvas.polygon(
            [(x - 0.92 * half, top), (x + 0.92 * half, top), (x + half + lean, bottom), (x - half + lean, bottom)],
            slot,
            108,
        )
    else:
        middle = (x, top + 0.5 * half), (x + lean, bottom - 0.6 * half)
        canvas.limb(*middle, 0.95 * half, half, slot, figure.lit_side)
    canvas.shadow(
        [
            (x - 0.3 * half, top),
            (x + 0.4 * half, top),
            (x + 0.5 * half, bottom - 0.3 * half),
            (x - 0.2 * half, bottom - 0.3 * half),
        ],
        138,
    )
    if cos < 0.1 and person.backpack_pocket:
        low = top + 0.55 * (bottom - top)
        canvas.polygon(
            [
                (x - 0.65 * half, low),
                (x + 0.65 * half, low),
                (x + 0.7 * half + lean, bottom - 0.1 * half),
                (x - 0.7 * half + lean, bottom - 0.1 * half),
            ],
            accent,
        )
    if cos < 0.1:
        canvas.line(
            [(x - 0.75 * half, top + 0.3 * (bottom - top)), (x + 0.75 * half, top + 0.3 * (bottom - top))],
            0.006 * scale,
            figure.slot("strap"),
        )


def draw_bag(canvas: Canvas, figure: Figure, trunk: Trunk) -> None:
    person = figure.person
    if person.backpack != "none" and figure.facing > -0.2:
        for sign in (-1, 1):
            _draw_strap(
                canvas, figure, trunk, [(0.02, sign * 0.80), (0.25, sign * 0.75), (0.55, sign * 1.15)], "backpack"
            )
    if person.bag == "none":
        return
    style, side = person.bag.split("_")
    sign = 1 if side == "left" else -1
    if style == "cross":
        for front in (1, -1):
            azimuths = [-sign * 0.9, -sign * 0.3, sign * 0.5, sign * 1.3]
            path = [(t, a if front > 0 else math.pi - a) for t, a in zip((0.02, 0.3, 0.65, 1.0), azimuths, strict=True)]
            _draw_strap(canvas, figure, trunk, path, "strap")
    else:
        _draw_strap(canvas, figure, trunk, [(0.0, sign * 1.2), (0.5, sign * 1.5), (0.9, sign * math.pi / 2)], "strap")
    x, y, facing = trunk.point(1.05 if style == "cross" else 0.8, sign * math.pi / 2, 1.12)
    if facing < -0.75:
        return
    size = figure.view.height * person.bag_size
    half = size * (0.032 + 0.035 * abs(math.sin(figure.view.yaw)))
    canvas.polygon(
        [
            (x - half, y - 0.045 * size),
            (x + half, y - 0.045 * size),
            (x + 0.92 * half, y + 0.05 * size),
            (x - 0.92 * half, y + 0.05 * size),
        ],
        figure.slot("bag"),
        114,
    )
    canvas.line(
        [(x - 0.9 * half, y - 0.012 * size), (x + 0.9 * half, y - 0.012 * size)], 0.006 * size, figure.slot("strap")
    )


def _draw_strap(canvas: Canvas, figure: Figure, trunk: Trunk, path: list[tuple[float, float]], surface: str) -> None:
    points = [trunk.point(t, azimuth, 1.0) for t, azimuth in path]
    seen = [(x, y) for x, y, facing in points if facing > -0.05]
    if len(seen) > 1:
        canvas.line(seen, 0.014 * figure.view.height, figure.slot(surface))
