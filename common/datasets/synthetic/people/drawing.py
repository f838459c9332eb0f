"""Draws one person: limbs, trunk, head and carried objects, the far parts first."""

import numpy as np

from common.datasets.synthetic.canvas import Canvas, Point, between
from common.datasets.synthetic.people.carried import draw_backpack, draw_bag, draw_handbag
from common.datasets.synthetic.people.clothes import draw_skirt, draw_trunk
from common.datasets.synthetic.people.figure import Figure
from common.datasets.synthetic.people.head import draw_head, draw_long_hair, draw_neck
from common.datasets.synthetic.people.trunk import Trunk

_RING = [(float(np.cos(angle)), float(np.sin(angle))) for angle in np.linspace(0, 2 * np.pi, 13)[:-1]]


def draw_with_shadow(canvas: Canvas, figure: Figure) -> None:
    """Draw the person's shadow on the ground, then the person."""
    view = figure.view
    half = 0.16 * view.height
    shift = -0.1 * view.height * figure.lit_side
    rim = [(view.x + shift + half * c, view.y - 0.01 * view.height + 0.22 * half * s) for c, s in _RING]
    canvas.shadow(rim, 84)
    draw_figure(canvas, figure)


def draw_figure(canvas: Canvas, figure: Figure) -> None:
    """Draw the person over what the canvas shows."""
    person = figure.person
    trunk = Trunk.of(figure)
    sides = sorted(("left", "right"), key=lambda side: figure.depth(f"{side}_hip") + figure.depth(f"{side}_knee"))
    arms = sorted(("left", "right"), key=lambda side: figure.depth(f"{side}_elbow") + figure.depth(f"{side}_wrist"))
    behind = [
        side for side in arms
        if figure.depth(f"{side}_elbow") + figure.depth(f"{side}_wrist") < -0.09 - 0.04 * figure.facing
    ]  # fmt: skip
    from_front = figure.facing > 0
    if from_front:
        draw_long_hair(canvas, figure)
        draw_backpack(canvas, figure)
    for side in behind:
        _draw_arm(canvas, figure, side)
    for side in sides:
        _draw_leg(canvas, figure, side)
    if person.lower in ("skirt", "dress"):
        draw_skirt(canvas, figure, trunk)
    draw_neck(canvas, figure)
    draw_trunk(canvas, figure, trunk)
    if not from_front:
        draw_backpack(canvas, figure)
    draw_bag(canvas, figure, trunk)
    for side in arms:
        if side not in behind:
            _draw_arm(canvas, figure, side)
    if not from_front:
        draw_long_hair(canvas, figure)
    draw_head(canvas, figure)


def _draw_leg(canvas: Canvas, figure: Figure, side: str) -> None:
    person, lit = figure.person, figure.lit_side
    scale = figure.view.height * person.body.limb
    hip, knee, ankle, toe = (figure.at(f"{side}_{part}") for part in ("hip", "knee", "ankle", "toe"))
    radii = (0.052 * scale, 0.036 * scale, 0.023 * scale)
    trousers = person.lower in ("trousers", "shorts")
    _draw_foot(canvas, figure, ankle, toe)
    if not (trousers and person.lower_length > 0.85):
        canvas.limb(knee, ankle, 0.92 * radii[1], radii[2], figure.slot("skin"), lit)
        if person.socks:
            top = between(ankle, knee, person.socks)
            canvas.limb(ankle, top, 1.05 * radii[2], 1.08 * radii[1], figure.slot("sock"), lit)
        canvas.limb(hip, knee, radii[0], radii[1], figure.slot("skin"), lit)
    if trousers:
        _draw_trouser_leg(canvas, figure, hip, knee, ankle, radii)
    if person.boots:
        bottom, top = between(ankle, knee, 0.08), between(ankle, knee, person.boots)
        canvas.limb(bottom, top, 1.25 * radii[2], 1.2 * radii[1], figure.slot("shoe"), lit)


def _draw_trouser_leg(
    canvas: Canvas, figure: Figure, hip: Point, knee: Point, ankle: Point, radii: tuple[float, float, float]
) -> None:
    """radii: of the leg at hip, knee and ankle, in pixels."""
    person, lit = figure.person, figure.lit_side
    cloth, accent = figure.slot("lower"), figure.slot("lower_accent")
    wide, covered = person.lower_width, person.lower_length
    stripe = 0.016 * figure.view.height
    if covered <= 0.5:
        end = between(hip, knee, 2 * covered)
        canvas.limb(hip, end, 1.06 * radii[0], 1.12 * radii[1] * wide, cloth, lit)
        if person.side_stripe:
            canvas.line([hip, end], stripe, accent)
        return
    end = between(knee, ankle, (2 * covered - 1) * 0.97)
    end_radius = (radii[1] + (radii[2] - radii[1]) * (2 * covered - 1)) * wide
    canvas.limb(knee, end, radii[1] * wide**0.5, 1.12 * end_radius, cloth, lit)
    if person.cuffs:
        canvas.limb(between(end, knee, 0.1), end, 1.15 * end_radius, 1.15 * end_radius, accent, lit)
    canvas.limb(hip, knee, 1.06 * radii[0], radii[1] * wide**0.5, cloth, lit)
    if person.side_stripe and abs(figure.facing) < 0.95:
        canvas.line([hip, knee, between(knee, end, 0.95)], stripe, accent)
    if person.knee_patch and figure.facing > -0.2:
        canvas.ellipse(*knee, 0.8 * radii[1], 1.1 * radii[1], accent)


def _draw_foot(canvas: Canvas, figure: Figure, ankle: Point, toe: Point) -> None:
    scale = figure.view.height
    heel = (ankle[0] - 0.2 * (toe[0] - ankle[0]), ankle[1] + 0.012 * scale)
    down = 0.010 * scale
    canvas.limb(
        (heel[0], heel[1] + down), (toe[0], toe[1] + down), 0.019 * scale, 0.016 * scale, figure.slot("sole"), 0
    )
    canvas.limb(heel, toe, 0.021 * scale, 0.017 * scale, figure.slot("shoe"), figure.lit_side)
    canvas.limb(ankle, heel, 0.020 * scale, 0.020 * scale, figure.slot("shoe"), figure.lit_side)


def _draw_arm(canvas: Canvas, figure: Figure, side: str) -> None:
    person, scale = figure.person, figure.view.height * figure.person.body.limb
    shoulder, elbow, wrist, hand = (figure.at(f"{side}_{part}") for part in ("shoulder", "elbow", "wrist", "hand"))
    radii = (0.034 * scale, 0.025 * scale, 0.018 * scale)
    skin = figure.slot("skin")
    raglan = person.pattern == "raglan" or (person.front == "open" and person.pattern == "two_tone")
    sleeve = figure.slot("upper_accent" if raglan else "upper")
    if person.handbag == side:
        draw_handbag(canvas, figure, hand)
    canvas.limb(wrist, hand, 0.85 * radii[2], 0.95 * radii[2], skin, figure.lit_side)
    covered = person.sleeve
    if covered < 1:
        canvas.limb(elbow, wrist, 0.92 * radii[1], radii[2], skin, figure.lit_side)
    if covered < 0.5:
        canvas.limb(shoulder, elbow, 0.95 * radii[0], 0.95 * radii[1], skin, figure.lit_side)
        canvas.limb(
            shoulder, between(shoulder, elbow, 2 * covered), 1.08 * radii[0], 1.25 * radii[1], sleeve, figure.lit_side
        )
    else:
        end = between(elbow, wrist, 2 * covered - 1)
        canvas.limb(elbow, end, 1.12 * radii[1], 1.3 * radii[2], sleeve, figure.lit_side)
        canvas.limb(shoulder, elbow, 1.08 * radii[0], 1.12 * radii[1], sleeve, figure.lit_side)
    if person.pattern == "stripes":
        for share in (0.3, 0.6, 0.9) if covered >= 0.5 else (0.3, 0.6):
            middle = between(shoulder, elbow, share * min(1.0, 2 * covered))
            canvas.ellipse(*middle, 1.05 * radii[1], 0.008 * scale, figure.slot("upper_accent"))
