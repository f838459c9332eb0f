"""What the starting weights are learned from: attributes of synthetic people, never their identities.

Market-1501's attributes in its own coding, and further traits that people have in common and that re-ID needs: kinds of
clothes and bags, patterns, second colours, shoes, build. Neither traits that the crop cannot show (glasses, the number
of stripes) nor skin tones are among them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from common.datasets.attributes import AGES
from common.datasets.synthetic.cameras.camera import LUMA
from common.datasets.synthetic.cameras.spectra import person_tones
from common.datasets.synthetic.layouts.attribute_file import LONG_HEM, attribute_values
from common.datasets.synthetic.materials import Colour
from common.datasets.synthetic.people.palettes import (
    HAIR,
    LEATHER,
    LOGOS,
    LOWER_COLOURS,
    PATTERNS,
    SHOES,
    UPPER_COLOURS,
)
from common.datasets.synthetic.people.person import Person, identity
from common.datasets.synthetic.seeds import PERSON

GRAY = "gray"  # a visible image without its colours
KINDS = ("visible", GRAY, "near_infrared", "thermal")  # of images: the modalities, and GRAY
HIDDEN = -1  # the label of what an image cannot show, or of what the person does not have

ALL, LIGHT, COLOURED = KINDS, KINDS[:3], KINDS[:1]


@dataclass(frozen=True)
class Attribute:
    """One attribute. value: position in `values` of a person, or HIDDEN; shown_in: the kinds of images that show it."""

    name: str
    values: tuple[str, ...]
    value: Callable[[Person], int]
    shown_in: tuple[str, ...] = ALL


def _market(field: str, name: str, *values: str) -> Attribute:
    """A field of Market-1501's attributes, which counts from 1."""
    return Attribute(name, values, lambda person: attribute_values(person)[field] - 1)


def _kind(name: str, *values: str) -> Attribute:
    """A field of Person that holds one of these words."""
    return Attribute(name, values, lambda person: values.index(getattr(person, name)))


def _has(name: str, found: Callable[[Person], bool]) -> Attribute:
    return Attribute(name, ("no", "yes"), lambda person: int(found(person)))


def _colour(
    surface: str, table: tuple[Colour, ...], has: Callable[[Person], bool] = lambda _: True, names: tuple = ()
) -> Attribute:
    """The colour of a surface, as the nearest in the table that it was drawn from; HIDDEN for who lacks the surface."""
    logarithms = np.log(np.array(table))

    def value(person: Person) -> int:
        distances = np.abs(logarithms - np.log(np.array(person.colours[surface]))).sum(axis=1)
        return int(distances.argmin()) if has(person) else HIDDEN

    return Attribute(f"{surface}_colour", names or tuple(map(str, range(len(table)))), value, COLOURED)


def _named_colour(name: str, table: dict) -> Attribute:
    names = tuple(table)
    return Attribute(name, names, lambda person: names.index(getattr(person, name)), COLOURED)


def _bins(
    name: str, values: tuple[str, ...], edges: tuple[float, ...], measure: Callable[[Person], float]
) -> Attribute:
    return Attribute(name, values, lambda person: int(np.searchsorted(edges, measure(person))))


_ACCENTS = tuple(base for base, _ in UPPER_COLOURS.values())
_BAGS = ("none", "cross", "shoulder")

ATTRIBUTES = (
    # Market-1501's
    _market("gender", "gender", "male", "female"),
    _market("hair", "hair_length", "short", "long"),
    _market("up", "sleeves", "long", "short"),
    _market("down", "lower_length", "long", "short"),
    _market("clothes", "lower_type", "dress", "trousers"),
    _market("age", "age", *AGES),
    _market("hat", "wears_hat", "no", "yes"),
    _market("backpack", "has_backpack", "no", "yes"),
    _market("bag", "has_bag", "no", "yes"),
    _market("handbag", "has_handbag", "no", "yes"),
    _named_colour("upper_colour", UPPER_COLOURS),
    _named_colour("lower_colour", LOWER_COLOURS),
    # DukeMTMC-reID's and PETA's
    Attribute("upper_length", ("short", "long"), lambda person: int(person.hem > LONG_HEM)),
    _has("wears_boots", lambda person: person.boots > 0),
    _colour("shoe", SHOES, names=("black", "white", "gray", "brown", "red", "blue")),
    # further traits
    _kind("lower", "trousers", "shorts", "skirt", "dress"),
    _kind("hair", "bald", "short", "bob", "long", "ponytail", "bun"),
    _kind("hat", "none", "cap", "beanie", "brim"),
    _kind("backpack", "none", "round", "square", "tall"),
    Attribute("bag", _BAGS, lambda person: _BAGS.index(person.bag.partition("_")[0])),
    _kind("front", "closed", "open", "zip", "buttons"),
    _kind("pattern", *PATTERNS),
    _kind("logo", *LOGOS),
    _has("collar", lambda person: person.collar),
    _has("hood", lambda person: person.hood),
    _has("beard", lambda person: person.beard),
    _has("belt", lambda person: person.belt),
    _has("side_stripe", lambda person: person.side_stripe),
    _has("knee_patch", lambda person: person.knee_patch),
    _has("cuffs", lambda person: person.cuffs),
    _bins("socks", ("none", "low", "high"), (0.06, 0.2), lambda person: person.socks),
    _bins("build", ("slim", "medium", "broad"), (0.94, 1.06), lambda person: person.body.limb),
    _colour("hair", HAIR, lambda person: person.hair != "bald"),
    _colour("upper_accent", _ACCENTS, lambda person: person.pattern != "plain", tuple(UPPER_COLOURS)),
    _colour("hat", SHOES, lambda person: person.hat != "none"),
    _colour("backpack", LEATHER[:1] + SHOES[2:3] + SHOES[4:], lambda person: person.backpack != "none"),
    _colour("bag", LEATHER, lambda person: person.bag != "none"),
    _colour("handbag", LEATHER, lambda person: person.handbag != "none"),
)

# How bright cloth looks is a trait of the person in each modality by itself: what is dark to the eye may reflect
# infrared light. Thermal images show it too faintly to be named.
TONED = ("upper", "lower")
TONES, TONE_EDGES = ("dark", "medium", "light"), (0.3, 0.6)

NAMES = (*(attribute.name for attribute in ATTRIBUTES), *(f"{surface}_tone" for surface in TONED))
NUM_VALUES = (*(len(attribute.values) for attribute in ATTRIBUTES), *(len(TONES) for _ in TONED))


def labels_of(seed: int, person: int) -> np.ndarray:
    """(KINDS, NAMES) int64: a person's labels in each kind of image."""
    who = identity(seed, person)
    own = [attribute.value(who) for attribute in ATTRIBUTES]
    rows = []
    for kind in KINDS:
        shown = [
            value if kind in attribute.shown_in else HIDDEN for attribute, value in zip(ATTRIBUTES, own, strict=True)
        ]
        rows.append([*shown, *_tones(seed, person, who, kind)])
    return np.array(rows, dtype=np.int64)


def _tones(seed: int, person: int, who: Person, kind: str) -> list[int]:
    if kind not in LIGHT:
        return [HIDDEN for _ in TONED]
    if kind == "near_infrared":
        reflected = person_tones(kind, seed, (PERSON, person), who)
        brightness = [reflected[surface] for surface in TONED]
    else:
        brightness = [float(LUMA @ who.colours[surface]) for surface in TONED]
    return np.searchsorted(TONE_EDGES, brightness).tolist()
