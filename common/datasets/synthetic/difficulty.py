"""The settings that make the synthetic task harder or easier. Measured results: common/datasets/README.md.

Changing one changes every image: raise `GENERATOR_VERSION` as well, so that folders generated before are recognised as
outdated. If the images of one layout alone change, raise its entry in `LAYOUT_VERSIONS`.
"""

GENERATOR_VERSION = 1
# 2 of the infrared sets: more identities with fewer images each at demo size; dyes warmed by the sun. Then, of all sets
# with a gallery: more people at demo size. 3 of those with joints: poses.json names a fingerprint that has the mark; of
# regdb: ten images of a person in each modality at demo size, too.
LAYOUT_VERSIONS = {"market1501": 3, "dukemtmcreid": 3, "msmt17": 3, "cuhk03": 3, "sysu_mm01": 5, "regdb": 3}


def generator_version(like: str) -> int:
    """The version that is written into the mark of a folder in the layout of `like`."""
    return LAYOUT_VERSIONS.get(like, GENERATOR_VERSION)


# How much cameras differ in white balance, exposure and contrast: the more they do, the less colour alone helps.
CAST_SPREAD = 0.11  # standard deviation of the logarithm of the red and blue gains
GAMMA_RANGE = (0.80, 1.30)
SATURATION_RANGE = (0.55, 1.05)
EXPOSURE_RANGE = (-0.30, 0.25)  # logarithm of a camera's exposure
HAZE_RANGE = (0.0, 0.10)  # how far black is lifted

# How much the images of one camera differ: a passing cloud, the shadow of a wall.
EXPOSURE_SPREAD = 0.14  # of the logarithm, between tracks
FRAME_EXPOSURE_SPREAD = 0.05  # of the logarithm, between frames of one track

# How much one named colour varies between identities: standard deviation of the logarithm.
COLOUR_JITTER = 0.05

# Occlusion: share of tracks with an object in front, and with another person in the crop.
OBJECT_RATE = 0.14
COMPANION_RATE = 0.12

# Errors of detected boxes, standard deviations: the shift relative to the crop's height, the others of logarithms.
CROP_SHIFT = 0.020
CROP_SCALE = 0.035
CROP_STRETCH = 0.05

# Viewpoint: spread in radians around the directions in which people walk through a camera's view.
YAW_SPREAD = 0.35

# Share of the resolution that cameras keep, from worst to best, and the noise that they add, in gray levels.
DETAIL_RANGE = (0.70, 1.0)
NOISE_RANGE = (1.5, 6.0)
