"""Train and evaluate NDMF-Net: `python -m ndmf_net.train --demo`, or `--data-root DIR` for the real data."""

import sys
import time
from collections import defaultdict
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor

from common import augment, distributed
from common.command_line import command_line
from common.complexity import count_macs, count_parameters
from common.errors import command
from common.evaluation import evaluate_single_query
from common.images import ImageStore
from common.losses import batch_hard_triplet
from common.runs import Run
from common.samplers import IdentitySampler

from .losses import smoothed_cross_entropy
from .model import NDMFNet

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0)]


@dataclass(frozen=True)
class Config:
    """Types and ranges of the settings; their values and sources stand in config.yaml."""

    height: Annotated[int, Field(ge=32)]
    width: Annotated[int, Field(ge=32)]
    padding: Annotated[int, Field(ge=0)]
    flip_probability: Share
    erasing_probability: Share

    backbone: str
    last_stride: Literal[1, 2]
    pretrained: str
    pcam: bool
    sam: bool
    ndem: bool
    num_parts: Positive
    part_features: Literal["flatten", "pool"]
    lstm_hidden_size: Positive
    dependency_size: Positive
    feature_size: Positive
    bnneck: bool

    identity_weight: Rate
    triplet_weight: Rate
    label_smoothing: Share
    triplet_margin: Rate
    triplet_squared: bool

    identities_per_batch: Annotated[int, Field(ge=2)]
    images_per_identity: Annotated[int, Field(ge=2)]
    num_epochs: Annotated[int, Field(ge=0)]
    learning_rate: Rate
    warmup_epochs: Annotated[int, Field(ge=0)]
    warmup_peak: Rate
    decay_epochs: list[Positive]
    weight_decay: Rate
    adam_beta1: Annotated[float, Field(ge=0, lt=1)]

    precision: Literal["auto", "bf16", "fp16", "fp32"]
    cache: bool

    @model_validator(mode="after")
    def _parts_fit(self) -> "Config":
        rows = -(-self.height // 16)
        if (self.pcam or self.ndem) and self.num_parts > rows:
            raise ValueError(
                f"num_parts is {self.num_parts}, but layer3's map has only {rows} rows at height {self.height}"
            )
        return self


def learning_rate(epoch: int, config: Config) -> float:
    """Eq. 17; epochs count from 1. The jump after the warm-up is the paper's own."""
    if epoch <= config.warmup_epochs:
        return config.warmup_peak * epoch / config.warmup_epochs
    return config.learning_rate * 0.1 ** sum(epoch > decay for decay in config.decay_epochs)


def build_model(config: Config, num_identities: int) -> NDMFNet:
    return NDMFNet(
        num_identities,
        backbone=config.backbone,
        last_stride=config.last_stride,
        pretrained=config.pretrained,
        height=config.height,
        width=config.width,
        pcam=config.pcam,
        sam=config.sam,
        ndem=config.ndem,
        num_parts=config.num_parts,
        part_features=config.part_features,
        lstm_hidden_size=config.lstm_hidden_size,
        dependency_size=config.dependency_size,
        feature_size=config.feature_size,
        bnneck=config.bnneck,
    )


def augmented(images: Tensor, config: Config, generator: torch.Generator) -> Tensor:
    """Sec. IV-A.3: pad and crop, normalise, flip, erase. (B, 3, H, W) uint8 -> float32, channels last."""
    images = augment.pad_and_crop(images, config.padding, generator)
    images = augment.random_flip(images, config.flip_probability, generator)  # mirrors bytes: cheaper, and the same
    images = augment.normalise(images)
    images = augment.random_erasing(images, config.erasing_probability, generator)
    return images.contiguous(memory_format=torch.channels_last)


def train(run: Run) -> NDMFNet:
    """The whole training of a run, from its last finished epoch on; returns the network of the last epoch."""
    config, device = run.config, run.device
    subset = run.dataset.train
    sampler = IdentitySampler(
        subset.labels,
        config.identities_per_batch,
        config.images_per_identity,
        seed=run.seed,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
    )
    with distributed.main_process_first():  # it may have to decode the images
        store = ImageStore(subset, config.height, config.width, cache=config.cache)
    labels = torch.from_numpy(subset.labels)

    run.seed_epoch(0)
    model = build_model(config, subset.num_identities).to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(
        model.parameters(), lr=config.learning_rate, betas=(config.adam_beta1, 0.999), weight_decay=config.weight_decay
    )
    scaler = run.gradient_scaler()
    parts = {"model": model, "optimiser": optimiser, "scaler": scaler}
    last_epoch = run.restore(**parts)

    network = distributed.parallel(model.train(), device)
    progress = run.progress(last_epoch, config.num_epochs)
    for epoch in range(last_epoch + 1, config.num_epochs + 1):
        run.seed_epoch(epoch)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(epoch, config)
        sums, num_steps = defaultdict(float), 0
        for step, indices in enumerate(sampler.batches(epoch)):
            generator = augment.batch_generator(run.seed, epoch, step, distributed.rank())
            images = augmented(store.gather(indices).to(device), config, generator)
            targets = labels[indices].to(device)
            with run.autocast():
                features, logits = network(images)
            identity_loss = smoothed_cross_entropy(logits, targets, smoothing=config.label_smoothing)
            triplet_loss = batch_hard_triplet(
                distributed.gather_with_gradient(features.float()),
                distributed.gather(targets),
                margin=config.triplet_margin,
                squared=config.triplet_squared,
            )
            loss = config.identity_weight * identity_loss + config.triplet_weight * triplet_loss  # eq. 14

            terms = {"loss": loss.item(), "identity_loss": identity_loss.item(), "triplet_loss": triplet_loss.item()}
            run.check_finite(terms, epoch, step)

            optimiser.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            scaler.step(optimiser)
            scaler.update()

            for name, value in terms.items():
                sums[name] += value
            num_steps += 1
            progress.update(distributed.world_size() * len(indices))
            progress.set_postfix(epoch=epoch, loss=f"{terms['loss']:.3f}", refresh=False)
        entry = {name: value / num_steps for name, value in sums.items()}
        entry["learning_rate"] = learning_rate(epoch, config)
        batch_size = config.identities_per_batch * config.images_per_identity
        run.finish_epoch(epoch, entry, num_steps * batch_size, **parts)
    progress.close()
    return model


def embedder(model: NDMFNet, run: Run):
    """A batch of images (B, 3, H, W) uint8 -> test features (B, D), at the run's device and precision."""

    def embed(images: Tensor) -> Tensor:
        with run.autocast():
            return model.embed(augment.normalise(images.to(run.device)).contiguous(memory_format=torch.channels_last))

    return embed


@command
def main(argv: list[str] | None = None) -> None:
    arguments = command_line(__package__).parse_args(argv)
    run = Run.from_arguments(__package__, Config, arguments)
    run.begin(resume=arguments.resume, force=arguments.force)
    config = run.config
    model = train(run).eval()

    started = time.monotonic()
    scores = evaluate_single_query(embedder(model, run), run.dataset, config.height, config.width, cache=config.cache)
    macs = count_macs(model, torch.empty(1, 3, config.height, config.width))
    size = {"num_parameters": count_parameters(model), "macs": macs}
    run.finish(scores, time.monotonic() - started, size)


if __name__ == "__main__":
    main(sys.argv[1:])
