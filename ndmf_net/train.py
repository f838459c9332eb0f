"""Train and evaluate NDMF-Net: `--demo` on synthetic pedestrians, `--data-root DIR` on real data; see `--help`."""

import torch
from torch import Tensor

from common import augment, distributed
from common.complexity import model_size
from common.errors import command
from common.evaluation import Embed, evaluate_first_search
from common.evaluation.retrieval import random_identities
from common.images import ImageStore
from common.runs import Meter, Run, open_run
from common.samplers import IdentitySampler

from .activity import activity
from .losses import Batch, losses
from .model import NDMFNet
from .settings import Settings

NUM_WATCHED = 64  # training images of different people on which the modules' activity is logged


def learning_rate(epoch: int, settings: Settings) -> float:
    """Eq. 17; epochs count from 1. It jumps after the warm-up unless `warmup_peak` is `learning_rate` (README)."""
    if epoch <= settings.warmup_epochs:
        return settings.warmup_peak * epoch / settings.warmup_epochs
    return settings.learning_rate * 0.1 ** sum(epoch > decay for decay in settings.decay_epochs)


def augmented(images: Tensor, settings: Settings, generator: torch.Generator) -> Tensor:
    """Sec. IV-A.3: pad and crop, normalise, flip, erase. (B, 3, H, W) uint8 -> float32, channels last."""
    images = augment.pad_and_crop(images, settings.padding, generator)
    images = augment.random_flip(images, settings.flip_probability, generator)  # cheaper before normalising
    images = augment.normalise(images)
    images = augment.random_erasing(images, settings.erasing_probability, generator)
    return images.contiguous(memory_format=torch.channels_last)


def prepared(images: Tensor) -> Tensor:
    """The network's input at test time. (B, 3, H, W) uint8 -> float32, channels last."""
    return augment.normalise(images).contiguous(memory_format=torch.channels_last)


def sampler_of(run: Run) -> IdentitySampler:
    settings, labels = run.settings, run.dataset.train.labels
    return IdentitySampler(labels, settings.identities_per_batch, settings.images_per_identity, seed=run.seed)


def build_optimiser(model: NDMFNet, settings: Settings, *, fused: bool) -> torch.optim.Adam:
    """Adam with coupled weight decay, as the paper's; the NDEMs' decay as `dependency_decay` says."""
    dependency = [p for name, p in model.named_parameters() if name.startswith("dependency")]
    known = {id(parameter) for parameter in dependency}
    others = [parameter for parameter in model.parameters() if id(parameter) not in known]
    groups: list[dict] = [{"params": others}]
    if dependency:
        decay = 0.0 if settings.dependency_decay == "none" else settings.weight_decay
        decoupled = settings.dependency_decay == "decoupled"
        groups.append({"params": dependency, "weight_decay": decay, "decoupled_weight_decay": decoupled})
    return torch.optim.Adam(
        groups,
        lr=settings.learning_rate,
        betas=(settings.adam_beta1, 0.999),
        weight_decay=settings.weight_decay,
        fused=fused,
    )


def images_per_epoch(run: Run) -> int:
    """More than there are, as identities with few images are filled up to K. For progress and estimates."""
    return sampler_of(run).num_batches(1) * run.settings.identities_per_batch * run.settings.images_per_identity


def train(run: Run) -> NDMFNet:
    """Train a run from its last finished epoch on; returns the network after the last epoch."""
    settings, device, subset = run.settings, run.device, run.dataset.train
    sampler = sampler_of(run)
    store = ImageStore(subset, settings.height, settings.width, cache=settings.cache)
    labels = torch.from_numpy(subset.labels)
    watched = prepared(run.to_device(store.gather(random_identities(subset, NUM_WATCHED))))

    run.seed_epoch(0)
    model = NDMFNet(subset.num_identities, settings).to(device, memory_format=torch.channels_last)
    optimiser = build_optimiser(model, settings, fused=run.fused)
    scaler = run.gradient_scaler()
    parts = {"model": model, "optimiser": optimiser, "scaler": scaler}
    last_epoch = run.restore(**parts)

    network = distributed.parallel(model.train(), device)
    meter = Meter(run, settings.num_epochs, images_per_epoch(run), last_epoch=last_epoch)
    for epoch in range(last_epoch + 1, settings.num_epochs + 1):
        run.seed_epoch(epoch)
        rate = learning_rate(epoch, settings)
        for group in optimiser.param_groups:
            group["lr"] = rate
        for step, (indices, images) in enumerate(store.batches(sampler.batches(epoch), device)):
            images = augmented(images, settings, run.batch_generator(epoch, step))
            with run.autocast():
                output = network(images)
            terms = losses(output, Batch(run.to_device(labels[indices])), settings)

            optimiser.zero_grad(set_to_none=True)
            scaler.scale(terms["loss"]).backward()
            scaler.step(optimiser)
            scaler.update()
            meter.update(terms, len(indices))
        meter.finish_epoch(parts, activity(model, watched), learning_rate=rate)
    meter.close()
    return model


def embedder(model: NDMFNet, run: Run) -> Embed:
    """A batch of images (B, 3, H, W) uint8 -> test features (B, D), at the run's device and precision."""

    def embed(images: Tensor) -> Tensor:
        with run.autocast():
            return model.embed(prepared(run.to_device(images)))

    return embed


@command
def main(argv: list[str] | None = None) -> None:
    run = open_run(__package__, Settings, argv)
    run.begin()
    settings = run.settings
    model = train(run).eval()
    scores = evaluate_first_search(embedder(model, run), run.dataset, settings)
    run.finish(scores, model_size(model, torch.empty(1, 3, settings.height, settings.width)))


if __name__ == "__main__":
    main()
