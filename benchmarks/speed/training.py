"""Speed of training, inference, the data path and the generator of synthetic pedestrians, against lower bounds.

Measured with NDMF-Net's baseline, the plainest of the training loops.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from common import augment
from common.datasets.synthetic.render import Shot, render
from common.images import ImageStore
from common.losses import batch_hard_triplet
from common.paper import Paper, load_paper
from common.runs import Run, open_run
from common.samplers import IdentitySampler

Line = tuple[str, float, str, float | None]  # what, images/s, compared with what, ratio to it

DEMO = ["--demo", "--variant", "baseline"]
FULL_SIZE = [*DEMO, "--set", "backbone=resnet50", "height=256", "width=128", "padding=10", "identities_per_batch=16"]


def rate(step: Callable[[], int], *, seconds: float, warm_up: int = 2) -> float:
    """Images per second of a step that returns its number of images."""
    for _ in range(warm_up):
        step()
    images, started = 0, time.monotonic()
    while time.monotonic() - started < seconds:
        images += step()
    return images / (time.monotonic() - started)


def measured_paper() -> Paper:
    return load_paper("ndmf_net")


def run_in(folder: Path, words: list[str], device: str) -> Run:
    words = [*words, "--device", device] if "--set" not in words else ["--device", device, *words]
    run = open_run("ndmf_net", measured_paper().settings.Settings, words)
    run.directory = folder / run.directory.name
    return run


def bare_training(run: Run, *, seconds: float) -> float:
    """Forward, losses, backward and step on one batch on the device: an upper bound for any data path."""
    settings, device = run.settings, run.device
    labels = torch.arange(settings.identities_per_batch, device=device).repeat_interleave(settings.images_per_identity)
    images = torch.randn(len(labels), 3, settings.height, settings.width, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    model = measured_paper().evaluate.network_of(run).ready().model.train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-6)

    def step() -> int:
        with run.autocast():
            features, logits = model(images)
        identity_loss = torch.nn.functional.cross_entropy(logits.float(), labels, label_smoothing=0.1)
        loss = identity_loss + batch_hard_triplet(features, labels, margin=0.3)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        loss.item()
        return len(labels)

    return rate(step, seconds=seconds)


def training(words: list[str], device: str, *, num_epochs: int, seconds: float) -> Line:
    """The training loop of train.py with data path, log and checkpoints; the first epoch is a warm-up."""
    words = [*words, f"num_epochs={num_epochs}"] if "--set" in words else [*words, "--set", f"num_epochs={num_epochs}"]
    with tempfile.TemporaryDirectory() as folder:
        run = run_in(Path(folder), words, device)
        run.begin()
        measured_paper().train.train(run)
        log = run.history.log
        measured = log[1:] or log
        images = run.history.trained_images / len(log) * len(measured)
        found = images / sum(entry["seconds"] for entry in measured)
        bare = bare_training(run, seconds=seconds)
    size = f"{run.settings.backbone}, {run.settings.height}x{run.settings.width}, {run.precision}"
    return f"train.py, {size}", found, f"bare loop on one batch, {bare:.1f}/s", found / bare


def inference(words: list[str], device: str, *, seconds: float) -> Line:
    """Test features from decoded images, against the network alone on a prepared batch."""
    with tempfile.TemporaryDirectory() as folder:
        run = run_in(Path(folder), words, device)
    settings = run.settings
    loaded = measured_paper().evaluate.network_of(run).ready()
    store = ImageStore(run.dataset.gallery, settings.height, settings.width)
    indices = np.arange(128)
    ready = augment.normalise(store.gather(indices).to(run.device)).contiguous(memory_format=torch.channels_last)

    def alone() -> int:
        with run.autocast():
            loaded.model.embed(ready).float().cpu()
        return len(indices)

    def whole() -> int:
        loaded.embed(store.gather(indices)).float().cpu()
        return len(indices)

    with torch.inference_mode():
        bare, found = rate(alone, seconds=seconds), rate(whole, seconds=seconds)
    size = f"{settings.backbone}, {settings.height}x{settings.width}, {run.precision}"
    return f"inference, {size}", found, f"the network alone, {bare:.1f}/s", found / bare


def data_path(device: str, *, seconds: float) -> Line:
    """Gather, pad and crop, flip, normalise and erase batches of 64 at 256x128, on one core."""
    with tempfile.TemporaryDirectory() as folder:
        run = run_in(Path(folder), FULL_SIZE, device)
    settings, subset = run.settings, run.dataset.train
    store = ImageStore(subset, settings.height, settings.width)
    sampler = IdentitySampler(subset.labels, settings.identities_per_batch, settings.images_per_identity, seed=0)

    def batches() -> Iterator[tuple[int, np.ndarray]]:
        epoch = 0
        while True:
            epoch += 1
            yield from ((epoch, indices) for indices in sampler.batches(epoch))

    stream = batches()

    def step() -> int:
        epoch, indices = next(stream)
        measured_paper().train.augmented(store.gather(indices), settings, augment.batch_generator(0, epoch, 0))
        return len(indices)

    def copy() -> int:
        _, indices = next(stream)
        torch.empty(len(indices), 3, settings.height, settings.width).copy_(store.gather(indices))
        return len(indices)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found, bare = rate(step, seconds=seconds), rate(copy, seconds=seconds)
    finally:
        torch.set_num_threads(threads)
    return "data path, 256x128, one core", found, f"gather and convert to float, {bare:.0f}/s", found / bare


def generator(*, seconds: float) -> Line:
    """Rendering synthetic pedestrians at 128x64 on one core, without JPEG encoding."""
    indices = iter(range(10**9))

    def step() -> int:
        index = next(indices)
        render(Shot(0, "train", 1 + index // 20, index % 6, 6, index % 20, "detected"))
        return 1

    return "generator, 128x64, one core", rate(step, seconds=seconds), "", None


PARTS: dict[str, Callable[[str, float], Line]] = {
    "generator": lambda device, seconds: generator(seconds=seconds),
    "data": lambda device, seconds: data_path(device, seconds=seconds),
    "inference-demo": lambda device, seconds: inference(DEMO, device, seconds=seconds),
    "inference-full": lambda device, seconds: inference(FULL_SIZE, device, seconds=seconds),
    "training-demo": lambda device, seconds: training(DEMO, device, num_epochs=3, seconds=seconds),
    "training-full": lambda device, seconds: training(FULL_SIZE, device, num_epochs=2, seconds=seconds),
}
