"""Named colours and patterns of clothes, each with its share among people."""

from common.datasets.synthetic.materials import Colour

# Colours of Market-1501's attributes. The last of each table has no name there: an identity without a colour attribute.
UPPER_COLOURS: dict[str, tuple[Colour, float]] = {
    "white": ((0.86, 0.86, 0.84), 0.26),
    "black": ((0.09, 0.09, 0.10), 0.22),
    "gray": ((0.45, 0.45, 0.46), 0.16),
    "blue": ((0.17, 0.26, 0.50), 0.11),
    "red": ((0.62, 0.13, 0.15), 0.07),
    "green": ((0.20, 0.38, 0.25), 0.05),
    "yellow": ((0.80, 0.68, 0.28), 0.03),
    "purple": ((0.38, 0.22, 0.44), 0.02),
    "none": ((0.62, 0.45, 0.34), 0.08),
}
LOWER_COLOURS: dict[str, tuple[Colour, float]] = {
    "black": ((0.09, 0.09, 0.10), 0.38),
    "blue": ((0.20, 0.27, 0.43), 0.23),
    "gray": ((0.38, 0.38, 0.40), 0.16),
    "brown": ((0.38, 0.28, 0.20), 0.07),
    "white": ((0.80, 0.79, 0.76), 0.06),
    "pink": ((0.74, 0.48, 0.53), 0.02),
    "green": ((0.24, 0.33, 0.22), 0.02),
    "purple": ((0.36, 0.24, 0.42), 0.01),
    "yellow": ((0.74, 0.63, 0.30), 0.01),
    "none": ((0.60, 0.53, 0.42), 0.04),
}
SKIN: tuple[Colour, ...] = (
    (0.86, 0.67, 0.55),
    (0.80, 0.60, 0.46),
    (0.72, 0.52, 0.38),
    (0.52, 0.35, 0.25),
    (0.34, 0.22, 0.16),
)
HAIR: tuple[Colour, ...] = (
    (0.08, 0.07, 0.07),
    (0.17, 0.11, 0.08),
    (0.32, 0.21, 0.12),
    (0.58, 0.44, 0.24),
    (0.62, 0.61, 0.60),
)
LEATHER: tuple[Colour, ...] = (
    (0.10, 0.09, 0.09),
    (0.36, 0.22, 0.13),
    (0.58, 0.42, 0.28),
    (0.55, 0.12, 0.13),
    (0.82, 0.78, 0.72),
)
SHOES: tuple[Colour, ...] = (
    (0.10, 0.10, 0.11),
    (0.88, 0.88, 0.87),
    (0.40, 0.40, 0.42),
    (0.34, 0.21, 0.13),
    (0.58, 0.13, 0.15),
    (0.18, 0.25, 0.46),
)

PATTERNS = {  # of the upper garment
    "plain": 0.24, "stripes": 0.14, "chest_band": 0.09, "checks": 0.07, "two_tone": 0.09, "raglan": 0.10,
    "vertical": 0.06, "side_panels": 0.06, "dots": 0.05,
}  # fmt: skip
LOGOS = {"none": 0.40, "disc": 0.14, "block": 0.16, "text": 0.20, "triangle": 0.10}
