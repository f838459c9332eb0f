"""What a training run does: images and joints as the network and the losses receive them, rates and batches."""

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from common.datasets.base import Sample, Subset
from common.datasets.poses import COCO_JOINTS
from common.runs import Run

from . import model as model_module
from . import train
from .model import Output
from .model_test import settings_of
from .network_test import SMALL, TABLE_1, narrow_resnet

HEIGHT, WIDTH = 64, 32
CELLS = {1: (16, 8), 2: (8, 4), 3: (4, 2)}  # H and W of its maps
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # ImageNet's, in [0, 1]
IDENTITIES, IMAGES = 18, 4  # 18 x 4 images give one batch of 16 x 4 in an epoch
ARMS = ("shoulder", "elbow", "wrist", "hip")
HEAD = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
LEGS = [f"{side}_{part}" for side in ("left", "right") for part in ("hip", "knee", "ankle")]
JOINTS = [  # of the seven regions
    HEAD,
    [f"left_{part}" for part in ARMS],
    [f"right_{part}" for part in ARMS],
    LEGS,
    [*HEAD, *(f"{side}_{part}" for side in ("left", "right") for part in ARMS)],
    LEGS,
    COCO_JOINTS,
]
SIDES = {1: (64, 32), 2: (32, 16), 3: (16, 8)}  # height and width of the maps that Table 1's N and M refer to


def table_1s_boxes():
    """[7 lists of 4]"""
    found = []
    for stage, rows in TABLE_1.items():
        height, width = SIDES[stage]
        for C_x, C_y, N, M in rows:
            x, y = M / width / 2, N / height / 2
            found.append([C_x - x, C_y - y, C_x + x, C_y + y])
    return found


def chart(index):
    """(H, W, 3) uint8: red is the row, green the column, blue the image."""
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([60 + 2 * row, 60 + 4 * column, np.full_like(row, 3 + 3 * index)], axis=2).astype(np.uint8)


def chart_run(folder, identities=IDENTITIES, variant="full", seed=0, **overrides):
    """A run in `folder` at the paper's settings, on small charts; image i is of identity i // IMAGES."""
    samples = []
    for i in range(identities * IMAGES):
        Image.fromarray(chart(i)).save(folder / f"{i}.png")
        samples.append(Sample(folder / f"{i}.png", person=100 + i // IMAGES, camera=i % IMAGES))
    sizes = {"pretrained": "none", "precision": "fp32", "checkpoint_epochs": 80}
    settings = settings_of(variant, demo=False, **SMALL | sizes | overrides)
    subset = Subset("train", tuple(samples))
    dataset = SimpleNamespace(train=subset, fingerprint="0" * 16, hold_out=lambda count: (subset, None))
    return Run(train.__package__, dataset, variant, settings, seed, torch.device("cpu"), folder)


def joints_of(count):
    """(N, 17, 3): anywhere, a third of them absent; the second image has no pose."""
    generator = torch.Generator().manual_seed(1)
    joints = torch.rand(count, 17, 3, generator=generator)
    joints[..., 2] = 2.0 * (torch.rand(count, 17, generator=generator) > 1 / 3)
    joints[1] = 0
    return joints


def plain_targets(joints, flipped):
    """Eq. 3's boxes of one image's joints (17, 3), [7 lists of 4, or None], mirrored by hand where it is flipped."""
    found = []
    for names in JOINTS:
        if flipped:
            swap = {"left": "right", "right": "left"}
            names = ["_".join(swap.get(word, word) for word in name.split("_")) for name in names]
        own = [joints[COCO_JOINTS.index(name)].tolist() for name in names]
        points = [(1 - x if flipped else x, y) for x, y, v in own if v > 0]
        xs, ys = zip(*points, strict=True) if points else ((), ())
        found.append([min(xs) - 0.05, min(ys) - 0.05, max(xs) + 0.05, max(ys) + 0.05] if points else None)
    return found


def mean_boxes_of(joints):
    """[7 lists of 4], each over the images in which the region has joints."""
    boxes_of = [plain_targets(own, False) for own in joints]
    return [np.mean([boxes[r] for boxes in boxes_of if boxes[r]], axis=0).tolist() for r in range(7)]


class Augmented(NamedTuple):
    """How an image was changed."""

    index: int
    flipped: bool
    erased: tuple[int, int, int, int] | None  # top, left, height, width


def read_chart(image):
    """(3, H, W) as the network received it -> Augmented, of which every pixel is checked."""
    pixels = (image.double().numpy().transpose(1, 2, 0) * STD + MEAN) * 255
    erased_pixels = np.abs(pixels - 255 * MEAN).max(2) < 0.01
    rows, columns = np.nonzero(~erased_pixels)
    _, green, blue = pixels[rows, columns].T
    from_column = (green - 60) / 4
    found = Augmented(
        index=int(np.rint(np.median((blue - 3) / 3))),
        flipped=bool(columns @ (from_column - from_column.mean()) < 0),
        erased=None,
    )
    expected = chart(found.index).astype(float)
    expected = expected[:, ::-1].copy() if found.flipped else expected
    if erased_pixels.any():
        rows, columns = np.nonzero(erased_pixels)
        top, left, height, width = int(rows.min()), int(columns.min()), int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1
        found = found._replace(erased=(top, left, height, width))
        expected[top : top + height, left : left + width] = 255 * MEAN
    assert np.abs(pixels - expected).max() < 0.01, found
    return found


class MeanColour(nn.Module):
    """Stands in for the network and keeps what it receives."""

    received: list  # (training, images), one entry a batch
    start: torch.Tensor  # its weights before training

    def __init__(self, num_identities, settings):
        super().__init__()
        self.linear, self.box_stages = nn.Linear(3, num_identities), []
        MeanColour.start = self.linear.weight.detach().clone()

    def start_at(self, boxes):
        pass

    def forward(self, images, boxes=None):
        MeanColour.received.append((self.training, images.clone()))
        feature = images.mean((2, 3))
        return Output({4: feature}, {4: self.linear(feature)}, {})


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """Of 60 epochs of one step: the rates, what the network received, and what the losses know of the batch."""
    folder = tmp_path_factory.mktemp("charts")
    schedule = {"num_epochs": 60, "warmup_epochs": 5, "decay_epochs": [30, 37, 45, 52]}
    run, rates, batches, joints = chart_run(folder, **schedule), [], [], joints_of(IDENTITIES * IMAGES)
    MeanColour.received = received = []
    losses = train.losses

    def kept(output, batch, settings):
        batches.append(batch)
        return losses(output, batch, settings)

    hook = register_optimizer_step_pre_hook(
        lambda optimiser, *_: rates.append([group["lr"] for group in optimiser.param_groups])
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "MGRe", MeanColour)
        patch.setattr(train, "losses", kept)
        patch.setenv("REID_DATA", str(folder))
        train.train(run, run.dataset.train, joints)
    hook.remove()
    charts = [[read_chart(image) for image in images] for _, images in received[::2]]
    return SimpleNamespace(run=run, rates=rates, received=received, batches=batches[::2], charts=charts, joints=joints)


def test_rates_warm_up_from_a_hundredth_and_fall_to_three_tenths_four_times(watched):
    expected = [3.5e-4 * (0.01 + 0.99 * epoch / 5) for epoch in range(5)]
    expected += 25 * [3.5e-4] + 7 * [1.05e-4] + 8 * [3.15e-5] + 7 * [9.45e-6] + 8 * [2.835e-6]
    np.testing.assert_allclose(watched.rates, np.array(expected)[:, None], rtol=1e-6)
    np.testing.assert_allclose([entry["learning_rate"] for entry in watched.run.history.log], expected, rtol=1e-6)


def test_batches_are_16_identities_with_4_images_each_under_their_own_labels(watched):
    assert all(training and len(images) == 64 for training, images in watched.received)
    assert len(watched.received) == 60 and train.images_per_epoch(watched.run) == 64
    for charts, batch in zip(watched.charts, watched.batches, strict=True):
        images = [found.index for found in charts]
        assert [index // IMAGES for index in images] == batch.labels.tolist()
        assert len(set(images)) == 64 and len(set(batch.labels.tolist())) == 16
    assert len({tuple(sorted(set(batch.labels.tolist()))) for batch in watched.batches}) > 20  # they vary


def test_targets_are_the_boxes_around_the_images_own_joints_mirrored_with_it(watched):
    for charts, batch in list(zip(watched.charts, watched.batches, strict=True))[:6]:
        for place, found in enumerate(charts):
            expected = plain_targets(watched.joints[found.index], found.flipped)
            assert batch.known[place].tolist() == [box is not None for box in expected]
            for box, target in zip(batch.targets[place].tolist(), expected, strict=True):
                assert target is None or box == pytest.approx(target, abs=1e-5)


def test_half_of_the_images_are_mirrored_each_for_itself(watched):
    flips = [tuple(found.flipped for found in batch) for batch in watched.charts]
    assert np.mean(flips) == pytest.approx(0.5, abs=0.03)
    assert all(0.2 < np.mean(batch) < 0.8 for batch in flips) and len(set(flips)) == len(flips)


def test_half_of_the_images_have_2_to_40_percent_erased(watched):
    erased = [[found.erased for found in batch] for batch in watched.charts]
    chosen = [tuple(rectangle is not None for rectangle in batch) for batch in erased]
    assert np.mean(chosen) == pytest.approx(0.5, abs=0.04)
    assert all(0.2 < np.mean(batch) < 0.8 for batch in chosen) and len(set(chosen)) == len(chosen)
    rectangles = np.array([rectangle for batch in erased for rectangle in batch if rectangle is not None])
    _, _, height, width = rectangles.T
    share, tall = height * width / (HEIGHT * WIDTH), height >= width
    assert 0.015 < share.min() < 0.03 and 0.37 < share[tall].max() < 0.42  # sides are whole pixels
    assert np.mean(share[tall]) == pytest.approx(0.21, abs=0.02)


def drawn(folder, seed):
    """(order of the images, which are flipped, which rectangles are erased) in two epochs of two steps, and the
    weights at the start."""
    folder.mkdir()
    run = chart_run(folder, 8, "baseline", seed, num_epochs=2, warmup_epochs=1, decay_epochs=[], identities_per_batch=4)
    MeanColour.received = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "MGRe", MeanColour)
        patch.setenv("REID_DATA", str(folder))
        torch.manual_seed(len(folder.name))  # whatever was drawn before
        train.train(run, run.dataset.train, None)
    charts = [[read_chart(image) for image in images] for _, images in MeanColour.received]
    return [list(zip(*batch, strict=True)) for batch in charts], MeanColour.start


def test_steps_and_seeds_differ_and_the_same_seed_repeats_them(tmp_path):
    (steps, start), (again, same_start), (others, other_start) = (
        drawn(tmp_path / name, seed) for name, seed in (("once", 0), ("again", 0), ("other", 1))
    )
    assert len(steps) == 4 and steps == again and torch.equal(start, same_start)
    assert not torch.equal(start, other_start)
    for part in range(3):  # order, flips, rectangles
        assert len({step[part] for step in (*steps, *others)}) == 8


def test_without_joints_there_are_no_targets(tmp_path, monkeypatch):
    run = chart_run(tmp_path, 4, variant="baseline", num_epochs=1, identities_per_batch=4)
    monkeypatch.setattr(model_module, "build_resnet", narrow_resnet)
    monkeypatch.setenv("REID_DATA", str(tmp_path))
    train.train(run, run.dataset.train, None)
    assert "location_loss" not in run.history.log[0] and "iou" not in run.history.log[0]
