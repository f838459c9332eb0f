"""Train and evaluate MGRe: `python -m mgre.train --demo`, or `--data-root DIR` for the real data."""

import sys
import time
from collections import defaultdict
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional

from common import augment, distributed
from common.command_line import command_line
from common.datasets.base import Subset
from common.errors import command
from common.images import ImageStore
from common.losses import batch_hard_triplet
from common.runs import Run
from common.samplers import IdentitySampler

from .data import split_training
from .losses import location_loss
from .model import MGRe, Outputs, boxes_from_poses
from .poses import read_joints
from .regions import flip_joints, positions_of, target_boxes
from .scores import model_size, score

Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
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
    ibn: bool
    last_stride: Literal[1, 2]
    pretrained: str
    stages: list[Literal[1, 2, 3]]
    whole_image_stages: list[Literal[1, 2, 3]]
    single_grained_features: bool
    location_only: bool
    pose_boxes: bool
    semantic_guidance: bool
    location_channels: Positive
    feature_size: Positive
    feature_weights: Annotated[list[Rate], Field(min_length=4, max_length=4)]

    stage_loss_weight: Rate
    location_loss_weight: Rate
    label_smoothing: Share
    triplet_margin: Rate

    identities_per_batch: Annotated[int, Field(ge=2)]
    images_per_identity: Annotated[int, Field(ge=2)]
    num_epochs: Count
    learning_rate: Rate
    warmup_start: Share
    warmup_epochs: Count
    decay_epochs: list[Positive]
    decay_factor: Share
    weight_decay: Rate
    validation_identities: Count

    occluded_scores: bool
    feature_weight_scores: bool
    occlusion_probability: Share

    precision: Literal["auto", "bf16", "fp16", "fp32"]
    cache: bool

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        if not set(self.whole_image_stages) <= set(self.stages):
            raise ValueError(f"whole_image_stages {self.whole_image_stages} must be among stages {self.stages}")
        if self.location_only and self.pose_boxes:
            raise ValueError("location_only and pose_boxes exclude each other: nothing would be learned from the boxes")
        return self

    @property
    def needs_poses(self) -> bool:
        return bool(set(self.stages) - set(self.whole_image_stages))


def learning_rate(epochs_done: float, config: Config) -> float:
    """Sec. 4.2, after so many epochs, parts of them counted: a linear warm-up, then steps down."""
    if epochs_done < config.warmup_epochs:
        progress = epochs_done / config.warmup_epochs
        return config.learning_rate * (config.warmup_start + (1 - config.warmup_start) * progress)
    return config.learning_rate * config.decay_factor ** sum(epochs_done >= decay for decay in config.decay_epochs)


def build_model(config: Config, num_identities: int) -> MGRe:
    return MGRe(
        num_identities,
        backbone=config.backbone,
        ibn=config.ibn,
        last_stride=config.last_stride,
        pretrained=config.pretrained,
        height=config.height,
        width=config.width,
        stages=config.stages,
        whole_image_stages=config.whole_image_stages,
        single_grained_features=config.single_grained_features,
        location_only=config.location_only,
        pose_boxes=config.pose_boxes,
        semantic_guidance=config.semantic_guidance,
        location_channels=config.location_channels,
        feature_size=config.feature_size,
        feature_weights=config.feature_weights,
    )


def augmented(
    images: Tensor, joints: Tensor | None, config: Config, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Sec. 4.2: flip, normalise, erase; the joints follow the flip. (B, 3, H, W) uint8 -> float32, channels last."""
    chosen = augment.choose(len(images), config.flip_probability, generator)
    images = augment.normalise(augment.flip(images, chosen))  # mirrors bytes: cheaper, and the same
    images = augment.random_erasing(images, config.erasing_probability, generator)
    flipped_joints = None if joints is None else flip_joints(joints, chosen)
    return images.contiguous(memory_format=torch.channels_last), flipped_joints


def loss_terms(
    model: MGRe, outputs: Outputs, labels: Tensor, targets: Tensor | None, known: Tensor | None, config: Config
) -> dict[str, Tensor]:
    """Eq. 7-9: identity, triplet and location losses, each summed over its stages with lambda for stages 1 to 3.

    labels: (B,); targets: (B, 7, 4) and known: (B, 7), of all regions, where boxes are learned.
    """
    terms = defaultdict(float)
    for stage, feature, logits in zip(model.feature_stages, outputs.features, outputs.logits, strict=True):
        weight = 1.0 if stage == 4 else config.stage_loss_weight
        identity_loss = functional.cross_entropy(logits.float(), labels, label_smoothing=config.label_smoothing)
        triplet_loss = batch_hard_triplet(
            distributed.gather_with_gradient(feature.float()),
            distributed.gather(labels),
            margin=config.triplet_margin,
        )
        terms["identity_loss"] += weight * identity_loss
        terms["triplet_loss"] += weight * triplet_loss
    for stage, boxes in zip(model.box_stages, outputs.boxes, strict=True):
        own = positions_of(stage)
        loss = location_loss(boxes, targets[:, own], known[:, own])
        terms["location_loss"] += config.stage_loss_weight * config.location_loss_weight * loss
    return terms


def train(run: Run, subset: Subset, joints: Tensor | None) -> MGRe:
    """The whole training of a run, from its last finished epoch on; returns the network of the last epoch.

    subset: the training images; joints: theirs, (N, 17, 3), for networks with body regions.
    """
    config, device = run.config, run.device
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
    optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    scaler = run.gradient_scaler()
    parts = {"model": model, "optimiser": optimiser, "scaler": scaler}
    last_epoch = run.restore(**parts)

    network = distributed.parallel(model.train(), device)
    progress = run.progress(last_epoch, config.num_epochs)
    for epoch in range(last_epoch + 1, config.num_epochs + 1):
        run.seed_epoch(epoch)
        sums, num_steps = defaultdict(float), sampler.num_batches(epoch)
        for step, indices in enumerate(sampler.batches(epoch)):
            rate = learning_rate(epoch - 1 + step / num_steps, config)
            for group in optimiser.param_groups:
                group["lr"] = rate
            generator = augment.batch_generator(run.seed, epoch, step, distributed.rank())
            own_joints = None if joints is None else joints[indices]
            images, own_joints = augmented(store.gather(indices).to(device), own_joints, config, generator)
            targets = known = given_boxes = None
            if own_joints is not None:
                targets, known = target_boxes(own_joints.to(device))
                given_boxes = boxes_from_poses(targets, known) if config.pose_boxes else None
            with run.autocast():
                outputs = network(images, given_boxes)
            losses = loss_terms(model, outputs, labels[indices].to(device), targets, known, config)
            loss = sum(losses.values())

            terms = {"loss": loss.item(), **{name: value.item() for name, value in losses.items()}}
            run.check_finite(terms, epoch, step)

            optimiser.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            scaler.step(optimiser)
            scaler.update()

            for name, value in terms.items():
                sums[name] += value
            progress.update(distributed.world_size() * len(indices))
            progress.set_postfix(epoch=epoch, loss=f"{terms['loss']:.3f}", refresh=False)
        entry = {name: value / num_steps for name, value in sums.items()}
        entry["learning_rate"] = rate
        batch_size = config.identities_per_batch * config.images_per_identity
        run.finish_epoch(epoch, entry, num_steps * batch_size, **parts)
    progress.close()
    return model


@command
def main(argv: list[str] | None = None) -> None:
    arguments = command_line(__package__).parse_args(argv)
    run = Run.from_arguments(__package__, Config, arguments)
    config = run.config
    subset, _ = split_training(run.dataset, config.validation_identities)
    joints = read_joints(run.dataset, subset) if config.needs_poses else None
    run.begin(resume=arguments.resume, force=arguments.force)
    model = train(run, subset, joints).eval()

    started = time.monotonic()
    scores = score(model, run)
    run.finish(scores, time.monotonic() - started, model_size(model, config.height, config.width))


if __name__ == "__main__":
    main(sys.argv[1:])
