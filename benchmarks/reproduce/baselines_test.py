"""The colour histogram: stripes and bins by hand, and its distance."""

import numpy as np
import pytest

from benchmarks.reproduce.baselines import BINS, STRIPES, colour_histograms, grey_world


def image(*colours):
    """(1, 3, 48, 4): equally high bands of RGB colours."""
    rows = np.repeat(np.array(colours, np.uint8), 48 // len(colours), axis=0)
    return np.broadcast_to(rows.T[None, :, :, None], (1, 3, 48, 4)).copy()


def test_each_stripe_holds_its_colours_and_the_whole_has_unit_length():
    features = colour_histograms(image((255, 0, 0), (0, 0, 255)))
    assert features.shape == (1, STRIPES * np.prod(BINS))
    stripes = features.reshape(STRIPES, *BINS)
    full = (BINS[1] - 1, BINS[2] - 1)
    red, blue = (0, *full), (BINS[0] * 2 // 3, *full)  # hue 0 and 240 degrees, full saturation and value
    for stripe in range(STRIPES):
        colour = red if stripe < STRIPES // 2 else blue
        assert stripes[stripe][colour] ** 2 == pytest.approx(1 / STRIPES)
    assert np.linalg.norm(features) == pytest.approx(1)


def test_distance_is_hellingers():
    # half of the image matches, half does not: Bhattacharyya coefficient 1/2, squared distance 2 - 2/2
    blue_below, green_below = image((255, 0, 0), (0, 0, 255)), image((255, 0, 0), (0, 255, 0))
    first, second = colour_histograms(np.concatenate([blue_below, green_below]))
    assert np.sum((first - second) ** 2) == pytest.approx(1.0, rel=1e-5)


def test_order_within_a_stripe_and_side_do_not_matter():
    random = np.random.default_rng(0).integers(0, 256, (1, 3, 12, 4), dtype=np.uint8)
    np.testing.assert_allclose(colour_histograms(random), colour_histograms(random[..., ::-1]))


def test_white_balance_removes_a_colour_cast():
    random = np.random.default_rng(0).integers(20, 100, (1, 3, 12, 8), dtype=np.uint8)
    cast = random * np.array([2, 1, 1], np.uint8)[:, None, None]
    balanced, other = (grey_world(images).astype(float) for images in (random, cast))
    ratio = other / balanced  # one brightness for the whole image, up to rounding
    np.testing.assert_allclose(ratio, ratio.mean(), rtol=0.06)
    np.testing.assert_allclose(other.mean((2, 3)), other.mean(), rtol=0.02)  # the channels' means are equal
