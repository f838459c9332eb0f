"""Identities of the synthetic pedestrians: everything that is the same in all images of a person.

Coarse colours follow the Market-1501 attribute palette with its skew towards white, black, gray and blue, so that many
identities share them. Such identities differ in cut, pattern, details, carried objects and proportions.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from common.datasets.synthetic.difficulty import COLOUR_JITTER
from common.datasets.synthetic.materials import Colour
from common.datasets.synthetic.people.palettes import (
    HAIR,
    LEATHER,
    LOGOS,
    LOWER_COLOURS,
    PATTERNS,
    SHOES,
    SKIN,
    UPPER_COLOURS,
)
from common.datasets.synthetic.seeds import PERSON, generator


@dataclass(frozen=True)
class Body:
    """Lengths relative to the stature; widths are half widths."""

    shoulder: float
    waist: float
    hip: float
    depth: float  # front to back over side to side
    leg: float
    arm: float
    head: float
    limb: float  # thickness of arms and legs, 1 is usual
    swing: float  # stride, radians of the hip
    lean: float  # of the trunk, radians
    stoop: float  # of the head, forward, relative to the stature


@dataclass(frozen=True)
class Person:
    """One identity. `colours` maps `materials.PERSON_SURFACES` to colours before any camera."""

    age: str  # child | teenager | adult | old
    female: bool
    body: Body
    colours: dict[str, Colour]
    upper_colour: str
    lower_colour: str
    sleeve: float  # part of the arm that is covered: 0 none, 0.5 to the elbow, 1 to the wrist
    hem: float  # where the upper garment ends: 1 at the hip, more is longer
    front: str  # closed | open | zip | buttons
    collar: bool
    hood: bool
    pattern: str
    pattern_count: int
    pattern_height: float  # where bands and two-tone borders sit on the trunk, 0 shoulder to 1 hip
    pattern_width: float
    logo: str
    logo_size: float
    logo_side: float  # azimuth on the chest, radians
    back_print: bool
    lower: str  # trousers | shorts | skirt | dress
    lower_length: float  # part of the leg that is covered
    lower_width: float  # 1 is close to the leg
    side_stripe: bool
    knee_patch: bool
    cuffs: bool
    socks: float  # part of the shank that is covered
    boots: float  # part of the shank that is covered
    hair: str  # bald | short | bob | long | ponytail | bun
    beard: bool
    glasses: bool
    hat: str  # none | cap | beanie | brim
    backpack: str  # none | round | square | tall
    backpack_pocket: bool
    bag: str  # none | cross_left | cross_right | shoulder_left | shoulder_right
    bag_size: float
    handbag: str  # none | left | right
    handbag_size: float
    belt: bool


def _pick(rng: np.random.Generator, weights: dict[str, float]) -> str:
    names = list(weights)
    shares = np.array(list(weights.values()))
    return names[int(rng.choice(len(names), p=shares / shares.sum()))]


def _vary(rng: np.random.Generator, colour: Colour) -> Colour:
    """A variant of a named colour: slightly different in brightness and hue."""
    factors = np.exp(rng.normal(0, COLOUR_JITTER) + rng.normal(0, COLOUR_JITTER / 2, 3))
    return tuple(float(value) for value in np.clip(np.array(colour) * factors, 0.03, 0.95))


def _contrasting(rng: np.random.Generator, colour: Colour) -> Colour:
    """A second garment colour that stands out from the first."""
    table = [base for base, _ in UPPER_COLOURS.values()]
    seen = [base for base in table if abs(sum(base) - sum(colour)) > 0.55]
    return _vary(rng, seen[int(rng.integers(len(seen)))])


@lru_cache(maxsize=4096)
def identity(seed: int, person: int) -> Person:
    """The identity with this number: the same in every camera and subset."""
    return sample_person(generator(seed, PERSON, person))


def sample_person(rng: np.random.Generator) -> Person:
    """A random identity. All choices come from `rng`, in a fixed order."""
    female = bool(rng.random() < 0.44)
    age = _pick(rng, {"child": 0.03, "teenager": 0.70, "adult": 0.22, "old": 0.05})
    upper_colour = _pick(rng, {name: share for name, (_, share) in UPPER_COLOURS.items()})
    lower_colour = _pick(rng, {name: share for name, (_, share) in LOWER_COLOURS.items()})
    lower = _pick(
        rng,
        {"trousers": 0.42, "shorts": 0.24, "skirt": 0.18, "dress": 0.16}
        if female
        else {"trousers": 0.62, "shorts": 0.38},
    )
    if lower == "dress":
        lower_colour = upper_colour if upper_colour in LOWER_COLOURS else "none"
    hair = _pick(
        rng,
        {"short": 0.12, "bob": 0.24, "long": 0.32, "ponytail": 0.24, "bun": 0.08}
        if female
        else {"short": 0.82, "bald": 0.08, "bob": 0.10},
    )
    short_sleeves = rng.random() < 0.68
    garment = _garments(rng, age, upper_colour, lower_colour, lower)
    lengths = {"trousers": (0.88, 1.0), "shorts": (0.28, 0.58), "skirt": (0.28, 0.75), "dress": (0.22, 0.72)}
    boots = float(rng.uniform(0.3, 0.8)) if rng.random() < (0.18 if female else 0.06) else 0.0
    return Person(
        age=age,
        female=female,
        body=_body(rng, age, female),
        colours=garment,
        upper_colour=upper_colour,
        lower_colour=lower_colour,
        sleeve=float(rng.choice([0.12, 0.30, 0.42]) if short_sleeves else rng.choice([0.75, 1.0, 1.0])),
        hem=float(rng.uniform(0.98, 1.30)),
        front=_pick(rng, {"closed": 0.62, "open": 0.15, "zip": 0.12, "buttons": 0.11}),
        collar=bool(rng.random() < 0.3),
        hood=bool(not short_sleeves and rng.random() < 0.35),
        pattern=_pick(rng, PATTERNS),
        pattern_count=int(rng.integers(3, 8)),
        pattern_height=float(rng.uniform(0.22, 0.7)),
        pattern_width=float(rng.uniform(0.08, 0.24)),
        logo=_pick(rng, LOGOS),
        logo_size=float(rng.uniform(0.5, 1.0)),
        logo_side=float(rng.choice([-0.5, 0.0, 0.0, 0.5])),
        back_print=bool(rng.random() < 0.45),
        lower=lower,
        lower_length=float(rng.uniform(*lengths[lower])),
        lower_width=float(rng.uniform(1.0, 1.45)),
        side_stripe=bool(rng.random() < 0.14),
        knee_patch=bool(rng.random() < 0.08),
        cuffs=bool(rng.random() < 0.15),
        socks=float(rng.choice([0.0, 0.12, 0.3, 0.85], p=[0.5, 0.25, 0.15, 0.10])),
        boots=boots,
        hair=hair,
        beard=bool(not female and rng.random() < 0.12),
        glasses=bool(rng.random() < 0.25),
        hat=_pick(rng, {"none": 0.88, "cap": 0.07, "beanie": 0.02, "brim": 0.03}),
        backpack=_pick(rng, {"none": 0.72, "round": 0.12, "square": 0.10, "tall": 0.06}),
        backpack_pocket=bool(rng.random() < 0.6),
        bag=_pick(
            rng, {"none": 0.74, "cross_left": 0.07, "cross_right": 0.07, "shoulder_left": 0.06, "shoulder_right": 0.06}
        ),
        bag_size=float(rng.uniform(0.7, 1.3)),
        handbag=_pick(rng, {"none": 0.86, "left": 0.07, "right": 0.07}),
        handbag_size=float(rng.uniform(0.7, 1.4)),
        belt=bool(rng.random() < 0.2),
    )


def _body(rng: np.random.Generator, age: str, female: bool) -> Body:
    build = float(np.clip(rng.normal(1.0, 0.10), 0.82, 1.30))
    head = 0.068 * float(rng.uniform(0.94, 1.06)) * (1.22 if age == "child" else 1.0)
    return Body(
        shoulder=(0.108 if female else 0.122) * build**0.6 * float(rng.uniform(0.95, 1.05)),
        waist=(0.076 if female else 0.092) * build**1.3 * (1.12 if age == "old" else 1.0),
        hip=(0.096 if female else 0.090) * build,
        depth=float(rng.uniform(0.58, 0.72)),
        leg=float(rng.uniform(0.450, 0.490)) * (0.94 if age == "child" else 1.0),
        arm=float(rng.uniform(0.300, 0.335)),
        head=head,
        limb=build * float(rng.uniform(0.92, 1.08)) * (0.94 if female else 1.04),
        swing=float(rng.uniform(0.26, 0.46)) * (0.7 if age == "old" else 1.0),
        lean=float(rng.normal(0.03, 0.03)) + (0.12 if age == "old" else 0.0),
        stoop=float(rng.uniform(0.0, 0.02)) + (0.02 if age == "old" else 0.0),
    )


def _garments(rng: np.random.Generator, age: str, upper: str, lower: str, kind: str) -> dict[str, Colour]:
    def one_of(colours: tuple[Colour, ...], weights: list[float]) -> Colour:
        return _vary(rng, colours[int(rng.choice(len(colours), p=np.array(weights) / sum(weights)))])

    upper_tone = _vary(rng, UPPER_COLOURS[upper][0])
    lower_tone = upper_tone if kind == "dress" else _vary(rng, LOWER_COLOURS[lower][0])
    backpack = one_of(LEATHER[:1] + SHOES[2:3] + SHOES[4:], [5, 2, 1, 2])
    shoe = one_of(SHOES, [5, 4, 2, 2, 1, 1])
    hat = one_of(SHOES, [4, 3, 1, 1, 2, 2])
    return {
        "skin": one_of(SKIN, [4, 5, 3, 1, 1]),
        "hair": one_of(HAIR, [1, 1, 0, 0, 6] if age == "old" else [7, 3, 1.2, 0.6, 0]),
        "eye": (0.10, 0.08, 0.08),
        "upper": upper_tone,
        "upper_accent": _contrasting(rng, upper_tone),
        "inner": _contrasting(rng, upper_tone),
        "logo": _contrasting(rng, upper_tone),
        "lower": lower_tone,
        "lower_accent": _contrasting(rng, lower_tone),
        "sock": one_of(SHOES[:3], [2, 3, 1]),
        "shoe": shoe,
        "sole": _contrasting(rng, shoe) if rng.random() < 0.4 else tuple(0.7 * value for value in shoe),
        "hat": hat,
        "hat_accent": _contrasting(rng, hat),
        "backpack": backpack,
        "backpack_accent": _contrasting(rng, backpack),
        "bag": one_of(LEATHER, [5, 3, 2, 1, 2]),
        "strap": (0.13, 0.11, 0.10),
        "handbag": one_of(LEATHER, [3, 3, 2, 2, 3]),
        "belt": one_of(LEATHER[:2], [2, 1]),
    }
