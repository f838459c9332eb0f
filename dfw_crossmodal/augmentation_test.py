"""60 epochs of training on images that say where each pixel comes from: rates, batches and augmentation read from what
the optimiser and the network received."""

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from common.datasets.base import Sample, Search, Subset
from common.runs import Run

from . import train
from .model import Output
from .overlap_test import settings_of

HEIGHT, WIDTH, PADDING = 64, 32, 10
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # ImageNet's, in [0, 1]
MODALITIES = ("visible", "infrared")
IMAGES = 6  # of an identity in each modality


def chart(index):
    """(H, W, 3) uint8: red is the row, green the column, blue the image."""
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([60 + 2 * row, 60 + 4 * column, np.full_like(row, 3 + 3 * index)], axis=2).astype(np.uint8)


def chart_run(folder, identities=6, images=IMAGES, seed=0, **overrides):
    """A run in `folder` at the paper's settings, on small charts. Image i is of identity i // (2 * images), its first
    `images` visible, the others infrared. The test people have the same images."""
    samples = []
    for i in range(identities * 2 * images):
        Image.fromarray(chart(i)).save(folder / f"{i}.png")
        modality = MODALITIES[i % (2 * images) // images]
        samples.append(Sample(folder / f"{i}.png", 100 + i // (2 * images), i % images, modality))
    sizes = {"height": HEIGHT, "width": WIDTH, "pretrained": "none", "backbone": "resnet18"}
    sizes |= {"precision": "fp32", "checkpoint_epochs": 80}
    settings = settings_of(overrides.pop("variant", "full"), **sizes | overrides)
    halves = [Subset(m, tuple(sample for sample in samples if sample.modality == m)) for m in MODALITIES]
    searches = (Search("all", halves[1], halves[0], "regdb"),)
    dataset = SimpleNamespace(train=Subset("train", tuple(samples)), searches=searches, fingerprint="0" * 16)
    return Run(train.__package__, dataset, "full", settings, seed, torch.device("cpu"), folder)


class MeanColour(nn.Module):
    """Stands in for the network and keeps what it receives."""

    received: list  # (visible, infrared), one entry a batch

    def __init__(self, num_identities, settings):
        super().__init__()
        self.linear, self.head = nn.Linear(3, 3), nn.Linear(3, num_identities)

    def parameters_from_backbone(self):
        return list(self.linear.parameters())

    def forward(self, visible, infrared):
        if visible.device.type == "cpu":
            MeanColour.received.append((visible.clone(), infrared.clone()))
        images = torch.cat([visible, infrared])
        feature = self.linear(images.mean((2, 3)))
        maps = torch.stack([images[:, 0, ::16, ::16], images[:, 1, ::16, ::16]])
        return Output(torch.stack([feature, feature]), torch.stack([self.head(feature)] * 2), maps)


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
    seen = ~mean_colour & (np.abs(pixels).max(2) > 0.01)
    rows, columns = np.nonzero(seen)
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


def watch(folder, patch, **overrides):
    """A run and of each step: the rates, what the network received and the batch of the losses."""
    run, rates, batches = chart_run(folder, **overrides), [], []
    MeanColour.received = []
    losses = train.losses

    def kept(output, batch, settings):
        batches.append(batch)
        return losses(output, batch, settings)

    hook = register_optimizer_step_pre_hook(
        lambda optimiser, *_: rates.append([group["lr"] for group in optimiser.param_groups])
    )
    patch.setattr(train, "CrossModalityNet", MeanColour)
    patch.setattr(train, "losses", kept)
    patch.setattr(train, "activity", lambda *_: {})  # MeanColour has no sub-networks
    patch.setenv("REID_DATA", str(folder))
    train.train(run)
    hook.remove()
    return SimpleNamespace(run=run, rates=rates, batches=batches, received=MeanColour.received)


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        return watch(tmp_path_factory.mktemp("charts"), patch)


@pytest.fixture(scope="module")
def read(watched):
    """What was done to the images of every fourth epoch: of each batch the visible and the infrared Augmented."""
    return [tuple([read_chart(image) for image in half] for half in pair) for pair in watched.received[::4]]


def test_each_epochs_rates_are_those_of_the_schedule(watched):
    """Sec. 4.3's 0.1, a tenth of it for the backbone; ten epochs of warm-up, a tenth after 20 and after 50."""
    new = [0.01 * epoch for epoch in range(1, 11)] + 10 * [0.1] + 30 * [0.01] + 10 * [0.001]
    np.testing.assert_allclose(watched.rates, [[rate / 10, rate] for rate in new], rtol=1e-9)
    np.testing.assert_allclose([entry["learning_rate"] for entry in watched.run.history.log], new, rtol=1e-9)


def test_batches_are_6_identities_with_6_images_of_each_modality_under_their_own_labels(watched, read):
    assert all(len(visible) == len(infrared) == 36 for visible, infrared in watched.received)
    assert len(watched.received) == 60 and train.images_per_epoch(watched.run) == 72
    for (visible, infrared), batch in zip(read, watched.batches[::4], strict=True):
        images = [found.index for found in visible + infrared]
        assert [index // (2 * IMAGES) for index in images] == batch.labels.tolist()
        assert (
            batch.visible.tolist() == [index % (2 * IMAGES) < IMAGES for index in images] == 36 * [True] + 36 * [False]
        )
        assert len(set(images)) == 72
    assert len({tuple(batch.labels.tolist()) for batch in watched.batches}) > 40  # their order varies
    assert len({tuple(found.index for found in visible) for visible, _ in read}) == len(read)


def test_images_are_padded_by_10_pixels_and_cropped_anywhere(read):
    batches = [visible + infrared for visible, infrared in read]
    for offsets in ([[found.top for found in batch] for batch in batches], [[f.left for f in b] for b in batches]):
        assert {offset for batch in offsets for offset in batch} == set(range(-10, 11))
        assert abs(np.mean(offsets)) < 0.7 and np.std(offsets) == pytest.approx(np.std(range(-10, 11)), rel=0.06)
        assert all(len(set(batch)) > 10 for batch in offsets)  # each image has its own
        assert len(set(map(tuple, offsets))) == len(batches)  # and each step


@pytest.mark.parametrize("what", ["flipped", "erased"])
def test_half_of_the_images_of_either_modality_are_mirrored_and_half_have_a_rectangle_erased(read, what):
    for half in (0, 1):
        chosen = [tuple(bool(getattr(found, what)) for found in pair[half]) for pair in read]
        assert np.mean(chosen) == pytest.approx(0.5, abs=0.07)
        assert all(0.15 < np.mean(batch) < 0.85 for batch in chosen) and len(set(chosen)) == len(chosen)


def test_erased_rectangles_cover_2_to_40_percent_anywhere(read):
    batches = [found for visible, infrared in read for found in visible + infrared]
    rectangles = np.array([found.erased for found in batches if found.erased is not None])
    _, _, height, width = rectangles.T
    share, aspect = height * width / (HEIGHT * WIDTH), height / width
    tall, uncut = height >= width, width < WIDTH  # wide ones may be cut to the image's width
    assert 0.015 < share.min() < 0.03 and 0.36 < share[tall].max() < 0.42  # sides are whole pixels
    assert np.mean(share[tall]) == pytest.approx(0.21, abs=0.025)
    assert 0.25 < aspect[uncut].min() < 0.35 and 2.8 < aspect.max() < 4
    for start, side, whole in ((rectangles[:, 0], height, HEIGHT), (rectangles[:, 1], width, WIDTH)):
        loose = side <= 0.6 * whole
        thirds = np.histogram(start[loose] / (whole - side[loose]), bins=3, range=(0, 1))[0] / loose.sum()
        np.testing.assert_allclose(thirds, 1 / 3, atol=0.1)


def test_each_step_of_an_epoch_has_its_own_draws(tmp_path, monkeypatch):
    found = watch(tmp_path, monkeypatch, identities=12, images=3, num_epochs=1)
    steps = [[read_chart(image)[1:4] for image in torch.cat(pair)] for pair in found.received]
    assert len(steps) == 2 and steps[0] != steps[1]


def test_random_triplets_are_drawn_alike_in_all_processes(watched):
    """As the triplets are those of the global batch; each process augments images of its own."""
    run, drawn = watched.run, [batch.generator.initial_seed() for batch in watched.batches]
    assert drawn == [run.batch_generator(epoch, 0, shared=True).initial_seed() for epoch in range(1, 61)]
    assert len(set(drawn)) == 60 and drawn[0] != run.batch_generator(1, 0).initial_seed()


def test_exposures_vary_from_image_to_image_where_that_is_asked_for(tmp_path, monkeypatch):
    plain = {"padding": 0, "flip_probability": 0.0, "erasing_probability": 0.0, "num_epochs": 1}
    found = watch(tmp_path, monkeypatch, gamma_spread=0.3, gain_spread=0.1, **plain)
    as_it_is = np.log((60 + 2 * np.arange(HEIGHT)) / 255)  # the chart's red
    gammas, gains = [], []
    for image in torch.cat(found.received[0]):
        exposed = np.log(image[0, :, 0].double().numpy() * STD[0] + MEAN[0])
        below_white = exposed < -0.01
        gamma, gain = np.polyfit(as_it_is[below_white], exposed[below_white], 1)
        expected = np.exp(gain + gamma * as_it_is[below_white])
        np.testing.assert_allclose(np.exp(exposed[below_white]), expected, atol=1 / 255)
        gammas.append(np.log(gamma))
        gains.append(gain)
    assert np.std(gammas) == pytest.approx(0.3, rel=0.3) and np.std(gains) == pytest.approx(0.1, rel=0.35)
    assert abs(np.mean(gammas)) < 0.12 and abs(np.mean(gains)) < 0.04
    assert {round(gamma, 2) for gamma in gammas[:36]} != {round(gamma, 2) for gamma in gammas[36:]}


def test_the_rows_without_re_erase_nothing(tmp_path, monkeypatch):
    found = watch(tmp_path, monkeypatch, variant="dfw_sln", num_epochs=1)
    assert all(read_chart(image).erased is None for pair in found.received for half in pair for image in half)


def test_regdbs_batches_are_8_identities_with_4_images_of_each_modality(tmp_path, monkeypatch):
    found = watch(tmp_path, monkeypatch, identities=9, images=4, dataset="regdb", num_epochs=1)
    (batch,) = found.batches
    assert batch.visible.tolist() == 32 * [True] + 32 * [False]
    counts = np.unique(batch.labels.numpy(), return_counts=True)[1]
    assert counts.tolist() == 8 * [8]
