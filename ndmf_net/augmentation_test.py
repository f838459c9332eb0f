"""80 epochs of training on images that say where each pixel comes from: rates, batches and augmentation read from what
the optimiser and the network received."""

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from common.datasets.base import Sample, Subset
from common.runs import Run
from common.samplers import IdentitySampler

from . import train
from .model import Output
from .model_test import settings_of

HEIGHT, WIDTH, PADDING = 64, 32, 10
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # ImageNet's, in [0, 1]
IDENTITIES, IMAGES = 18, 4  # 18 x 4 images give one batch of 16 x 4 in an epoch


def chart(index):
    """(H, W, 3) uint8: red is the row, green the column, blue the image."""
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([60 + 2 * row, 60 + 4 * column, np.full_like(row, 3 + 3 * index)], axis=2).astype(np.uint8)


def chart_run(folder, identities=IDENTITIES, seed=0, **overrides):
    """A run in `folder` at the paper's settings, on small charts; image i is of identity i // IMAGES."""
    samples = []
    for i in range(identities * IMAGES):
        Image.fromarray(chart(i)).save(folder / f"{i}.png")
        samples.append(Sample(folder / f"{i}.png", person=100 + i // IMAGES, camera=i % IMAGES))
    sizes = {"height": HEIGHT, "width": WIDTH, "num_parts": 3, "pretrained": "none"}
    sizes |= {"precision": "fp32", "checkpoint_epochs": 80}
    settings = settings_of(demo=False, **sizes | overrides)
    dataset = SimpleNamespace(train=Subset("train", tuple(samples)), fingerprint="0" * 16)
    return Run(train.__package__, dataset, "full", settings, seed, torch.device("cpu"), folder)


class MeanColour(nn.Module):
    """Stands in for the network and keeps what it receives."""

    received: list  # (training, images), one entry a batch

    def __init__(self, num_identities, settings):
        super().__init__()
        self.linear = nn.Linear(3, num_identities)

    def forward(self, images):
        if images.device.type == "cpu":
            MeanColour.received.append((self.training, images.clone()))
        feature = images.mean((2, 3))
        return Output(feature, self.linear(feature))

    def embed(self, images):
        return nn.functional.normalize(self(images).feature)


class Augmented(NamedTuple):
    """How an image was changed: row and column of the crop in the image, and the rectangle that was erased."""

    index: int
    top: int
    left: int
    flipped: bool
    erased: tuple[int, int, int, int] | None  # top, left, height, width


def read_chart(image):
    """(3, H, W) as the network received it -> Augmented, of which every pixel is checked."""
    pixels = (image.double().numpy().transpose(1, 2, 0) * STD + MEAN) * 255
    mean_colour = np.abs(pixels - 255 * MEAN).max(2) < 0.01
    visible = ~mean_colour & (np.abs(pixels).max(2) > 0.01)
    rows, columns = np.nonzero(visible)
    red, green, blue = pixels[rows, columns].T
    from_row, from_column = (red - 60) / 2, (green - 60) / 4
    flipped = bool(columns @ (from_column - from_column.mean()) < 0)
    columns = WIDTH - 1 - columns if flipped else columns
    index, top, left = (int(np.rint(np.median(v))) for v in ((blue - 3) / 3, from_row - rows, from_column - columns))
    erased = None
    if mean_colour.any():
        rows, columns = np.nonzero(mean_colour)
        erased = (int(rows.min()), int(columns.min()), int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1)
    found = Augmented(index, top, left, flipped, erased)
    assert np.abs(pixels - expected_pixels(found)).max() < 0.01, found
    return found


def expected_pixels(found):
    """Zeros around the image, a crop of its size, mirrored, and a rectangle of the mean colour."""
    padded = np.pad(chart(found.index).astype(float), ((PADDING, PADDING), (PADDING, PADDING), (0, 0)))
    top, left = PADDING + found.top, PADDING + found.left
    expected = padded[top : top + HEIGHT, left : left + WIDTH]
    expected = expected[:, ::-1] if found.flipped else expected
    expected = expected.copy()
    if found.erased:
        row, column, height, width = found.erased
        expected[row : row + height, column : column + width] = 255 * MEAN
    return expected


def watched_training(run):
    """The run, and of each step: the rates, what the network received and the labels of the loss."""
    rates, labels = [], []
    MeanColour.received = []

    def kept(output, batch, settings):
        labels.append(batch.labels.tolist())
        return losses(output, batch, settings)

    losses = train.losses
    hook = register_optimizer_step_pre_hook(
        lambda optimiser, *_: rates.append([group["lr"] for group in optimiser.param_groups])
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "NDMFNet", MeanColour)
        patch.setattr(train, "losses", kept)
        patch.setattr(train, "activity", lambda *_: {})  # MeanColour has no modules
        patch.setenv("REID_DATA", str(run.directory))
        train.train(run)
    hook.remove()
    return SimpleNamespace(run=run, rates=rates, labels=labels, received=MeanColour.received)


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    return watched_training(chart_run(tmp_path_factory.mktemp("charts"), num_epochs=80))


@pytest.fixture(scope="module")
def batches(watched):
    """What was done to the images of every fourth epoch: one list of Augmented a batch."""
    return [[read_chart(image) for image in images] for _, images in watched.received[::4]]


def test_each_epochs_rate_is_eq_17(watched):
    warm_up = [[3.5e-5 * epoch / 10] for epoch in range(1, 11)]
    expected = np.array(warm_up + 30 * [[3.5e-4]] + 30 * [[3.5e-5]] + 10 * [[3.5e-6]])
    np.testing.assert_allclose(watched.rates, expected, rtol=1e-9)
    np.testing.assert_allclose([[entry["learning_rate"]] for entry in watched.run.history.log], expected, rtol=1e-9)


def test_the_last_warm_up_rate_can_be_the_first_one_after_it():
    continuous = settings_of(demo=False, warmup_peak=3.5e-4)
    assert [train.learning_rate(epoch, continuous) for epoch in (5, 10, 11)] == pytest.approx([1.75e-4, 3.5e-4, 3.5e-4])
    without = settings_of(demo=False, warmup_epochs=0)
    assert train.learning_rate(1, without) == pytest.approx(3.5e-4)


def test_batches_are_16_identities_with_4_images_each_under_their_own_labels(watched, batches):
    assert all(training and len(images) == 64 for training, images in watched.received)
    assert len(watched.received) == 80 and train.images_per_epoch(watched.run) == 64
    for batch, labels in zip(batches, watched.labels[::4], strict=True):
        images = [found.index for found in batch]
        assert [index // IMAGES for index in images] == labels  # persons are numbered as the images are
        assert len(set(images)) == 64 and len(set(labels)) == 16
    assert len({tuple(sorted(set(labels))) for labels in watched.labels}) > 50  # the identities of an epoch vary


def test_images_are_padded_by_10_pixels_and_cropped_anywhere(batches):
    for offsets in ([[found.top for found in batch] for batch in batches], [[f.left for f in b] for b in batches]):
        assert {offset for batch in offsets for offset in batch} == set(range(-10, 11))
        assert abs(np.mean(offsets)) < 0.5 and np.std(offsets) == pytest.approx(np.std(range(-10, 11)), rel=0.05)
        assert all(len(set(batch)) > 10 for batch in offsets)  # each image has its own
        assert len(set(map(tuple, offsets))) == len(batches)  # and each step


def test_half_of_the_images_are_mirrored_each_for_itself(batches):
    flips = [tuple(found.flipped for found in batch) for batch in batches]
    assert np.mean(flips) == pytest.approx(0.5, abs=0.03)
    assert all(0.2 < np.mean(batch) < 0.8 for batch in flips) and len(set(flips)) == len(flips)


def test_half_of_the_images_have_2_to_40_percent_erased(batches):
    erased = [[found.erased for found in batch] for batch in batches]
    chosen = [tuple(rectangle is not None for rectangle in batch) for batch in erased]
    assert np.mean(chosen) == pytest.approx(0.5, abs=0.04)
    assert all(0.2 < np.mean(batch) < 0.8 for batch in chosen) and len(set(chosen)) == len(chosen)

    rectangles = np.array([rectangle for batch in erased for rectangle in batch if rectangle is not None])
    _, _, height, width = rectangles.T
    share, aspect = height * width / (HEIGHT * WIDTH), height / width
    tall, uncut = height >= width, width < WIDTH  # wide ones may be cut to the image's width
    assert 0.015 < share.min() < 0.03 and 0.37 < share[tall].max() < 0.42  # sides are whole pixels
    assert np.mean(share[tall]) == pytest.approx(0.21, abs=0.02)
    assert 0.25 < aspect[uncut].min() < 0.35 and 3 < aspect.max() < 4
    assert np.mean(tall) == pytest.approx(0.5, abs=0.08)

    # Each place where a rectangle fits is as likely as any other: so is each third of the way down and across.
    for start, side, whole in ((rectangles[:, 0], height, HEIGHT), (rectangles[:, 1], width, WIDTH)):
        loose = side <= 0.6 * whole
        thirds = np.histogram(start[loose] / (whole - side[loose]), bins=3, range=(0, 1))[0] / loose.sum()
        np.testing.assert_allclose(thirds, 1 / 3, atol=0.08)


def test_each_step_has_its_own_batch_and_crops_by_the_seed_and_the_strengths_of_the_settings(tmp_path):
    strengths = {"padding": 3, "flip_probability": 1.0, "erasing_probability": 1.0}
    run = chart_run(tmp_path, 8, seed=5, num_epochs=2, identities_per_batch=4, **strengths)
    steps = [[read_chart(image) for image in images] for _, images in watched_training(run).received]
    sampler = IdentitySampler(np.arange(8 * IMAGES) // IMAGES, 4, IMAGES, seed=5)
    expected = [batch.tolist() for epoch in (1, 2) for batch in sampler.batches(epoch)]
    assert [[found.index for found in step] for step in steps] == expected and len(steps) == 4
    assert len({tuple((found.top, found.left) for found in step) for step in steps}) == 4
    changed = [found for step in steps for found in step]
    assert {found.top for found in changed} == {found.left for found in changed} == set(range(-3, 4))
    assert all(found.flipped and found.erased for found in changed)
