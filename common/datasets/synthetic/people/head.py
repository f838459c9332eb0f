"""Draws the head: neck, face, hair, hat."""

import math

from common.datasets.synthetic.canvas import Canvas
from common.datasets.synthetic.people.figure import Figure


def draw_neck(canvas: Canvas, figure: Figure) -> None:
    neck, head = figure.at("neck"), figure.at("head")
    radius = 0.030 * figure.view.height
    canvas.limb(
        (neck[0], neck[1] + 0.01 * figure.view.height), head, radius, 0.9 * radius, figure.slot("skin"), figure.lit_side
    )
    canvas.shadow(
        [
            (neck[0] - radius, neck[1] - radius),
            (neck[0] + radius, neck[1] - radius),
            (neck[0] + radius, neck[1]),
            (neck[0] - radius, neck[1]),
        ],
        84,
    )


def draw_head(canvas: Canvas, figure: Figure) -> None:
    person, scale = figure.person, figure.view.height
    x, y = figure.at("head")
    tall = person.body.head * scale
    wide = tall * (0.74 + 0.12 * abs(math.sin(figure.view.yaw))) * figure.view.stretch
    hair, skin = figure.slot("hair"), figure.slot("skin")
    facing, aside = figure.facing, math.sin(figure.view.yaw)
    full = person.hair != "bald"
    canvas.ellipse(x, y - 0.06 * tall, wide * 1.06, tall * 1.02, hair if full else skin, 100)
    canvas.ellipse(
        x + 0.25 * figure.lit_side * wide, y - 0.25 * tall, wide * 0.62, tall * 0.62, hair if full else skin, 136
    )
    if facing > -0.45:
        face_x = x + 0.42 * aside * wide
        face_half = wide * (0.50 + 0.36 * max(0.0, facing))
        face_y = y + (0.22 if full else 0.1) * tall
        canvas.ellipse(face_x, face_y, face_half, tall * 0.80, skin, 108)
        canvas.ellipse(face_x + 0.2 * figure.lit_side * wide, face_y, 0.6 * face_half, tall * 0.6, skin, 144)
        if person.beard:
            canvas.ellipse(face_x + 0.1 * aside * wide, y + 0.72 * tall, 0.75 * face_half, 0.30 * tall, hair)
        if facing > -0.1:
            _draw_eyes(canvas, figure, face_x, y, wide, tall)
        if full:
            fringe = 0.30 * tall if person.hair in ("bob", "long") else 0.22 * tall
            canvas.ellipse(
                x - 0.15 * aside * wide, y - 0.80 * tall + 0.5 * fringe, wide * 0.95, fringe + 0.1 * tall, hair, 128
            )
    _draw_hair_and_hat(canvas, figure, x, y, wide, tall)


def _draw_eyes(canvas: Canvas, figure: Figure, face_x: float, y: float, wide: float, tall: float) -> None:
    spread = 0.36 * wide * max(0.25, figure.facing)
    look = 0.18 * math.sin(figure.view.yaw) * wide
    size = (0.17, 0.10) if figure.person.glasses else (0.09, 0.06)
    for sign in (-1, 1):
        canvas.ellipse(
            face_x + look + sign * spread, y + 0.08 * tall, size[0] * wide, size[1] * tall, figure.slot("eye")
        )
    canvas.shadow(
        [
            (face_x + look - 0.2 * wide, y + 0.62 * tall),
            (face_x + look + 0.2 * wide, y + 0.62 * tall),
            (face_x + look, y + 0.72 * tall),
        ],
        84,
    )


def _draw_hair_and_hat(canvas: Canvas, figure: Figure, x: float, y: float, wide: float, tall: float) -> None:
    person, aside = figure.person, math.sin(figure.view.yaw)
    back = x - 0.75 * aside * wide
    if person.hair == "bun":
        canvas.ellipse(back, y - 0.75 * tall, 0.38 * wide, 0.35 * tall, figure.slot("hair"), 112)
    if person.hair == "ponytail" and figure.facing < 0.5:
        canvas.limb(
            (back, y - 0.3 * tall),
            (back - 0.35 * aside * wide, y + 1.5 * tall),
            0.30 * wide,
            0.14 * wide,
            figure.slot("hair"),
            figure.lit_side,
        )
    if person.hat == "none":
        return
    hat, accent = figure.slot("hat"), figure.slot("hat_accent")
    canvas.ellipse(x, y - 0.58 * tall, 1.10 * wide, 0.52 * tall, hat, 118)
    if person.hat == "beanie":
        canvas.polygon(
            [
                (x - 1.1 * wide, y - 0.45 * tall),
                (x + 1.1 * wide, y - 0.45 * tall),
                (x + 1.05 * wide, y - 0.2 * tall),
                (x - 1.05 * wide, y - 0.2 * tall),
            ],
            accent,
            116,
        )
    elif person.hat == "brim":
        canvas.ellipse(x, y - 0.38 * tall, 1.75 * wide, 0.20 * tall, hat, 110)
        canvas.line([(x - 1.05 * wide, y - 0.52 * tall), (x + 1.05 * wide, y - 0.52 * tall)], 0.18 * tall, accent)
    elif figure.facing > -0.3:
        canvas.ellipse(x + 0.9 * aside * wide, y - 0.33 * tall, 0.85 * wide, 0.16 * tall, accent, 104)


def draw_long_hair(canvas: Canvas, figure: Figure) -> None:
    person = figure.person
    if person.hair not in ("long", "bob"):
        return
    x, y = figure.at("head")
    tall = person.body.head * figure.view.height
    wide, length = 0.98 * tall * figure.view.stretch, (1.15 if person.hair == "bob" else 2.5) * tall
    back = x - 0.35 * math.sin(figure.view.yaw) * tall
    outline = [
        (back - 0.8 * wide, y - 0.3 * tall),
        (back + 0.8 * wide, y - 0.3 * tall),
        (back + 0.95 * wide, y + 0.8 * length),
        (back + 0.6 * wide, y + length),
        (back - 0.6 * wide, y + length),
        (back - 0.95 * wide, y + 0.8 * length),
    ]
    canvas.polygon(outline, figure.slot("hair"), 104)
    canvas.shadow(
        [
            (back - 0.1 * wide, y),
            (back + 0.3 * wide, y),
            (back + 0.25 * wide, y + 0.9 * length),
            (back, y + 0.9 * length),
        ],
        134,
    )
