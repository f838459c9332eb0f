"""Garments on the trunk: cut, pattern, prints, skirts."""

import math

from common.datasets.synthetic.canvas import Canvas
from common.datasets.synthetic.people.figure import Figure
from common.datasets.synthetic.people.trunk import Trunk


def draw_trunk(canvas: Canvas, figure: Figure, trunk: Trunk) -> None:
    """The upper garment, or the upper half of a dress, with its details."""
    person = figure.person
    hem = 1.0 if person.lower in ("skirt", "dress") else person.hem
    canvas.polygon(trunk.band(0.0, hem), figure.slot("upper"), 94)
    lit = figure.lit_side
    near, far = sorted((0.05 * lit, 0.68 * lit))
    canvas.shadow(trunk.band(0.03, 0.97 * hem, near, far), 140)
    near, far = sorted((-0.65 * lit, 0.1 * lit))
    canvas.shadow(trunk.band(0.03, 0.97 * hem, near, far), 124)
    _draw_pattern(canvas, figure, trunk, hem)
    _draw_front(canvas, figure, trunk, hem)
    _draw_prints(canvas, figure, trunk)
    if person.belt and person.lower != "dress":
        canvas.polygon(trunk.band(hem - 0.07, hem), figure.slot("belt"))
    canvas.shadow(trunk.band(hem - 0.03, hem + 0.02), 88)
    fold = trunk.band(0.62, 0.66, -0.6, 0.35)
    canvas.shadow(fold, 106)


def _draw_pattern(canvas: Canvas, figure: Figure, trunk: Trunk, hem: float) -> None:
    person, accent = figure.person, figure.slot("upper_accent")
    count, width, height = person.pattern_count, person.pattern_width, person.pattern_height
    if person.pattern in ("stripes", "checks"):
        pitch = 0.92 * hem / count
        for index in range(count):
            canvas.polygon(trunk.band(0.08 + index * pitch, 0.08 + (index + 0.2 + 1.2 * width) * pitch), accent)
    if person.pattern in ("vertical", "checks"):
        for index in range(2 * count):
            azimuth = math.pi * index / count
            panel = trunk.panel(0.04, hem, azimuth, azimuth + 0.35 * math.pi / count)
            if panel:
                canvas.polygon(panel, accent)
    elif person.pattern == "chest_band":
        canvas.polygon(trunk.band(height * 0.7, height * 0.7 + width), accent)
    elif person.pattern == "two_tone":
        canvas.polygon(trunk.band(height, hem), accent)
    elif person.pattern == "raglan":
        canvas.polygon(trunk.band(0.0, 0.10), accent)
    elif person.pattern == "side_panels":
        for sign in (-1, 1):
            panel = trunk.panel(0.15, hem, sign * math.pi / 2 - 2 * width, sign * math.pi / 2 + 2 * width)
            if panel:
                canvas.polygon(panel, accent)
    elif person.pattern == "dots":
        radius = 0.10 * trunk.half_width(0.3) * (0.6 + 2 * width)
        for row in range(count):
            for column in range(6):
                x, y, facing = trunk.point(
                    0.12 + 0.85 * hem * row / count, math.pi * (column + 0.5 * (row % 2)) / 3, 1.0
                )
                if facing > 0.2:
                    canvas.ellipse(x, y, radius, radius, accent)


def _draw_front(canvas: Canvas, figure: Figure, trunk: Trunk, hem: float) -> None:
    person = figure.person
    if person.front == "open":
        panel = trunk.panel(0.0, hem, -0.38, 0.38)
        if panel:
            canvas.polygon(panel, figure.slot("inner"))
    elif person.front != "closed":
        panel = trunk.panel(0.0, hem, -0.06, 0.06)
        if panel:
            canvas.polygon(panel, figure.slot("upper_accent" if person.front == "zip" else "inner"))
    neck_width = 0.55 if person.collar else 0.4
    opening = trunk.panel(0.0, 0.10, -neck_width, neck_width)
    if opening and person.front != "open":
        canvas.polygon(opening, figure.slot("upper_accent" if person.collar else "skin"))
    if person.hood and figure.facing < 0.3:
        x, y, _ = trunk.point(0.08, math.pi, 0.5)
        half = 0.55 * trunk.half_width(0.1)
        canvas.ellipse(x, y, half, 0.035 * figure.view.height, figure.slot("upper"), 102)


def _draw_prints(canvas: Canvas, figure: Figure, trunk: Trunk) -> None:
    person, slot = figure.person, figure.slot("logo")
    if person.logo == "none":
        return
    places = [(0.28, person.logo_side, 0.55 * person.logo_size)]
    if person.back_print:
        places.append((0.32, math.pi, 0.8 * person.logo_size))
    for t, azimuth, half in places:
        deep = 0.16 * half / 0.55
        if person.logo == "block":
            panel = trunk.panel(t - deep, t + deep, azimuth - half, azimuth + half)
            if panel:
                canvas.polygon(panel, slot)
        elif person.logo == "text":
            for row in (-1, 0, 1):
                panel = trunk.panel(
                    t + row * 0.09, t + row * 0.09 + 0.05, azimuth - half, azimuth + half * (1 - 0.3 * (row == 1))
                )
                if panel:
                    canvas.polygon(panel, slot)
        else:
            x, y, facing = trunk.point(t, azimuth, 1.0)
            if facing < 0.15:
                continue
            radius = 0.75 * half * trunk.half_width(t)
            if person.logo == "disc":
                canvas.ellipse(x, y, radius * facing, radius, slot)
            else:
                canvas.polygon(
                    [(x - radius * facing, y - radius), (x + radius * facing, y - radius), (x, y + radius)], slot
                )


def draw_skirt(canvas: Canvas, figure: Figure, trunk: Trunk) -> None:
    """A skirt, or the lower half of a dress: from the waist to a share of the leg, wide enough for the stride."""
    person = figure.person
    waist, hip = trunk.centre(0.85), trunk.centre(1.0)
    knees = [figure.at("left_knee"), figure.at("right_knee")]
    leg = figure.person.body.leg * figure.view.height
    bottom = hip[1] + person.lower_length * leg
    flare = 0.010 * figure.view.height * person.lower_width * (1 + 2 * person.lower_length)
    half = 1.05 * trunk.half_width(1.0)
    reach = min(1.0, 2 * person.lower_length)
    left = min(hip[0] - half, hip[0] + reach * (min(x for x, _ in knees) - hip[0]) - 0.02 * figure.view.height) - flare
    right = max(hip[0] + half, hip[0] + reach * (max(x for x, _ in knees) - hip[0]) + 0.02 * figure.view.height) + flare
    slot = figure.slot("lower")
    top_half = trunk.half_width(0.85)
    outline = [
        (waist[0] - top_half, waist[1]),
        (waist[0] + top_half, waist[1]),
        (hip[0] + half, hip[1]),
        (right, bottom),
        (left, bottom),
        (hip[0] - half, hip[1]),
    ]
    canvas.polygon(outline, slot, 98)
    for share in (0.25, 0.6):
        x = left + share * (right - left)
        canvas.shadow(
            [(waist[0] + (share - 0.4) * half, hip[1]), (x, bottom), (x + 0.18 * (right - left), bottom)], 140
        )
    if person.cuffs or (person.pattern == "stripes" and person.lower == "dress"):
        canvas.polygon(
            [
                (left, bottom - 0.02 * figure.view.height),
                (right, bottom - 0.02 * figure.view.height),
                (right, bottom),
                (left, bottom),
            ],
            figure.slot("lower_accent"),
        )
