"""Train and evaluate deep mutual attention: `python -m mutual_attention.train --demo`, or `--data-root DIR`."""

import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional

from common import augment, distributed
from common.command_line import command_line
from common.complexity import count_macs, count_parameters
from common.errors import command
from common.evaluation import evaluate
from common.images import ImageStore
from common.pair_sampler import PairSampler
from common.runs import Run

from .mean_image import centred, mean_image_of
from .model import DIFFERENT, SAME, DescriptorPath, MutualAttentionNet
from .verification import verification_accuracy

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0)]


@dataclass(frozen=True)
class Config:
    """Types and ranges of the settings; their values and sources stand in config.yaml."""

    height: Annotated[int, Field(ge=32)]
    width: Annotated[int, Field(ge=32)]
    flip_probability: Share
    erasing_probability: Share

    backbone: str
    last_stride: Literal[1, 2]
    pretrained: str
    attention: bool
    activation: Literal["sigmoid", "none"]
    descriptor: Literal["plain", "self_attended"]
    descriptor_size: Positive
    dropout: Annotated[float, Field(ge=0, lt=1)]

    verification_weight: Rate

    pairs_per_batch: Annotated[int, Field(ge=2)]
    num_epochs: Annotated[int, Field(ge=0)]
    learning_rate: Rate
    decay_start: Annotated[int, Field(ge=0)]
    decay_end: Positive
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Rate

    precision: Literal["auto", "bf16", "fp16", "fp32"]
    cache: bool

    @model_validator(mode="after")
    def _decay_takes_time(self) -> "Config":
        if self.decay_end <= self.decay_start:
            raise ValueError(f"decay_end is {self.decay_end}, and must come after decay_start, {self.decay_start}")
        return self


def learning_rate(epoch: int, config: Config) -> float:
    """Sec. 5.1; epochs count from 1. Geometric from decay_start to a tenth at decay_end, and constant before."""
    progress = (epoch - config.decay_start) / (config.decay_end - config.decay_start)
    return config.learning_rate * 0.1 ** max(0, progress)


def build_model(config: Config, num_identities: int) -> MutualAttentionNet:
    return MutualAttentionNet(
        num_identities,
        backbone=config.backbone,
        last_stride=config.last_stride,
        pretrained=config.pretrained,
        attention=config.attention,
        activation=config.activation,
        descriptor=config.descriptor,
        descriptor_size=config.descriptor_size,
        dropout=config.dropout,
    )


def augmented(images: Tensor, mean: Tensor, config: Config, generator: torch.Generator) -> Tensor:
    """Sec. 5.1: flip, subtract the mean image, erase (with the mean image). (B, 3, H, W) uint8 -> float32."""
    images = augment.random_flip(images, config.flip_probability, generator)
    return augment.random_erasing(centred(images, mean), config.erasing_probability, generator)


def train(run: Run) -> MutualAttentionNet:
    """The whole training of a run, from its last finished epoch on; returns the network of the last epoch."""
    config, device = run.config, run.device
    subset = run.dataset.train
    sampler = PairSampler(
        subset.labels,
        subset.cameras,
        config.pairs_per_batch,
        seed=run.seed,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
    )
    with distributed.main_process_first():  # it may have to decode the images
        store = ImageStore(subset, config.height, config.width, cache=config.cache)
    mean = mean_image_of(run)
    labels = torch.from_numpy(subset.labels)

    run.seed_epoch(0)
    model = build_model(config, subset.num_identities).to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(
        model.parameters(), lr=config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
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
        for step, pairs in enumerate(sampler.batches(epoch)):
            generator = augment.batch_generator(run.seed, epoch, step, distributed.rank())
            first, second = (
                augmented(store.gather(indices).to(device), mean, config, generator)
                for indices in (pairs.first, pairs.second)
            )
            identities = torch.cat([labels[pairs.first], labels[pairs.second]]).to(device)
            same = torch.where(torch.from_numpy(pairs.same), SAME, DIFFERENT).to(device)
            with run.autocast():
                output = network(first, second)
            identification_loss = functional.cross_entropy(output.identity_logits.float(), identities)  # eq. 10
            verification_loss = functional.cross_entropy(output.verification_logits.float(), same)  # eq. 12
            loss = config.verification_weight * verification_loss + identification_loss  # eq. 13

            terms = {
                "loss": loss.item(),
                "identification_loss": identification_loss.item(),
                "verification_loss": verification_loss.item(),
            }
            run.check_finite(terms, epoch, step)

            optimiser.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            scaler.step(optimiser)
            scaler.update()

            for name, value in terms.items():
                sums[name] += value
            num_steps += 1
            progress.update(distributed.world_size() * len(first))
            progress.set_postfix(epoch=epoch, loss=f"{terms['loss']:.3f}", refresh=False)
        entry = {name: value / num_steps for name, value in sums.items()}
        entry["learning_rate"] = learning_rate(epoch, config)
        num_anchors = num_steps * config.pairs_per_batch  # as the progress bar counts; each comes with a partner
        run.finish_epoch(epoch, entry, num_anchors, **parts)
    progress.close()
    return model


def embedder(model: MutualAttentionNet, run: Run) -> Callable[[Tensor], Tensor]:
    """A batch of images (B, 3, H, W) uint8 -> test features (B, D), at the run's device and precision."""
    mean = mean_image_of(run)

    def embed(images: Tensor) -> Tensor:
        with run.autocast():
            return model.embed(centred(images.to(run.device), mean))

    return embed


@command
def main(argv: list[str] | None = None) -> None:
    arguments = command_line(__package__).parse_args(argv)
    run = Run.from_arguments(__package__, Config, arguments)
    run.begin(resume=arguments.resume, force=arguments.force)
    config, dataset = run.config, run.dataset
    model = train(run).eval()

    started = time.monotonic()
    searches = evaluate(
        embedder(model, run),
        dataset,
        config.height,
        config.width,
        rerank=True,
        multi_query="multi_query" in dataset.subsets,
        cache=config.cache,
    )
    scores = searches.pop(dataset.searches[0].name)  # what papers report first stands by itself
    scores |= searches | {"verification": verification_accuracy(model, run)}
    macs = count_macs(DescriptorPath(model), torch.empty(1, 3, config.height, config.width))
    size = {"num_parameters": count_parameters(model), "macs": macs}
    run.finish(scores, time.monotonic() - started, size)


if __name__ == "__main__":
    main(sys.argv[1:])
