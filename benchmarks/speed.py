"""Speed of what users wait for, as ratios to the least that the same work could take, measured in one run.

`make speed` (`python -m benchmarks speed [--part NAME ...]` with the Makefile's malloc settings) prints a table of
training, inference and data, and one each of scoring and re-ranking beside the usual code (speed_scoring.py). Absolute
figures hold for the machine that printed them; the ratios are what to compare. Nothing here is a test: a busy machine
gives other figures.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate

from benchmarks import speed_scoring
from common import augment, hardware
from common.command_line import command_line
from common.datasets import open_dataset
from common.datasets.synthetic.render import Shot, render
from common.images import ImageStore
from common.losses import batch_hard_triplet
from common.runs import Run
from common.samplers import IdentitySampler
from ndmf_net import train as paper
from ndmf_net.losses import smoothed_cross_entropy

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


def open_run(words: list[str], folder: Path, device: str) -> Run:
    words = [*words, "--device", device] if "--set" not in words else ["--device", device, *words]
    run = Run.from_arguments("ndmf_net", paper.Config, command_line("ndmf_net").parse_args(words))
    run.directory = folder / run.directory.name
    return run


def bare_training(run: Run, *, seconds: float) -> float:
    """Forward, losses, backward and step on one batch that is ready on the device: what no data path can beat."""
    config, device = run.config, run.device
    labels = torch.arange(config.identities_per_batch, device=device).repeat_interleave(config.images_per_identity)
    images = torch.randn(len(labels), 3, config.height, config.width, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    model = paper.build_model(config, run.dataset.train.num_identities)
    model = model.to(device, memory_format=torch.channels_last).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-6)

    def step() -> int:
        with run.autocast():
            features, logits = model(images)
        loss = smoothed_cross_entropy(logits, labels, smoothing=0.1) + batch_hard_triplet(features, labels, margin=0.3)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        loss.item()
        return len(labels)

    return rate(step, seconds=seconds)


def training(words: list[str], device: str, *, num_epochs: int, seconds: float) -> Line:
    """The training loop of train.py, data path, log and checkpoint included; its first epoch warms up."""
    words = [*words, f"num_epochs={num_epochs}"] if "--set" in words else [*words, "--set", f"num_epochs={num_epochs}"]
    with tempfile.TemporaryDirectory() as folder:
        run = open_run(words, Path(folder), device)
        run.begin(resume=False, force=False)
        paper.train(run)
        measured = run.log[1:] or run.log
        images = run.trained_images / len(run.log) * len(measured)
        found = images / sum(entry["seconds"] for entry in measured)
        bare = bare_training(run, seconds=seconds)
    size = f"{run.config.backbone}, {run.config.height}x{run.config.width}, {run.precision}"
    return f"train.py, {size}", found, f"bare loop on one batch, {bare:.1f}/s", found / bare


def inference(words: list[str], device: str, *, seconds: float) -> Line:
    """Test features from decoded images, against the network alone on a ready batch."""
    with tempfile.TemporaryDirectory() as folder:
        run = open_run(words, Path(folder), device)
    config = run.config
    model = paper.build_model(config, run.dataset.train.num_identities)
    model = model.to(run.device, memory_format=torch.channels_last).eval()
    store = ImageStore(run.dataset.gallery, config.height, config.width)
    indices, embed = np.arange(128), paper.embedder(model, run)
    ready = augment.normalise(store.gather(indices).to(run.device)).contiguous(memory_format=torch.channels_last)

    def alone() -> int:
        with run.autocast():
            model.embed(ready).float().cpu()
        return len(indices)

    def whole() -> int:
        embed(store.gather(indices)).float().cpu()
        return len(indices)

    with torch.inference_mode():
        bare, found = rate(alone, seconds=seconds), rate(whole, seconds=seconds)
    size = f"{config.backbone}, {config.height}x{config.width}, {run.precision}"
    return f"inference, {size}", found, f"the network alone, {bare:.1f}/s", found / bare


def data_path(device: str, *, seconds: float) -> Line:
    """Gather, pad and crop, flip, normalise and erase batches of 64 at 256x128, on one core."""
    with tempfile.TemporaryDirectory() as folder:
        run = open_run(FULL_SIZE, Path(folder), device)
    config, subset = run.config, run.dataset.train
    store = ImageStore(subset, config.height, config.width)
    sampler = IdentitySampler(subset.labels, config.identities_per_batch, config.images_per_identity, seed=0)

    def batches() -> Iterator[tuple[int, np.ndarray]]:
        epoch = 0
        while True:
            epoch += 1
            yield from ((epoch, indices) for indices in sampler.batches(epoch))

    stream = batches()

    def step() -> int:
        epoch, indices = next(stream)
        paper.augmented(store.gather(indices), config, augment.batch_generator(0, epoch, 0))
        return len(indices)

    def copy() -> int:
        _, indices = next(stream)
        torch.empty(len(indices), 3, config.height, config.width).copy_(store.gather(indices))
        return len(indices)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found, bare = rate(step, seconds=seconds), rate(copy, seconds=seconds)
    finally:
        torch.set_num_threads(threads)
    return "data path, 256x128, one core", found, f"gather and convert to float, {bare:.0f}/s", found / bare


def generator(*, seconds: float) -> Line:
    """Drawing 128x64 pedestrians on one core, JPEG encoding left out; the floor is 300 images/s."""
    drawn = iter(range(10**9))

    def step() -> int:
        index = next(drawn)
        render(Shot(0, "train", 1 + index // 20, index % 6, 6, index % 20, "detected"))
        return 1

    return "generator, 128x64, one core", rate(step, seconds=seconds), "", None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    names = [*PARTS, *COMPARISONS]
    parser.add_argument("--part", nargs="+", choices=names, default=names, help="only these")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each bare measurement")


PARTS: dict[str, Callable[[str, float], Line]] = {
    "generator": lambda device, seconds: generator(seconds=seconds),
    "data": lambda device, seconds: data_path(device, seconds=seconds),
    "inference-demo": lambda device, seconds: inference(DEMO, device, seconds=seconds),
    "inference-full": lambda device, seconds: inference(FULL_SIZE, device, seconds=seconds),
    "training-demo": lambda device, seconds: training(DEMO, device, num_epochs=3, seconds=seconds),
    "training-full": lambda device, seconds: training(FULL_SIZE, device, num_epochs=2, seconds=seconds),
}


COMPARISONS = {"scoring": (speed_scoring.SCORING, "Scoring"), "reranking": (speed_scoring.RERANKING, "Re-ranking")}


def main(arguments: argparse.Namespace) -> int:
    open_dataset("market1501")  # drawn before anything is timed
    lines = []
    for name in [name for name in arguments.part if name in PARTS]:
        lines.append(PARTS[name](arguments.device, arguments.seconds))
        print(f"{name}: {lines[-1][1]:.1f} images/s", flush=True)
    device = hardware.select_device(arguments.device)
    cells = [[what, f"{found:.1f}", other, f"{ratio:.0%}" if ratio else ""] for what, found, other, ratio in lines]
    if cells:
        print(f"\n{device.type}, {torch.get_num_threads()} threads")
        print(tabulate(cells, ["what", "images/s", "against", "ratio"], disable_numparse=True))
    for name in [name for name in arguments.part if name in COMPARISONS]:
        print(speed_scoring.compare(*COMPARISONS[name]))
    return 0
