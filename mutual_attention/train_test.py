"""The mean image worked out plainly, and what a run refuses."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from common.datasets.base import Sample, Subset
from common.errors import UserError
from common.images import ImageStore

from .evaluate import network_of
from .mean_image import mean_image, mean_image_of, prepared
from .model_test import settings_of
from .verify_images import main as verify_images


def test_a_decay_takes_time():
    with pytest.raises(UserError, match="decay_end is 10, and must come after decay_start, 40"):
        settings_of(demo=False, decay_end=10)


def write_images(folder, pixels, persons):
    """The subset of images (n, H, W, 3) uint8; a person's images are by different cameras."""
    samples = []
    for position, (image, person) in enumerate(zip(pixels, persons, strict=True)):
        Image.fromarray(image).save(folder / f"{position}.png")
        samples.append(Sample(folder / f"{position}.png", person=person, camera=position))
    return Subset("train", tuple(samples))


def run_on(subset, directory):
    settings = settings_of(height=32, width=32, cache=False)
    dataset = SimpleNamespace(train=subset, query=subset)
    cpu = torch.device("cpu")
    return SimpleNamespace(
        dataset=dataset, settings=settings, directory=directory, device=cpu, to_device=lambda images: images.to(cpu)
    )


def test_the_mean_image_is_a_plain_average_over_the_training_set(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 4, 3), dtype=np.uint8)
    mean = mean_image(ImageStore(write_images(tmp_path, pixels, range(5)), 8, 4, cache=False))
    pixels = pixels.transpose(0, 3, 1, 2)
    expected = sum(image.astype(float) for image in pixels) / 5
    np.testing.assert_allclose(mean.numpy(), expected, rtol=1e-6)
    inputs = prepared(torch.from_numpy(pixels), mean)
    np.testing.assert_allclose(inputs.mean(0).numpy(), np.zeros((3, 8, 4)), atol=1e-6)
    np.testing.assert_allclose(inputs[1, 2], (pixels[1, 2] - expected[2]) / 255 / 0.225, atol=1e-5)


def test_the_mean_image_is_computed_once_and_a_damaged_one_is_refused(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    run = run_on(write_images(tmp_path, pixels, range(5)), tmp_path)
    mean = mean_image_of(run)
    run.dataset.train = None
    assert torch.equal(mean_image_of(run), mean)
    (tmp_path / "mean_image.npy").write_bytes(b"half")
    with pytest.raises(UserError, match=r"mean_image\.npy cannot be read .*remove it"):
        mean_image_of(run)


def test_a_network_can_be_timed_before_its_run_has_a_directory(tmp_path):
    run = run_on(SimpleNamespace(num_identities=7), tmp_path / "not begun")
    run.autocast = lambda: torch.autocast("cpu", enabled=False)
    features = network_of(run).ready().embed(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))
    assert features.shape == (2, 512) and not run.directory.exists()


def test_verify_images_says_what_is_not_a_run(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        verify_images([str(tmp_path), "a.jpg", "b.jpg"])
    assert stopped.value.code == 2
    assert "is not a run directory" in capsys.readouterr().err
