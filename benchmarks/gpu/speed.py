"""Images per second and memory of each paper at its own size, beside a plain PyTorch loop of the same backbone.

Training is the paper's own train.py with its data path, timed from step to step within epochs, on the demo's synthetic
images at the paper's size. The plain loop trains backbone, pooling and classifier with cross entropy on one batch of
the same size that stays on the device: no augmentation, no data path. Both use the same precision, channels_last and a
fused optimiser.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.observe import Enough, runs_in
from benchmarks.speed.training import rate
from common.backbones import NAMES, ResNet, build_resnet
from common.errors import UserError
from common.images import ImageStore
from common.runs import Meter, Run

from .subject import SCRATCH, Subject, free_memory, peak_bytes, reset_peak, synchronise

EMBEDDED = 128  # images of a batch, as in scoring
COMPILED_GRAPHS = 64  # that torch may keep of one function; each stage needs some
PLAIN_WARM_UP = 5


class StepTimer:
    """Times steps from the end of one to the end of the next in the same epoch, after the warm-up."""

    def __init__(self, subject: Subject):
        self.device, self.scale = subject.device, subject.scale
        self.steps = self.batch = self.images = 0
        self.seconds = self.before = 0.0

    def __call__(self, meter: Meter, terms: dict[str, float], num_images: int) -> None:
        synchronise(self.device)
        now = time.monotonic()
        self.steps += 1
        self.batch = max(self.batch, num_images)
        if self.steps > self.scale.warm_up and meter.num_steps > 1:
            self.seconds += now - self.before
            self.images += num_images
        if self.steps == self.scale.warm_up:
            reset_peak(self.device)  # after cuDNN has tried its algorithms
        if self.seconds >= self.scale.seconds:
            raise Enough
        self.before = time.monotonic()


def own_words(subject: Subject, precision: str) -> list[str]:
    """The paper's own settings on the demo's images, from scratch."""
    return subject.words(demo=False, precision=precision, **SCRATCH | subject.spec.on_gpu.set)


def training_rate(subject: Subject, precision: str) -> tuple[dict[str, Any], Run, int]:
    """Of train.py: images/s and peak memory; the run; and the images of a batch, both of each pair counted."""
    words, timer = own_words(subject, precision), StepTimer(subject)
    each = subject.spec.on_gpu.images_per_sample
    with tempfile.TemporaryDirectory() as folder, runs_in(Path(folder)):
        subject.train(words, timer)
        run = subject.run(words)
    if not timer.seconds:
        raise UserError(f"the training ended after {timer.steps} steps, too few to measure")
    batch = each * timer.batch
    found = {"images_per_second": each * timer.images / timer.seconds, "memory": peak_bytes(subject.device)}
    return {"precision": run.precision, "batch": batch, "size": size_of(run)} | found, run, batch


def size_of(run: Run) -> str:
    """resnet50, 256x128"""
    backbone = getattr(run.settings, "backbone", "its own network")
    return f"{backbone}, {run.settings.height}x{run.settings.width}"


def training(subject: Subject, precision: str) -> dict[str, Any]:
    found, run, batch = training_rate(subject, precision)
    free_memory()
    return found | plain_training(run, batch, subject)


def training_compiled(subject: Subject) -> dict[str, Any]:
    """`auto` precision with the backbone compiled. Compiling is in the warm-up, its time beside."""
    started = time.monotonic()
    with compiled_backbones() as compiled:
        found, _, _ = training_rate(subject, "auto")
    if not compiled:
        raise UserError("the network has no ResNet of common/backbones.py to compile")
    return found | {"seconds_in_all": round(time.monotonic() - started, 1)}


@contextmanager
def compiled_backbones() -> Iterator[list[ResNet]]:
    """Every ResNet that is built meanwhile is compiled stage by stage, as papers call its stages. Yields them."""
    build, found = ResNet.__init__, []

    def build_and_compile(self, *arguments, **options):
        build(self, *arguments, **options)
        for stage in self.children():
            stage.compile()
        found.append(self)

    ResNet.__init__ = build_and_compile
    try:
        with torch._dynamo.config.patch(recompile_limit=COMPILED_GRAPHS):
            yield found
    finally:
        ResNet.__init__ = build
        torch._dynamo.reset()


def inference(subject: Subject) -> dict[str, Any]:
    """Test features from decoded images, in `auto` precision, against the plain network on a batch on the device."""
    with tempfile.TemporaryDirectory() as folder, runs_in(Path(folder)):
        run = subject.run(own_words(subject, "auto"))
        found = own_inference(run, subject)
    free_memory()
    return found | plain_inference(run, found["batch"], subject)


@torch.inference_mode()
def own_inference(run: Run, subject: Subject) -> dict[str, Any]:
    """Of one batch of the first image's modality."""
    loaded = subject.paper.evaluate.network_of(run).ready()
    subset, settings = run.dataset.train, run.settings
    modality = subset.samples[0].modality
    embed = loaded.embed[modality] if isinstance(loaded.embed, Mapping) else loaded.embed
    store = ImageStore(subset, settings.height, settings.width, cache=settings.cache)
    alike = [position for position, sample in enumerate(subset.samples) if sample.modality == modality]
    indices = np.array(alike[:EMBEDDED])

    def step() -> int:
        embed(store.gather(indices)).float().cpu()  # waits for the device
        return len(indices)

    images_per_second, memory = measured(step, subject)
    found = {"precision": run.precision, "batch": len(indices), "size": size_of(run)}
    return found | {"images_per_second": images_per_second, "memory": memory}


@torch.inference_mode()
def plain_inference(run: Run, batch: int, subject: Subject) -> dict[str, Any]:
    """Of the plain network; nothing where there is none."""
    model = plain_network(run)
    if model is None:
        return {}
    features, images = model.eval()[:-1], noise_images(run, batch)

    def step() -> int:
        with run.autocast():
            features(images).float().cpu()
        return batch

    return as_plain(measured(step, subject))


def plain_network(run: Run) -> nn.Sequential | None:
    """Backbone, average pooling and classifier; None where the settings name no ResNet."""
    settings = run.settings
    name = getattr(settings, "backbone", "")
    if name not in NAMES:
        return None
    options = {"last_stride": getattr(settings, "last_stride", 2), "ibn": getattr(settings, "ibn", False)}
    backbone = build_resnet(name, pretrained="none", **options)
    classifier = nn.Linear(backbone.channels[-1], run.dataset.train.num_identities)
    network = nn.Sequential(backbone, nn.AdaptiveAvgPool2d(1), nn.Flatten(), classifier)
    return network.to(run.device, memory_format=torch.channels_last)


def noise_images(run: Run, count: int) -> Tensor:
    images = torch.randn(count, 3, run.settings.height, run.settings.width, device=run.device)
    return images.contiguous(memory_format=torch.channels_last)


def plain_training(run: Run, batch: int, subject: Subject) -> dict[str, Any]:
    """images/s and memory of the plain loop with a batch of so many images; nothing where there is no such network."""
    model = plain_network(run)
    if model is None:
        return {}
    images, labels = noise_images(run, batch), torch.zeros(batch, dtype=torch.int64, device=run.device)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-6, fused=run.fused)
    scaler = run.gradient_scaler()

    def step() -> int:
        with run.autocast():
            loss = nn.functional.cross_entropy(model(images), labels)
        optimiser.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()
        loss.item()  # waits for the device
        return batch

    return as_plain(measured(step, subject))


def measured(step: Callable[[], int], subject: Subject) -> tuple[float, int | None]:
    """images/s and peak bytes of a step that waits for the device, after a warm-up."""
    warm_up = min(PLAIN_WARM_UP, subject.scale.warm_up)
    for _ in range(warm_up):
        step()
    reset_peak(subject.device)
    return rate(step, seconds=subject.scale.seconds, warm_up=0), peak_bytes(subject.device)


def as_plain(found: tuple[float, int | None]) -> dict[str, Any]:
    return {"plain_images_per_second": found[0], "plain_memory": found[1]}


MEASUREMENTS = {
    "training, fp32": lambda subject: training(subject, "fp32"),
    "training, half precision": lambda subject: training(subject, "auto"),
    "inference": inference,
    "training, half precision, compiled": training_compiled,  # last: it takes a minute each
}
