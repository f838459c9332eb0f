import math

import pytest
import torch

from common import augment


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def numbered_images(batch=5, height=12, width=8):
    """Every pixel of every image has its own value."""
    return torch.arange(1, batch * 3 * height * width + 1).reshape(batch, 3, height, width)


def test_normalise_is_the_formula():
    images = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8, generator=generator())
    expected = torch.empty(2, 3, 4, 4)
    for channel, (mean, std) in enumerate(zip(augment.IMAGENET_MEAN, augment.IMAGENET_STD, strict=True)):
        expected[:, channel] = (images[:, channel].double() / 255 - mean) / std
    torch.testing.assert_close(augment.normalise(images), expected)


def test_each_image_is_flipped_or_unchanged_with_the_given_probability():
    images = numbered_images(batch=400, height=2, width=4)
    flipped = augment.random_flip(images, 0.25, generator())
    mirrored = [torch.equal(out, image.flip(2)) for out, image in zip(flipped, images, strict=True)]
    same = [torch.equal(out, image) for out, image in zip(flipped, images, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 70 <= sum(mirrored) <= 130  # 100 expected, standard deviation 8.7


def test_pad_and_crop_gives_a_window_of_the_zero_padded_image():
    images, padding = numbered_images(), 3
    cropped = augment.pad_and_crop(images, padding, generator(1))
    assert cropped.shape == images.shape
    for image, crop in zip(images, cropped, strict=True):
        padded = torch.zeros(3, 12 + 6, 8 + 6, dtype=image.dtype)
        padded[:, 3:15, 3:11] = image
        windows = [padded[:, top : top + 12, left : left + 8] for top in range(7) for left in range(7)]
        assert sum(torch.equal(crop, window) for window in windows) == 1
    assert augment.pad_and_crop(images, 0, generator()) is images


def test_crops_reach_every_offset():
    images = numbered_images(batch=300, height=4, width=4)
    corners = augment.pad_and_crop(images, 1, generator())[:, 0, 1, 1] - images[:, 0, 1, 1]
    assert set(corners.tolist()) == {row * 4 + column for row in (-1, 0, 1) for column in (-1, 0, 1)}


def test_erasing_sets_one_rectangle_of_the_given_area():
    images = torch.ones(500, 3, 64, 32)
    erased = augment.random_erasing(images, 0.5, generator(), area=(0.1, 0.2), aspect=(0.5, 2.0), value=-7.0) == -7.0
    assert torch.equal(erased[:, 0], erased[:, 1]) and torch.equal(erased[:, 0], erased[:, 2])
    chosen = erased[:, 0].flatten(1).any(1)
    assert 210 <= int(chosen.sum()) <= 290  # 250 expected, standard deviation 11
    for mask in erased[chosen, 0]:
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        height, width = len(rows), len(columns)
        assert int(mask.sum()) == height * width == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
        assert 0.085 <= height * width / (64 * 32) <= 0.215  # the bounds, and rounding to whole pixels


def test_gray_images_are_their_luma():
    images = torch.randint(0, 256, (30, 3, 4, 2), dtype=torch.uint8, generator=generator())
    changed = augment.gray(images)
    assert changed.dtype == torch.uint8 and changed.shape == images.shape
    red, green, blue = images.double().unbind(1)
    for channel in changed.double().unbind(1):
        assert (channel - (0.299 * red + 0.587 * green + 0.114 * blue)).abs().max() <= 0.501


def test_gray_by_weights_is_their_sum():
    images = torch.tensor([[10.0, 20, 40], [10, 20, 40]]).view(2, 3, 1, 1)
    changed = augment.gray(images, torch.tensor([[0.5, 0.5, 0], [0, 0.25, 0.75]]))
    assert changed[:, :, 0, 0].tolist() == [[15.0] * 3, [35.0] * 3]


def test_mixed_channels_have_every_mixture_and_no_colour():
    pure = torch.eye(3).view(3, 3, 1, 1).repeat(4000, 1, 1, 1)  # a pure red image becomes the weight of red
    changed = augment.random_channel_mix(pure, generator(3))
    assert torch.equal(changed[:, 0], changed[:, 1]) and torch.equal(changed[:, 1], changed[:, 2])
    weights = changed[:, 0, 0, 0].view(4000, 3)  # a row is three images, each with its own draw
    for colour in weights.unbind(1):  # each is distributed as Beta(1, 2): mean 1/3, P(w < t) = 1 - (1 - t)^2
        assert abs(float(colour.mean()) - 1 / 3) < 0.02
        assert abs(float((colour < 0.5).float().mean()) - 0.75) < 0.03
    colourless = torch.full((4, 3, 2, 2), 77, dtype=torch.uint8)
    assert torch.equal(augment.random_channel_mix(colourless, generator()), colourless)


def test_each_image_gets_its_own_gain_and_gamma():
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(500, 3, -1, -1)
    changed = augment.random_tone(ramp, 0.3, 0.2, generator(2))
    assert changed.dtype == torch.uint8 and torch.equal(changed[:, 0], changed[:, 2])
    curves = changed[:, 0].flatten(1).double() / 255
    low, middle = curves[:, 64], curves[:, 128]  # for nearly all images below the clamp at 1
    usable = (middle < 1) & (low > 0.02)
    gamma = (middle[usable] / low[usable]).log() / math.log(2)
    gain = middle[usable] / (128 / 255) ** gamma
    assert usable.float().mean() > 0.97
    assert abs(float(gamma.log().mean())) < 0.04 and abs(float(gamma.log().std()) - 0.3) < 0.03
    assert abs(float(gain.log().mean())) < 0.04 and abs(float(gain.log().std()) - 0.2) < 0.03
    plain = gain[0] * (torch.arange(256) / 255) ** gamma[0]  # one image's curve, up to the rounding of its gamma
    assert (curves[usable][0] - plain.clamp(max=1)).abs().max() < 0.02
    assert torch.equal(augment.random_tone(ramp, 0, 0, generator()), ramp)


@pytest.mark.parametrize("name", ["random_flip", "random_erasing"])
def test_probability_zero_changes_nothing(name):
    images = torch.rand(16, 3, 8, 4, generator=generator())
    assert torch.equal(getattr(augment, name)(images, 0.0, generator()), images)


def test_step_generators_are_distinct_and_repeatable():
    def draw(*key):
        return torch.rand(4, generator=augment.batch_generator(*key)).tolist()

    keys = [(0, 1, 0), (0, 1, 1), (0, 2, 0), (1, 1, 0), (0, 1, 0, 1), (0, 1, 0, 2)]
    assert len({tuple(draw(*key)) for key in keys}) == 6
    assert draw(3, 2, 1) == draw(3, 2, 1)
