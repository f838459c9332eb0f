"""Train and evaluate deep mutual attention: `--demo` on synthetic pedestrians, `--data-root DIR` on the real data,
`--help` for more."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from common import augment, distributed
from common.complexity import model_size
from common.errors import command
from common.evaluation import Embed, evaluate
from common.images import ImageStore
from common.runs import Meter, Run, open_run
from common.samplers import PairSampler

from .activity import activity, say_rms_of_first_step, watched_pairs
from .losses import Batch, losses
from .mean_image import mean_image_of, prepared
from .model import DescriptorPath, MutualAttentionNet
from .settings import Settings
from .verification import verification_scores

# An anchor is counted as one image, but trains with its partner and on two paths: measured 8.5 to 9.3 times the time of
# embedding an image for the full network, 6.3 to 7.2 for the baseline (demo size, fp32, one thread of a busy CPU).
TRAINING_COST = 8.9


def learning_rate(epoch: int, settings: Settings) -> float:
    """Sec. 5.1; epochs count from 1. Constant up to decay_start, then geometric to a tenth at decay_end, or at once."""
    if settings.decay == "step":
        return settings.learning_rate * (0.1 if epoch > settings.decay_start else 1)
    progress = (epoch - settings.decay_start) / (settings.decay_end - settings.decay_start)
    return settings.learning_rate * 0.1 ** max(0, progress)


def augmented(images: Tensor, mean: Tensor, settings: Settings, generator: torch.Generator) -> Tensor:
    """Sec. 5.1: flip, subtract the mean image, erase (with the mean image). (B, 3, H, W) uint8 -> float32."""
    images = augment.random_flip(images, settings.flip_probability, generator)
    return augment.random_erasing(prepared(images, mean), settings.erasing_probability, generator)


def sampler_of(run: Run) -> PairSampler:
    subset = run.dataset.train
    return PairSampler(subset.labels, subset.cameras, run.settings.pairs_per_batch, seed=run.seed)


def images_per_epoch(run: Run) -> int:
    """Pairs: whole batches of them. For progress and estimates."""
    return sampler_of(run).num_batches(1) * run.settings.pairs_per_batch


def train(run: Run) -> MutualAttentionNet:
    """The whole training of a run, from its last finished epoch on; returns the network of the last epoch."""
    settings, device, subset = run.settings, run.device, run.dataset.train
    sampler = sampler_of(run)
    store = ImageStore(subset, settings.height, settings.width, cache=settings.cache)
    mean = mean_image_of(run)
    labels = torch.from_numpy(subset.labels)
    watched = watched_pairs(run)

    run.seed_epoch(0)
    model = MutualAttentionNet(subset.num_identities, settings).to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(
        model.parameters(), lr=settings.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay
    )
    scaler = run.gradient_scaler()
    parts = {"model": model, "optimiser": optimiser, "scaler": scaler}
    last_epoch = run.restore(**parts)

    if last_epoch == 0:
        say_rms_of_first_step(model)
    network = distributed.parallel(model.train(), device)
    meter = Meter(run, settings.num_epochs, images_per_epoch(run), last_epoch=last_epoch)
    for epoch in range(last_epoch + 1, settings.num_epochs + 1):
        run.seed_epoch(epoch)
        rate = learning_rate(epoch, settings)
        for group in optimiser.param_groups:
            group["lr"] = rate
        pairs = list(sampler.batches(epoch))
        both = store.batches((np.concatenate([first, second]) for first, second, _ in pairs), device)
        for step, (indices, images) in enumerate(both):
            generator = run.batch_generator(epoch, step)
            first, second = (augmented(half, mean, settings, generator) for half in images.chunk(2))
            batch = Batch(run.to_device(labels[indices]), run.to_device(pairs[step].same))
            with run.autocast():
                output = network(first, second)
            terms = losses(output, batch, settings)

            optimiser.zero_grad(set_to_none=True)
            scaler.scale(terms["loss"]).backward()
            scaler.step(optimiser)
            scaler.update()
            meter.update(terms, len(first))  # anchors; each comes with a partner
        meter.finish_epoch(parts, activity(model, run, watched, mean), learning_rate=rate)
    meter.close()
    return model


def embedder(model: MutualAttentionNet, run: Run, mean: Tensor, descriptor: str | None = None) -> Embed:
    """A batch of images (B, 3, H, W) uint8 -> test features (B, D), at the run's device and precision.

    descriptor: as in `MutualAttentionNet.embed`.
    """

    def embed(images: Tensor) -> Tensor:
        with run.autocast():
            return model.embed(prepared(run.to_device(images), mean), descriptor)

    return embed


def verifier(model: MutualAttentionNet, run: Run, mean: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Two batches of images (B, 3, H, W) uint8 -> how probably each pair shows one person, (B,) on the CPU."""

    @torch.inference_mode()
    def verify(first: Tensor, second: Tensor) -> Tensor:
        with run.autocast():
            return model.same_probability(*(prepared(run.to_device(images), mean) for images in (first, second))).cpu()

    return verify


def scores_of(model: MutualAttentionNet, run: Run) -> dict:
    """What a record keeps: the first search's scores, and by name those of the other searches, of the first search with
    each other descriptor, of the verifier, and `mean_losses`, over the epochs (lower is faster)."""
    dataset, settings, mean = run.dataset, run.settings, mean_image_of(run)
    searches = evaluate(
        embedder(model, run, mean), dataset, settings, rerank=True, multi_query="multi_query" in dataset.subsets
    )
    first = dataset.searches[0].name
    scores = searches.pop(first) | searches  # what papers report first is not nested
    for descriptor in model.descriptors:
        if descriptor != model.descriptor:
            scores[descriptor] = evaluate(embedder(model, run, mean, descriptor), dataset, settings)[first]
    scores["verification"] = verification_scores(model, run, mean)
    if log := run.history.log:
        terms = ("identification_loss", "verification_loss")
        scores["mean_losses"] = {term: sum(entry[term] for entry in log) / len(log) for term in terms}
    return scores


@command
def main(argv: list[str] | None = None) -> None:
    run = open_run(__package__, Settings, argv)
    run.begin()
    model = train(run).eval()
    image = torch.empty(1, 3, run.settings.height, run.settings.width)
    run.finish(scores_of(model, run), model_size(DescriptorPath(model), image))


if __name__ == "__main__":
    main()
