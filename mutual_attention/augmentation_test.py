"""60 epochs of training on images that say where each pixel comes from: rates, pairs, labels and augmentation read from
what the optimiser, the losses and the network received."""

from functools import lru_cache
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

from . import train
from .model import Output
from .model_test import settings_of

HEIGHT, WIDTH = 64, 32
STD = np.array([0.229, 0.224, 0.225])  # ImageNet's, in [0, 1]
IDENTITIES, IMAGES = 14, 4  # 56 images: two batches of 32 pairs in an epoch
CAMERAS = 2  # images 0 and 1 of an identity are by one camera, 2 and 3 by the other


def chart(index):
    """(H, W, 3) uint8: red is the row, green the column, blue the image."""
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([60 + 2 * row, 60 + 4 * column, np.full_like(row, 20 + 3 * index)], axis=2).astype(np.uint8)


@lru_cache
def pixels_of(index):
    """The chart with speckles, which are the image's own, so that the mean image is no chart."""
    speckles = np.random.default_rng(index).integers(0, 2, (HEIGHT, WIDTH, 1))
    return (chart(index) + speckles * [0, 0, 1]).astype(np.uint8)


def chart_run(folder, identities=IDENTITIES, seed=0, **overrides):
    """A run in `folder` at the paper's settings, on small charts; image i is of identity i // IMAGES."""
    samples = []
    for i in range(identities * IMAGES):
        Image.fromarray(pixels_of(i)).save(folder / f"{i}.png")
        samples.append(Sample(folder / f"{i}.png", person=100 + i // IMAGES, camera=i % IMAGES // CAMERAS))
    sizes = {"height": HEIGHT, "width": WIDTH, "pretrained": "none"}
    sizes |= {"precision": "fp32", "checkpoint_epochs": 60}
    settings = settings_of(overrides.pop("variant", "full"), demo=False, **sizes | overrides)
    train_set, empty = Subset("train", tuple(samples)), Subset("query", ())
    dataset = SimpleNamespace(train=train_set, query=empty, gallery=empty, fingerprint="0" * 16)
    return Run(train.__package__, dataset, "full", settings, seed, torch.device("cpu"), folder)


class MeanColour(nn.Module):
    """Stands in for the network and keeps what it receives."""

    received: list  # (training, first images, second images), one entry a step
    seeds: list  # torch's, from which dropout draws, one entry a step

    def __init__(self, num_identities, settings):
        super().__init__()
        self.attention = False
        self.linear = nn.Linear(3, num_identities)
        self.pair = nn.Linear(3, 2)

    def forward(self, first, second):
        if first.device.type == "cpu":
            MeanColour.received.append((self.training, first.clone(), second.clone()))
            MeanColour.seeds.append(torch.initial_seed())
        colours = [images.mean((2, 3)) for images in (first, second)]
        return Output(self.linear(torch.cat(colours)), self.pair(colours[0] - colours[1]))


class Augmented(NamedTuple):
    """How an image was changed: mirrored, and the rectangle that was erased."""

    index: int
    flipped: bool
    erased: tuple[int, int, int, int] | None  # top, left, height, width


@pytest.fixture(scope="module")
def mean_chart():
    """The mean image: the plain average over all training images."""
    return np.mean([pixels_of(i).astype(float) for i in range(IDENTITIES * IMAGES)], axis=0)


def read_chart(image, mean):
    """(3, H, W) as the network received it -> Augmented, of which every pixel is checked."""
    received = image.double().numpy().transpose(1, 2, 0)
    erased = None
    gone = (np.abs(received) < 1e-7).all(2)  # the mean image, less itself
    if gone.any():
        rows, columns = np.nonzero(gone)
        erased = (int(rows.min()), int(columns.min()), int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1)
    visible = received * STD * 255 + mean
    flipped = bool((visible[~gone][:, 1] - expected_visible(0, False)[~gone][:, 1]).std() > 1)
    index = int(np.median(visible[~gone][:, 2] + 0.01) - 20) // 3
    found = Augmented(index, flipped, erased)
    assert np.abs(received - expected_pixels(found, mean)).max() < 1e-3, found
    return found


def expected_visible(index, flipped):
    pixels = pixels_of(index).astype(float)
    return pixels[:, ::-1] if flipped else pixels


def expected_pixels(found, mean):
    """Mirrored, less the mean image, over ImageNet's deviations, and a rectangle of the mean image, which is 0."""
    expected = (expected_visible(found.index, found.flipped) - mean) / 255 / STD
    if found.erased:
        row, column, height, width = found.erased
        expected[row : row + height, column : column + width] = 0
    return expected


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """The run, and of each step: the rates, what the network received, torch's seed and the batch of the losses."""
    folder = tmp_path_factory.mktemp("charts")
    run, rates, batches = chart_run(folder), [], []
    MeanColour.received, MeanColour.seeds = [], []

    def kept(output, batch, settings):
        batches.append(batch)
        return losses(output, batch, settings)

    losses = train.losses
    hook = register_optimizer_step_pre_hook(
        lambda optimiser, *_: rates.append([group["lr"] for group in optimiser.param_groups])
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "MutualAttentionNet", MeanColour)
        patch.setattr(train, "losses", kept)
        patch.setattr(train, "activity", lambda *_: {})  # MeanColour has no attention
        patch.setenv("REID_DATA", str(folder))
        train.train(run)
    hook.remove()
    seen = {"received": MeanColour.received, "seeds": MeanColour.seeds}
    return SimpleNamespace(run=run, rates=rates, batches=batches, **seen)


@pytest.fixture(scope="module")
def images(watched, mean_chart):
    """What was done to the images of every third step: lists of Augmented, of first and of second images."""
    return [
        [[read_chart(image, mean_chart) for image in half] for half in halves] for _, *halves in watched.received[::3]
    ]


def test_each_epochs_rate_falls_geometrically_from_the_40th_to_the_60th(watched):
    per_epoch = [1e-2] * 40 + [1e-2 * 0.1 ** ((epoch - 40) / 20) for epoch in range(41, 61)]
    assert per_epoch[-1] == pytest.approx(1e-3)
    np.testing.assert_allclose(watched.rates, [[rate] for rate in np.repeat(per_epoch, 2)], rtol=1e-9)
    np.testing.assert_allclose([entry["learning_rate"] for entry in watched.run.history.log], per_epoch, rtol=1e-9)


def test_the_rate_can_fall_in_one_step():
    settings = settings_of(demo=False, decay="step")
    found = [train.learning_rate(epoch, settings) for epoch in (1, 40, 41, 60)]
    assert found == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3])


def test_batches_are_32_pairs_half_of_one_identity_under_their_own_labels(watched, images):
    assert len(watched.received) == len(watched.batches) == 120 and train.images_per_epoch(watched.run) == 64
    assert all(training and len(first) == len(second) == 32 for training, first, second in watched.received)
    for (first, second), batch in zip(images, watched.batches[::3], strict=True):
        people = [[found.index // IMAGES for found in half] for half in (first, second)]
        assert batch.identities.tolist() == people[0] + people[1]
        assert batch.same.tolist() == [one == other for one, other in zip(*people, strict=True)]
        assert batch.same.sum() == 16
        for one, other, same in zip(first, second, batch.same.tolist(), strict=True):
            cameras = [found.index % IMAGES // CAMERAS for found in (one, other)]
            assert not same or cameras[0] != cameras[1]
    orders = {tuple(batch.same.tolist()) for batch in watched.batches}
    assert len(orders) > 110  # positive and negative pairs are mixed


def test_each_image_is_an_anchor_once_an_epoch(watched, mean_chart):
    for epoch in (0, 41):
        steps = watched.received[2 * epoch : 2 * epoch + 2]
        anchors = [[read_chart(image, mean_chart) for image in first] for _, first, _ in steps]
        assert {image.index for half in anchors for image in half} == set(range(IDENTITIES * IMAGES))
        assert [len(half) for half in anchors] == [32, 32]
        flips, erased = ([[image[part] for image in half] for half in anchors] for part in (1, 2))
        assert flips[0] != flips[1] and erased[0] != erased[1]  # each step of an epoch has its own
    assert len({tuple(batch.identities.tolist()) for batch in watched.batches}) == 120


def test_dropout_of_an_epoch_is_drawn_from_the_runs_seed_and_the_epoch(watched):
    """So that a resumed epoch is bitwise identical."""
    expected = []
    for epoch in range(1, 61):
        watched.run.seed_epoch(epoch)
        expected += 2 * [torch.initial_seed()]
    assert watched.seeds == expected and len(set(expected)) == 60


def test_half_of_the_images_are_mirrored_each_for_itself(images):
    flips = [tuple(found.flipped for found in half) for halves in images for half in halves]
    assert np.mean(flips) == pytest.approx(0.5, abs=0.04)
    assert all(0.1 < np.mean(half) < 0.9 for half in flips) and len(set(flips)) == len(flips)


def test_half_of_the_images_have_2_to_40_percent_replaced_by_the_mean_image(images):
    erased = [[found.erased for found in half] for halves in images for half in halves]
    chosen = [tuple(rectangle is not None for rectangle in half) for half in erased]
    assert np.mean(chosen) == pytest.approx(0.5, abs=0.04)
    assert all(0.1 < np.mean(half) < 0.9 for half in chosen) and len(set(chosen)) == len(chosen)

    rectangles = np.array([rectangle for half in erased for rectangle in half if rectangle is not None])
    _, _, height, width = rectangles.T
    share, aspect = height * width / (HEIGHT * WIDTH), height / width
    tall, uncut = height >= width, width < WIDTH  # wide ones may be cut to the image's width
    assert 0.015 < share.min() < 0.03 and 0.36 < share[tall].max() < 0.42  # sides are whole pixels
    assert np.mean(share[tall]) == pytest.approx(0.21, abs=0.02)
    assert 0.25 < aspect[uncut].min() < 0.36 and 2.8 < aspect.max() < 4
    for start, side, whole in ((rectangles[:, 0], height, HEIGHT), (rectangles[:, 1], width, WIDTH)):
        loose = side <= 0.6 * whole  # a place where a rectangle fits is as likely as any other
        thirds = np.histogram(start[loose] / (whole - side[loose]), bins=3, range=(0, 1))[0] / loose.sum()
        np.testing.assert_allclose(thirds, 1 / 3, atol=0.08)


def test_a_test_image_is_prepared_as_a_training_image_without_augmentation(watched, mean_chart):
    mean = train.mean_image_of(watched.run)
    for index in (0, 47):
        pixels = torch.from_numpy(pixels_of(index).transpose(2, 0, 1)[None].copy())
        assert read_chart(train.prepared(pixels, mean)[0], mean_chart) == Augmented(index, False, None)
