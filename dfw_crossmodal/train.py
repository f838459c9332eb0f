"""Train and evaluate DFW: `--demo` on synthetic pedestrians, `--data-root DIR` on the real data, `--help` for more."""

import numpy as np
import torch
from torch import Tensor

from common import augment, distributed
from common.datasets.base import Subset
from common.errors import command
from common.evaluation import Embed, evaluate
from common.images import ImageStore
from common.runs import Meter, Run, open_run
from common.samplers import CrossModalitySampler

from .activity import activity, watched_images
from .losses import Batch, losses
from .model import CrossModalityNet, model_size
from .settings import Settings


def learning_rate(epoch: int, settings: Settings) -> float:
    """Of what is not pretrained; epochs count from 1. Linear warm-up, then a tenth after each of `decay_epochs`."""
    warmth = min(1, epoch / settings.warmup_epochs) if settings.warmup_epochs else 1
    return settings.learning_rate * warmth * 0.1 ** sum(epoch > decay for decay in settings.decay_epochs)


def build_optimiser(model: CrossModalityNet, settings: Settings) -> torch.optim.Optimizer:
    """Two groups, each with its share of the learning rate as `rate`: the backbone's parameters and the new ones."""
    backbone = model.parameters_from_backbone()
    known = {id(parameter) for parameter in backbone}
    new = [parameter for parameter in model.parameters() if id(parameter) not in known]
    groups = [{"params": backbone, "rate": settings.backbone_rate}, {"params": new, "rate": 1.0}]
    shared = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if settings.optimiser == "adam":
        return torch.optim.AdamW(groups, **shared)
    return torch.optim.SGD(groups, momentum=settings.momentum, nesterov=settings.nesterov, **shared)


def augmented(images: Tensor, settings: Settings, generator: torch.Generator) -> Tensor:
    """Sec. 4.3: pad and crop, flip, normalise, erase. (B, 3, H, W) uint8 -> float32, channels last."""
    images = augment.pad_and_crop(images, settings.padding, generator)
    images = augment.random_flip(images, settings.flip_probability, generator)  # of bytes: cheaper, and the same
    if settings.colours == "mixed":
        images = augment.random_channel_mix(images, generator)
    elif settings.colours == "luma":
        images = augment.gray(images)
    images = augment.random_tone(images, settings.gamma_spread, settings.gain_spread, generator)
    images = augment.random_erasing(augment.normalise(images), settings.erasing_probability, generator)
    return images.contiguous(memory_format=torch.channels_last)


def prepared(images: Tensor, settings: Settings) -> Tensor:
    """What the network sees at test time: no colours if it has never seen any.

    (B, 3, H, W) uint8 -> float32, channels last.
    """
    if settings.colours != "kept":
        images = augment.gray(images)
    return augment.normalise(images).contiguous(memory_format=torch.channels_last)


def visible_images(subset: Subset) -> np.ndarray:
    """(N,) bool."""
    return np.array([sample.modality == "visible" for sample in subset.samples])


def sampler_of(run: Run) -> CrossModalitySampler:
    settings, subset = run.settings, run.dataset.train
    return CrossModalitySampler(
        subset.labels,
        visible_images(subset),
        settings.identities_per_batch,
        settings.images_per_identity,
        seed=run.seed,
    )


def images_per_epoch(run: Run) -> int:
    """Of both modalities, the smaller one as often as the larger. For progress and estimates."""
    settings = run.settings
    return sampler_of(run).num_batches(1) * 2 * settings.identities_per_batch * settings.images_per_identity


def train(run: Run) -> CrossModalityNet:
    """The whole training of a run, from its last finished epoch on; returns the network of the last epoch."""
    settings, device, subset = run.settings, run.device, run.dataset.train
    sampler, is_visible = sampler_of(run), visible_images(subset)
    store = ImageStore(subset, settings.height, settings.width, cache=settings.cache)
    labels, visible = torch.from_numpy(subset.labels), torch.from_numpy(is_visible)
    watched = {modality: prepared(run.to_device(images), settings) for modality, images in watched_images(run).items()}

    run.seed_epoch(0)
    model = CrossModalityNet(subset.num_identities, settings).to(device, memory_format=torch.channels_last)
    optimiser = build_optimiser(model, settings)
    scaler = run.gradient_scaler()
    parts = {"model": model, "optimiser": optimiser, "scaler": scaler}
    last_epoch = run.restore(**parts)

    network = distributed.parallel(model.train(), device)
    meter = Meter(run, settings.num_epochs, images_per_epoch(run), last_epoch=last_epoch)
    for epoch in range(last_epoch + 1, settings.num_epochs + 1):
        run.seed_epoch(epoch)
        rate = learning_rate(epoch, settings)
        for group in optimiser.param_groups:
            group["lr"] = rate * group["rate"]
        for step, (indices, images) in enumerate(store.batches(sampler.batches(epoch), device)):
            images = augmented(images, settings, run.batch_generator(epoch, step))
            with run.autocast():
                output = network(*images.chunk(2))  # the sampler's layout: visible images, then infrared ones
            draws = run.batch_generator(epoch, step, shared=True)
            batch = Batch(run.to_device(labels[indices]), run.to_device(visible[indices]), draws)
            terms = losses(output, batch, settings)

            optimiser.zero_grad(set_to_none=True)
            scaler.scale(terms["loss"]).backward()
            scaler.step(optimiser)
            scaler.update()
            meter.update(terms, len(indices))
        meter.finish_epoch(parts, activity(model, watched, settings), learning_rate=rate)
    meter.close()
    return model


def embedders(model: CrossModalityNet, run: Run) -> dict[str, Embed]:
    """{modality: images of it (B, 3, H, W) uint8 -> test features (B, D)}, at the run's device and precision."""

    def embedder(modality: str) -> Embed:
        def embed(images: Tensor) -> Tensor:
            inputs = prepared(run.to_device(images), run.settings)
            with run.autocast():
                return model.embed(inputs, modality)

        return embed

    return {modality: embedder(modality) for modality in ("visible", "infrared", "thermal")}


@command
def main(argv: list[str] | None = None) -> None:
    run = open_run(__package__, Settings, argv, dataset="sysu_mm01")
    run.begin()
    model = train(run).eval()
    scores = evaluate(embedders(model, run), run.dataset, run.settings, rerank=True)
    first = run.dataset.searches[0].name  # reported first by papers: its scores also stand alone in the record
    run.finish({**scores[first], **scores}, model_size(model, run.settings))


if __name__ == "__main__":
    main()
