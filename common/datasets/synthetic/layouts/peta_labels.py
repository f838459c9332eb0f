"""Attributes of a synthetic pedestrian in PETA's vocabulary, as peta_attributes.py reads them."""

import numpy as np

from common.datasets.synthetic.layouts.attribute_file import LONG_HEM
from common.datasets.synthetic.people.palettes import SHOES
from common.datasets.synthetic.people.person import Person

_SHOE_COLOURS = ("Black", "White", "Grey", "Brown", "Red", "Blue")  # of palettes.SHOES
_AGES = {"child": "personalLess15", "teenager": "personalLess30", "old": "personalLarger60"}


def peta_labels(person: Person) -> list[str]:
    """The labels of one line of Label.txt, in PETA's spelling.

    Where PETA distinguishes more than the generator does, a visible trait decides: adults with glasses are 46 to 60
    years old, other adults 31 to 45; a long upper garment is a jacket; blue trousers are jeans.
    """
    adult = "personalLess60" if person.glasses else "personalLess45"
    return [
        _AGES.get(person.age, adult),
        "personalFemale" if person.female else "personalMale",
        "hairLong" if person.hair in ("long", "ponytail") else "hairShort",
        "accessoryHat" if person.hat != "none" else "accessoryNothing",
        "upperBodyCasual",
        f"upperBody{_colour(person.upper_colour)}",
        "upperBodyShortSleeve" if person.sleeve < 0.6 else "upperBodyLongSleeve",
        _upper_kind(person),
        "lowerBodyCasual",
        f"lowerBody{_colour(person.lower_colour)}",
        _lower_kind(person),
        f"footwear{_shoe_colour(person)}",
        "footwearBoots" if person.boots > 0 else "footwearShoes",
        *_carried(person),
    ]


def _colour(name: str) -> str:
    """Light brown and beige garments, which have no name in Market-1501, are brown."""
    return {"none": "Brown", "gray": "Grey"}.get(name, name.capitalize())


def _upper_kind(person: Person) -> str:
    if person.hem > LONG_HEM:
        return "upperBodyJacket"
    return "upperBodyTshirt" if person.sleeve < 0.6 else "upperBodySweater"


def _lower_kind(person: Person) -> str:
    if person.lower == "shorts":
        return "lowerBodyShorts"
    if person.lower == "trousers":
        return "lowerBodyJeans" if person.lower_colour == "blue" else "lowerBodyTrousers"
    return "lowerBodyShortSkirt" if person.lower_length < 0.5 else "lowerBodyLongSkirt"


def _shoe_colour(person: Person) -> str:
    distances = np.abs(np.log(np.array(SHOES) / np.array(person.colours["shoe"]))).sum(axis=1)
    return _SHOE_COLOURS[int(distances.argmin())]


def _carried(person: Person) -> list[str]:
    carried = [
        label
        for label, kind in (
            ("carryingBackpack", person.backpack),
            ("carryingMessengerBag", person.bag),
            ("carryingOther", person.handbag),
        )
        if kind != "none"
    ]
    return carried or ["carryingNothing"]
