"""PETA's attributes (Deng et al., ACM Multimedia 2014; peta.py), from each folder's Label.txt, grouped into the 13
tasks that FGSAM's Table I ticks for PETA (Zhou et al., IEEE TIP 29, 2020).

The paper says that it re-organised PETA's 65 labels to match those of Market-1501 and DukeMTMC-reID, but not how. TASKS
is our version, ASSUMED throughout. Values without a label are missing (NaN), never guessed:
* a task of several values is missing if none of its labels is given. If two are given, gender, hair and age are
  missing too, as the labels contradict each other; other tasks take the value that TASKS lists first, as people do wear
  two colours;
* a yes-or-no task is `no` only if the line has another label of the same kind (for a backpack any carrying... label,
  such as carryingNothing), and missing if it has none of that kind.
"""

from pathlib import Path

import pandas as pd

from common.datasets.peta import leading_number, person_numbers, read_images
from common.errors import UserError

COLOURS = ("black", "blue", "brown", "green", "gray", "orange", "pink", "purple", "red", "white", "yellow")


def _colours(part: str) -> dict[str, tuple[str, ...]]:
    return {colour: (part + ("Grey" if colour == "gray" else colour.capitalize()),) for colour in COLOURS}


# Task: {value: the labels of PETA that mean it}.
TASKS: dict[str, dict[str, tuple[str, ...]]] = {
    "gender": {"male": ("personalMale",), "female": ("personalFemale",)},
    "hair": {"short": ("hairShort",), "long": ("hairLong",)},
    "age": {
        "0-15": ("personalLess15",),
        "16-30": ("personalLess30",),
        "31-45": ("personalLess45",),
        "46-60": ("personalLess60",),
        "over 60": ("personalLarger60",),
    },
    "sleeves": {"long": ("upperBodyLongSleeve",), "short": ("upperBodyShortSleeve", "upperBodyNoSleeve")},
    # PETA does not label the length: outer garments that cover the hips are long, those that end above are short.
    "upper_length": {
        "long": ("upperBodyJacket", "upperBodySuit"),
        "short": ("upperBodyTshirt", "upperBodyVNeck", "upperBodySweater"),
    },
    "lower_type": {
        "dress": ("lowerBodyLongSkirt", "lowerBodyShortSkirt"),
        "trousers": (
            "lowerBodyTrousers",
            "lowerBodyJeans",
            "lowerBodyShorts",
            "lowerBodyCapri",
            "lowerBodyHotPants",
            "lowerBodySuits",
        ),
    },
    "upper_colour": _colours("upperBody"),
    "lower_colour": _colours("lowerBody"),
    "shoe_colour": _colours("footwear"),
}

CONTRADICTORY = ("gender", "hair", "age")

# Task: the label that means yes, and the prefix of labels of its kind.
PRESENCE = {
    "hat": ("accessoryHat", "accessory"),
    "backpack": ("carryingBackpack", "carrying"),
    "bag": ("carryingMessengerBag", "carrying"),
    "boots": ("footwearBoots", "footwear"),
}

# Labels that begin with footwear but do not distinguish boots from shoes.
_SILENT = frozenset(label for labels in TASKS["shoe_colour"].values() for label in labels)


def read_peta_attributes(folder: Path) -> pd.DataFrame:
    """One row a person (index: the numbers that peta.read gives), one column for each of the 13 tasks.

    Values are those of TASKS, and `no` or `yes` for PRESENCE; NaN is missing. The first token of a line is an identity
    or, in CUHK's folder, a file name that begins with it. Lines of one identity are merged, lines of identities without
    images are ignored, and a person without a line has no values. UserError: as in peta.read, or a line that does not
    begin with a number.
    """
    numbers = person_numbers(read_images(folder))
    labels: dict[int, set[str]] = {person: set() for person in numbers.values()}
    for source in sorted({source for source, _ in numbers}):
        path = folder / source / "archive" / "Label.txt"
        for line_number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
            if not (tokens := line.split()):
                continue
            if (identity := leading_number(tokens[0])) is None:
                raise UserError(f"{path}, line {line_number}: expected an identity and its labels, got {line[:60]!r}")
            if (person := numbers.get((source, identity))) is not None:
                labels[person].update(tokens[1:])
    rows = [_row(given) for given in labels.values()]
    return pd.DataFrame(rows, index=pd.Index(labels, name="person"), columns=[*TASKS, *PRESENCE], dtype=object)


def _row(given: set[str]) -> dict[str, str | float]:
    row: dict[str, str | float] = {}
    for task, values in TASKS.items():
        meant = [value for value, labels in values.items() if given.intersection(labels)]
        usable = meant if task not in CONTRADICTORY or len(meant) == 1 else []
        row[task] = usable[0] if usable else float("nan")
    for task, (label, kind) in PRESENCE.items():
        spoken = any(other.startswith(kind) and other not in _SILENT for other in given)
        row[task] = "yes" if label in given else "no" if spoken else float("nan")
    return row
