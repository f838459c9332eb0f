"""The knobs that make the synthetic task hard or easy, in one place. What was measured: common/datasets/README.md.

Changing one changes every picture: raise `GENERATOR_VERSION` with it, so that no old folder passes for a new one. A
layout whose pictures alone change has its own version after that.
"""

GENERATOR_VERSION = 1
LAYOUT_VERSIONS = {"sysu_mm01": 2, "regdb": 2}  # 2: more people with fewer pictures each at demo size; sun-warmed dyes


def generator_version(like: str) -> int:
    """The version of what is drawn like `like`, as it stands in a drawn folder."""
    return LAYOUT_VERSIONS.get(like, GENERATOR_VERSION)


# How far cameras differ in white balance, exposure and contrast; the wider, the less colour alone tells.
CAST_SPREAD = 0.11  # standard deviation of the logarithm of the red and blue gains
GAMMA_RANGE = (0.80, 1.30)
SATURATION_RANGE = (0.55, 1.05)
EXPOSURE_RANGE = (-0.30, 0.25)  # logarithm of a camera's exposure
HAZE_RANGE = (0.0, 0.10)  # how far black is lifted

# How far pictures of one camera differ among themselves: a passing cloud, the shadow of a wall.
EXPOSURE_SPREAD = 0.14  # of the logarithm, between tracks
FRAME_EXPOSURE_SPREAD = 0.05  # of the logarithm, between frames of one track

# How far the same named colour differs between persons, standard deviation of the logarithm.
COLOUR_JITTER = 0.05

# What hides the person: share of tracks with an object in front, with another person in the crop.
OBJECT_RATE = 0.14
COMPANION_RATE = 0.12

# Detector boxes: standard deviations in parts of the box's height.
CROP_SHIFT = 0.020
CROP_SCALE = 0.035
CROP_STRETCH = 0.05

# Viewpoint: spread in radians round the directions in which people walk through a camera's view.
YAW_SPREAD = 0.35

# Share of the resolution that cameras keep, from the worst to the best, and the noise they add in gray levels.
DETAIL_RANGE = (0.70, 1.0)
NOISE_RANGE = (1.5, 6.0)
