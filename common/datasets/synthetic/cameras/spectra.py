"""How surfaces look outside visible light: near-infrared reflectance and temperature.

Near-infrared (about 0.85 um, as in SYSU-MM01's night cameras): many dyes are transparent there, so the brightness of
cloth is independent of its colour: it is sampled for each person and garment. What is coloured by pigments (carbon
black, leather, plastics) is as dark or light as it looks. Skin and leaves are bright, hair is dark.
Thermal (8 to 14 um, as in RegDB, by day): skin glows. Clothes are as warm as their insulation lets through and as the
sun makes them, and the sun warms dark dyes more than light ones. Carried objects and surroundings are cool.

A person's values are the same in every image. They come from random generators of their own, so that the look in
visible light does not depend on them. Values are in [0, 1]: the share of light reflected, or 0 coldest to 1 hottest.
"""

from functools import lru_cache

import numpy as np

from common.datasets.synthetic.cameras.camera import LUMA
from common.datasets.synthetic.materials import SCENE_SURFACES
from common.datasets.synthetic.people.person import Person
from common.datasets.synthetic.seeds import PASSER, PERSON, SCENE_SPECTRUM, SPECTRUM, generator

MODALITIES = ("visible", "near_infrared", "thermal")

Tones = dict[str, float]

FAINT_PRINT = 0.15  # share of prints and stripes that nearly vanish in near-infrared, as they differ in dye only
COMMON_DYE = (0.25, 0.92)  # range of a garment's near-infrared reflectance
PIGMENTED = 0.5  # share of garments, shoes and bags that are as dark or light in near-infrared as in visible light
SURFACES = (
    "upper", "upper_accent", "logo", "lower", "lower_accent", "shoe", "hat", "hat_accent", "backpack",
    "backpack_accent", "bag", "strap", "handbag",
)  # fmt: skip
SUN = 0.24  # how much warmer black cloth gets in the sun than white


def person_tones(modality: str, seed: int, key: tuple[int, ...], person: Person) -> Tones:
    """Surface name to value. key: (PERSON, identity), or (PASSER, ...) for a passer-by."""
    lumas = tuple(float(LUMA @ person.colours[name]) for name in SURFACES)
    return _person_tones(modality, seed, key, person.glasses, person.lower == "dress", lumas)


@lru_cache(maxsize=4096)
def _person_tones(
    modality: str, seed: int, key: tuple[int, ...], glasses: bool, dress: bool, lumas: tuple[float, ...]
) -> Tones:
    assert key[0] in (PERSON, PASSER)
    rng = generator(seed, SPECTRUM, MODALITIES.index(modality), *key)
    if modality == "near_infrared":
        tones = _reflectances(rng, dict(zip(SURFACES, lumas, strict=True)))
    else:
        sunned = {name: SUN * (1 - luma) for name, luma in zip(SURFACES, lumas, strict=True)}
        tones = _temperatures(rng, glasses, sunned)
    if dress:  # one cloth
        tones |= {"lower": tones["upper"], "lower_accent": tones["upper_accent"]}
    return tones


def _reflectances(rng: np.random.Generator, lumas: Tones) -> Tones:
    def pigmented(names: tuple[str, ...], low: float, high: float) -> Tones:
        dyed, share = rng.uniform(low, high, len(names)).tolist(), rng.random(len(names)).tolist()
        as_seen = [low + (high - low) * lumas[name] for name in names]
        return {
            name: seen if part < PIGMENTED else dye
            for name, seen, part, dye in zip(names, as_seen, share, dyed, strict=True)
        }

    cloths = pigmented(("upper", "lower", "backpack", "hat"), *COMMON_DYE)
    return {
        **cloths,
        "upper_accent": _beside(rng, cloths["upper"]),
        "inner": _beside(rng, cloths["upper"]),
        "logo": _beside(rng, cloths["upper"]),
        "lower_accent": _beside(rng, cloths["lower"]),
        "hat_accent": _beside(rng, cloths["hat"]),
        "backpack_accent": _beside(rng, cloths["backpack"]),
        "skin": float(rng.uniform(0.66, 0.80)),
        "hair": float(rng.uniform(0.14, 0.34)),
        "eye": 0.12,
        "sock": float(rng.uniform(0.35, 0.90)),
        **pigmented(("shoe", "bag", "handbag"), 0.12, 0.75),
        "sole": float(rng.uniform(0.15, 0.60)),
        "strap": float(rng.uniform(0.12, 0.45)),
        "belt": float(rng.uniform(0.10, 0.40)),
    }


def _beside(rng: np.random.Generator, tone: float) -> float:
    """A second tone on a cloth: nearly the same where only the dye differs, else clearly lighter or darker."""
    low, high = COMMON_DYE
    if rng.random() < FAINT_PRINT:
        return tone + float(rng.uniform(-0.04, 0.04))
    step = float(rng.uniform(0.22, 0.45))
    room_above, room_below = high - tone > step, tone - low > step
    up = rng.random() < 0.5 if room_above == room_below else room_above
    return float(np.clip(tone + (step if up else -step), 0.08, 0.97))


def _temperatures(rng: np.random.Generator, glasses: bool, sunned: Tones) -> Tones:
    upper, lower = rng.uniform(0.38, 0.54, 2).tolist()  # in the shade
    skin = float(rng.uniform(0.88, 0.97))
    backpack, bag, handbag = rng.uniform(0.10, 0.24, 3).tolist()
    hat = float(rng.uniform(0.40, 0.50))
    shoe = float(rng.uniform(0.26, 0.36))
    return {
        "skin": skin,
        "hair": float(rng.uniform(0.54, 0.68)),
        "eye": 0.42 if glasses else skin - 0.02,  # glass does not let heat through
        "upper": upper + sunned["upper"],
        "upper_accent": upper + sunned["upper_accent"],
        "inner": min(upper + 0.30, 0.85),  # nearer to the body
        "logo": upper + sunned["logo"],
        "lower": lower + sunned["lower"],
        "lower_accent": lower + sunned["lower_accent"],
        "sock": float(rng.uniform(0.50, 0.66)),
        "shoe": shoe + sunned["shoe"] / 2,  # cooled by the ground
        "sole": shoe - 0.10,
        "hat": hat + sunned["hat"],
        "hat_accent": hat + sunned["hat_accent"],
        "backpack": backpack + sunned["backpack"],
        "backpack_accent": backpack + sunned["backpack_accent"],
        "bag": bag + sunned["bag"],
        "strap": bag + sunned["strap"],
        "handbag": handbag + sunned["handbag"],
        "belt": lower - 0.08,
    }


# Near-infrared reflectance and temperature; the ground's three tones differ by texture only.
_SCENE: dict[str, tuple[float, float]] = {
    "sky": (0.03, 0.02), "ground_1": (0.34, 0.27), "ground_2": (0.30, 0.255), "ground_3": (0.38, 0.285),
    "joint": (0.24, 0.25), "kerb": (0.46, 0.28), "wall_1": (0.44, 0.22), "wall_2": (0.37, 0.205),
    "wall_3": (0.50, 0.235), "window": (0.10, 0.13), "window_light": (0.20, 0.16), "door": (0.40, 0.20),
    "leaf_1": (0.74, 0.17), "leaf_2": (0.56, 0.15), "leaf_3": (0.88, 0.19), "trunk": (0.42, 0.20),
    "metal": (0.32, 0.14), "metal_light": (0.62, 0.12), "rubber": (0.07, 0.24), "vehicle": (0.45, 0.22),
    "vehicle_glass": (0.10, 0.15), "object_1": (0.48, 0.20), "object_2": (0.36, 0.18), "crowd_upper": (0.50, 0.50),
    "crowd_lower": (0.42, 0.46), "crowd_skin": (0.70, 0.86), "crowd_dark": (0.22, 0.58), "sign": (0.50, 0.18),
}  # fmt: skip
_TEXTURES = ("ground", "wall", "leaf", "object", "crowd")  # surfaces that vary together


def scene_tones(modality: str, seed: int, track: tuple[int, ...]) -> Tones:
    """Values of SCENE_SURFACES for a track (its numbers): tracks in one place differ as days do."""
    rng = generator(seed, SCENE_SPECTRUM, MODALITIES.index(modality), *track)
    column, spread = (0, 0.22) if modality == "near_infrared" else (1, 0.12)
    together = dict(zip(_TEXTURES, np.exp(rng.normal(0, spread, len(_TEXTURES))).tolist(), strict=True))
    single = np.exp(rng.normal(0, spread, len(SCENE_SURFACES))).tolist()
    return {
        name: float(np.clip(_SCENE[name][column] * together.get(name.split("_")[0], factor), 0.01, 0.97))
        for name, factor in zip(SCENE_SURFACES, single, strict=True)
    }
