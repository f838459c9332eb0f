"""A ResNet-18 that names the attributes of synthetic people, and the part of it that becomes the starting weights.

B images of a batch; V values of all attributes together.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from benchmarks.start.attributes import HIDDEN, NUM_VALUES
from benchmarks.start.draw import Images
from common import augment, devices
from common.backbones import build_resnet
from common.errors import UserError
from common.images import ImageStore
from common.pretrained import SYNTHETIC_BACKBONE
from common.runs.checkpoints import load_tensors, save_tensors

KEPT = ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.")  # of torchvision's names; layer4 starts from random weights


@dataclass(frozen=True)
class Training:
    """How the network is trained. images: how many it sees in all, most of them several times."""

    images: int = 160_000
    batch: int = 32
    seed: int = 0
    learning_rate: float = 2e-3  # the highest
    warmup: float = 0.1  # share of the steps on the way up to it
    weight_decay: float = 0.05
    padding: int = 5
    erasing_probability: float = 0.0
    gamma_spread: float = 0.15
    gain_spread: float = 0.15

    @property
    def steps(self) -> int:
        return max(1, self.images // self.batch)

    def rate(self, step: int) -> float:
        """One cycle: linear up, then down to 0 along half a cosine. Steps count from 0."""
        progress = (step + 1) / self.steps
        if progress < self.warmup:
            return self.learning_rate * progress / self.warmup
        return self.learning_rate * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup))) / 2


@dataclass
class Progress:
    """What a checkpoint keeps besides weights. log: mean losses, one entry a checkpoint."""

    step: int = 0
    seconds: float = 0.0
    log: list[dict] = field(default_factory=list)


class AttributeNet(nn.Module):
    """The backbone's last map, averaged, and a linear classifier for each attribute."""

    def __init__(self):
        super().__init__()
        self.backbone = build_resnet(SYNTHETIC_BACKBONE, last_stride=2, pretrained="none")
        self.classifiers = nn.Linear(self.backbone.channels[-1], sum(NUM_VALUES))  # one beside the other

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W), normalised -> logits (B, V)."""
        return self.classifiers(self.backbone(images).mean((2, 3)))


def attribute_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The cross-entropy of each attribute over the images that show it, averaged over the attributes that any shows.

    logits: (B, V); labels: (B, attributes), HIDDEN where an image does not show one.
    """
    losses = [
        functional.cross_entropy(own, label, ignore_index=HIDDEN)
        for own, label in zip(logits.float().split(NUM_VALUES, dim=1), labels.unbind(1), strict=True)
        if (label != HIDDEN).any()
    ]
    return torch.stack(losses).mean()


def batches_from(step: int, training: Training, num_images: int) -> Iterator[np.ndarray]:
    """The batches of step, step + 1, ...: positions of images, each image once in a pass through all of them."""
    batch, per_pass = min(training.batch, num_images), max(1, num_images // training.batch)
    order, current = None, -1
    for number in range(step, training.steps):
        if number // per_pass != current:
            current = number // per_pass
            order = np.random.default_rng([training.seed, current]).permutation(num_images)
        first = number % per_pass * batch
        yield np.sort(order[first : first + batch])  # sorted: read in the order of the file


def augmented(images: Tensor, training: Training, step: int) -> Tensor:
    """(B, 3, H, W) uint8 -> float32, normalised, channels last."""
    generator = augment.batch_generator(training.seed, 0, step)
    images = augment.pad_and_crop(images, training.padding, generator)
    images = augment.random_flip(images, 0.5, generator)
    images = augment.random_tone(images, training.gamma_spread, training.gain_spread, generator)
    images = augment.random_erasing(augment.normalise(images), training.erasing_probability, generator)
    return images.contiguous(memory_format=torch.channels_last)


def train(
    images: Images,
    training: Training,
    device: torch.device,
    checkpoint: Path,
    identity: dict,
    *,
    every_seconds: float = 120.0,
    report: Callable[[str], None] = print,
) -> tuple[AttributeNet, Progress]:
    """Train from `checkpoint`, if it is there, to the last step.

    identity: what is trained on what; a checkpoint of another is a UserError, as is a loss that is not finite.
    """
    precision = devices.select_precision("auto", device)
    torch.manual_seed(training.seed)
    model = AttributeNet().to(device, memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(model.parameters(), training.learning_rate, weight_decay=training.weight_decay)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    parts = {"model": model, "optimiser": optimiser, "scaler": scaler}
    progress = _restored(checkpoint, identity, parts)

    def read(positions: np.ndarray) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(images.pixels[positions]), torch.from_numpy(images.labels[positions])

    since, sums, counted = time.monotonic(), torch.zeros((), device=device), 0
    batches = batches_from(progress.step, training, len(images.pixels))
    bar = tqdm(total=training.steps, initial=progress.step, desc="training", unit="step", disable=None)
    for pixels, labels in ImageStore.read_ahead(batches, read):
        inputs = augmented(devices.to_device(pixels, device), training, progress.step)
        with devices.autocast(device, precision):
            logits = model(inputs)
        loss = attribute_loss(logits, devices.to_device(labels, device))
        for group in optimiser.param_groups:
            group["lr"] = training.rate(progress.step)
        optimiser.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()
        progress.step, sums, counted = progress.step + 1, sums + loss.detach(), counted + 1
        bar.update()
        if time.monotonic() - since > every_seconds or progress.step == training.steps:
            mean, spent = float(sums) / counted, time.monotonic() - since
            if not math.isfinite(mean):
                raise UserError(f"the loss is {mean} at step {progress.step}; the last good checkpoint is {checkpoint}")
            progress.seconds += spent
            progress.log.append({"step": progress.step, "loss": round(mean, 4)})
            speed = counted * training.batch / spent
            report(f"step {progress.step} of {training.steps}: loss {mean:.3f}, {speed:.0f} images/s")
            _save(checkpoint, identity, progress, parts)
            since, sums, counted = time.monotonic(), torch.zeros((), device=device), 0
    bar.close()
    return model, progress


def _save(checkpoint: Path, identity: dict, progress: Progress, parts: dict) -> None:
    states = {name: part.state_dict() for name, part in parts.items()}
    content = {"identity": identity, "progress": asdict(progress), **states}
    save_tensors(checkpoint, content, "The checkpoint before it is kept: free some space and add --resume")


def _restored(checkpoint: Path, identity: dict, parts: dict) -> Progress:
    if not checkpoint.is_file():
        return Progress()
    content = load_tensors(checkpoint, "start from scratch with --force")
    if content["identity"] != identity:
        raise UserError(f"{checkpoint} was made with other options or other source code: start again with --force")
    for name, part in parts.items():
        part.load_state_dict(content[name])
    return Progress(**content["progress"])


def kept_weights(model: AttributeNet) -> dict[str, Tensor]:
    """Stem to layer3 under torchvision's names, on the CPU: kernels in float16, norms (1-d) as they are."""
    backbone = model.backbone
    names = {"stem.0.": "conv1.", "stem.1.": "bn1."}
    state = {}
    for name, value in backbone.state_dict().items():
        for ours, theirs in names.items():
            name = theirs + name.removeprefix(ours) if name.startswith(ours) else name
        if name.startswith(KEPT):
            value = value.detach().cpu().contiguous()
            state[name] = value.half() if value.dim() > 1 else value.clone()
    return state
