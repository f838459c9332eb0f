"""Train and evaluate DFW: `python -m dfw_crossmodal.train --demo`, or `--data-root DIR` for the real data."""

import sys
import time
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from common import augment, distributed
from common.command_line import command_line
from common.errors import command
from common.evaluation import evaluate
from common.images import ImageStore
from common.runs import Run
from common.samplers import CrossModalitySampler

from .losses import hetero_centre_triplet, overlap_penalty, triplet
from .model import CrossModalityNet, Output, model_size
from .settings import Config
from .weakening import DynamicFeatureWeakening


def learning_rate(epoch: int, config: Config) -> float:
    """Of what is not pretrained; epochs count from 1. Linear warm-up, then a tenth after each of `decay_epochs`."""
    warmth = min(1, epoch / config.warmup_epochs) if config.warmup_epochs else 1
    return config.learning_rate * warmth * 0.1 ** sum(epoch > decay for decay in config.decay_epochs)


def build_model(config: Config, num_identities: int) -> CrossModalityNet:
    dfw = DynamicFeatureWeakening(config.dfw_form, alpha=config.dfw_alpha, beta=config.dfw_beta, gate=config.dfw_gate)
    return CrossModalityNet(
        num_identities,
        backbone=config.backbone,
        last_stride=config.last_stride,
        pretrained=config.pretrained,
        dfw=dfw if config.dfw else None,
        dfw_after=config.dfw_after,
        sln=config.sln,
        sln_noise=config.sln_noise,
        gem_power=config.gem_power,
    )


def build_optimiser(model: CrossModalityNet, config: Config) -> torch.optim.Optimizer:
    """Two groups: what the backbone brings, at its share of the rate, and what is new. adam: with decoupled decay."""
    backbone = model.parameters_from_backbone()
    known = {id(parameter) for parameter in backbone}
    new = [parameter for parameter in model.parameters() if id(parameter) not in known]
    groups = [{"params": backbone, "rate": config.backbone_rate}, {"params": new, "rate": 1.0}]
    if config.optimiser == "adam":
        return torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay)
    return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay)


def augmented(images: Tensor, config: Config, generator: torch.Generator) -> Tensor:
    """Sec. 4.3: pad and crop, flip, normalise, erase. (B, 3, H, W) uint8 -> float32, channels last."""
    images = augment.pad_and_crop(images, config.padding, generator)
    images = augment.random_flip(images, config.flip_probability, generator)  # mirrors bytes: cheaper, and the same
    if config.colours == "mixed":
        images = augment.random_channel_mix(images, generator)
    elif config.colours == "luma":
        images = augment.gray(images)
    images = augment.random_tone(images, config.gamma_spread, config.gain_spread, generator)
    images = augment.random_erasing(augment.normalise(images), config.erasing_probability, generator)
    return images.contiguous(memory_format=torch.channels_last)


def prepared(images: Tensor, config: Config) -> Tensor:
    """What the network sees at test time: no colours if it has never seen any. (B, 3, H, W) uint8 -> float32."""
    if config.colours != "kept":
        images = augment.gray(images)
    return augment.normalise(images).contiguous(memory_format=torch.channels_last)


def losses(
    output: Output, labels: Tensor, visible: Tensor, config: Config, generator: torch.Generator
) -> dict[str, Tensor]:
    """Eq. 7's terms, unweighted; the first two are L_ReID, summed over the sub-networks, and the baseline's only ones.

    output: this process's; labels: (B,) integers, visible: (B,) bool, both of its images. Triplets and centres are
    those of the whole batch. generator: the same in every process, for triplets drawn at random.
    """
    features = distributed.gather_with_gradient(output.features.float().transpose(0, 1))  # (B, R, C)
    whole = features.flatten(1)  # the sub-networks' side by side, as at test time
    if config.unit_features:
        features, whole = functional.normalize(features, dim=2), functional.normalize(whole, dim=1)
    all_labels, all_visible = distributed.gather(labels), distributed.gather(visible)
    terms = {
        "identity_loss": sum(functional.cross_entropy(logits.float(), labels) for logits in output.logits),
        "triplet_loss": sum(
            triplet(
                feature, all_labels, margin=config.triplet_margin, mining=config.triplet_mining, generator=generator
            )
            for feature in features.unbind(1)
        ),
    }
    if config.sln:
        terms["centre_loss"] = hetero_centre_triplet(whole, all_labels, all_visible, margin=config.centre_margin)
        terms["overlap_loss"] = overlap_penalty(
            *output.maps,
            separation=config.separation,
            image_size=(config.separation_height, config.separation_height * config.width / config.height),
            centre=config.overlap_centre,
            temperature=config.overlap_temperature,
        )
    return terms


def train(run: Run) -> CrossModalityNet:
    """The whole training of a run, from its last finished epoch on; returns the network of the last epoch."""
    config, device = run.config, run.device
    subset = run.dataset.train
    is_visible = np.array([sample.modality == "visible" for sample in subset.samples])
    sampler = CrossModalitySampler(
        subset.labels,
        is_visible,
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
    optimiser = build_optimiser(model, config)
    scaler = run.gradient_scaler()
    parts = {"model": model, "optimiser": optimiser, "scaler": scaler}
    last_epoch = run.restore(**parts)

    network = distributed.parallel(model.train(), device)
    progress = run.progress(last_epoch, config.num_epochs)
    for epoch in range(last_epoch + 1, config.num_epochs + 1):
        run.seed_epoch(epoch)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(epoch, config) * group["rate"]
        sums, num_steps, num_images = defaultdict(float), 0, 0
        for step, indices in enumerate(sampler.batches(epoch)):
            generator = augment.batch_generator(run.seed, epoch, step, distributed.rank())
            images = augmented(store.gather(indices).to(device), config, generator)
            targets = labels[indices].to(device)
            visible = torch.from_numpy(is_visible[indices]).to(device)
            with run.autocast():
                output = network(*images.chunk(2))  # the sampler's layout: visible images, then infrared ones
            # No process has the number world_size: these draws are alike in all of them, and no other's.
            draws = augment.batch_generator(run.seed, epoch, step, distributed.world_size())
            terms = losses(output, targets, visible, config, draws)
            weights = {"overlap_loss": config.overlap_weight, "centre_loss": config.centre_weight}
            loss = sum(weights.get(name, 1.0) * term for name, term in terms.items())  # eq. 7

            values = {"loss": loss.item()} | {name: term.item() for name, term in terms.items()}
            run.check_finite(values, epoch, step)

            optimiser.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            scaler.step(optimiser)
            scaler.update()

            for name, value in values.items():
                sums[name] += value
            num_steps += 1
            num_images += distributed.world_size() * len(indices)
            progress.update(distributed.world_size() * len(indices))
            progress.set_postfix(epoch=epoch, loss=f"{values['loss']:.3f}", refresh=False)
        entry = {name: value / num_steps for name, value in sums.items()}
        entry["learning_rate"] = learning_rate(epoch, config)
        run.finish_epoch(epoch, entry, num_images, **parts)
    progress.close()
    return model


def embedders(model: CrossModalityNet, run: Run) -> dict[str, Callable[[Tensor], Tensor]]:
    """{modality: images of it (B, 3, H, W) uint8 -> test features (B, D)}, at the run's device and precision."""

    def embedder(modality: str) -> Callable[[Tensor], Tensor]:
        def embed(images: Tensor) -> Tensor:
            inputs = prepared(images.to(run.device), run.config)
            with run.autocast():
                return model.embed(inputs, modality)

        return embed

    return {modality: embedder(modality) for modality in ("visible", "infrared", "thermal")}


@command
def main(argv: list[str] | None = None) -> None:
    arguments = command_line(__package__, dataset="sysu_mm01").parse_args(argv)
    run = Run.from_arguments(__package__, Config, arguments)
    run.begin(resume=arguments.resume, force=arguments.force)
    config = run.config
    model = train(run).eval()

    started = time.monotonic()
    searches = evaluate(
        embedders(model, run), run.dataset, config.height, config.width, rerank=True, cache=config.cache
    )
    first = run.dataset.searches[0].name  # the one that papers report first: its scores also stand alone in the record
    run.finish(
        {**searches[first], **searches}, time.monotonic() - started, model_size(model, config.height, config.width)
    )


if __name__ == "__main__":
    main(sys.argv[1:])
