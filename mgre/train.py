"""Train and evaluate MGRe: `--demo` on synthetic pedestrians, `--data-root DIR` on the real data, `--help` for more."""

from collections.abc import Callable

import torch
from torch import Tensor

from common import augment, distributed
from common.datasets.base import Subset
from common.datasets.poses import read_joints
from common.errors import UserError, command
from common.images import ImageStore
from common.runs import Meter, Run, open_run
from common.samplers import IdentitySampler

from .activity import BoxGradients, location_activity, predicted_boxes, watched_people
from .losses import Batch, losses
from .model import MGRe, weighted
from .regions import boxes_from_poses, flip_joints, margins_of, mean_boxes, target_boxes
from .scores import StageEmbed, network_size, score
from .settings import Settings


def learning_rate(epochs_done: float, settings: Settings) -> float:
    """Sec. 4.2, after so many epochs, fractions of an epoch included: a linear warm-up, then steps down."""
    if epochs_done < settings.warmup_epochs:
        progress = epochs_done / settings.warmup_epochs
        return settings.learning_rate * (settings.warmup_start + (1 - settings.warmup_start) * progress)
    return settings.learning_rate * settings.decay_factor ** sum(
        epochs_done >= decay for decay in settings.decay_epochs
    )


def augmented(
    images: Tensor, joints: Tensor | None, settings: Settings, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Sec. 4.2: flip, normalise, erase; the joints follow the flip. (B, 3, H, W) uint8 -> float32, channels last."""
    chosen = augment.choose(len(images), settings.flip_probability, generator)
    images = augment.normalise(augment.flip(images, chosen))  # flips bytes: cheaper, and the same
    images = augment.random_erasing(images, settings.erasing_probability, generator)
    flipped_joints = None if joints is None else flip_joints(joints, chosen)
    return images.contiguous(memory_format=torch.channels_last), flipped_joints


def prepared(images: Tensor) -> Tensor:
    """What the network sees at test time. (B, 3, H, W) uint8 -> float32, channels last."""
    return augment.normalise(images).contiguous(memory_format=torch.channels_last)


def training_joints(run: Run, subset: Subset) -> Tensor:
    """(N, 17, 3), as `read_joints` gives them. UserError, naming variants that need none: no usable file of poses, or
    none of the test images for a network whose boxes come from it."""
    try:
        for searched in (run.dataset.query, run.dataset.gallery) if run.settings.pose_boxes else ():
            read_joints(run.dataset, searched)
        return read_joints(run.dataset, subset)
    except UserError as error:
        raise UserError(
            f"this variant learns from poses: {error}\n"
            "       or train a variant that needs none: --variant baseline or --variant single_grained_regions"
        ) from None


def sampler_of(run: Run) -> IdentitySampler:
    settings = run.settings
    subset, _ = run.dataset.hold_out(settings.validation_identities)
    return IdentitySampler(subset.labels, settings.identities_per_batch, settings.images_per_identity, seed=run.seed)


def build_optimiser(model: MGRe, settings: Settings, *, fused: bool) -> torch.optim.Adam:
    """Adam; weight decay is in the gradient, in that of the location modules as `location_decay` says."""
    location = [p for name, p in model.named_parameters() if ".location." in name]
    known = {id(parameter) for parameter in location}
    groups: list[dict] = [{"params": [p for p in model.parameters() if id(p) not in known]}]
    if location:
        decay = 0.0 if settings.location_decay == "none" else settings.weight_decay
        decoupled = settings.location_decay == "decoupled"
        groups.append({"params": location, "weight_decay": decay, "decoupled_weight_decay": decoupled})
    return torch.optim.Adam(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=fused)


def images_per_epoch(run: Run) -> int:
    """More than there are, as identities with few images are filled up to K. For progress and estimates."""
    return sampler_of(run).num_batches(1) * run.settings.identities_per_batch * run.settings.images_per_identity


def train(run: Run, subset: Subset, joints: Tensor | None) -> MGRe:
    """The whole training of a run, from its last finished epoch on; returns the network of the last epoch.

    subset: the training images; joints: theirs, (N, 17, 3), for networks with body regions.
    """
    settings, device = run.settings, run.device
    sampler = sampler_of(run)
    store = ImageStore(subset, settings.height, settings.width, cache=settings.cache)
    labels = torch.from_numpy(subset.labels)

    run.seed_epoch(0)
    model = MGRe(subset.num_identities, settings).to(device, memory_format=torch.channels_last)
    margins, watched = margins_of(settings), None
    if joints is not None:
        mean = mean_boxes(*target_boxes(joints, margins))
        model.start_at(mean)
        watched = watched_people(run, mean) if model.box_stages else None
    optimiser = build_optimiser(model, settings, fused=run.fused)
    scaler = run.gradient_scaler()
    parts = {"model": model, "optimiser": optimiser, "scaler": scaler}
    last_epoch = run.restore(**parts)

    network = distributed.parallel(model.train(), device)
    meter = Meter(run, settings.num_epochs, images_per_epoch(run), last_epoch=last_epoch)
    for epoch in range(last_epoch + 1, settings.num_epochs + 1):
        run.seed_epoch(epoch)
        num_steps = sampler.num_batches(epoch)
        for step, (indices, images) in enumerate(store.batches(sampler.batches(epoch), device)):
            rate = learning_rate(epoch - 1 + step / num_steps, settings)
            for group in optimiser.param_groups:
                group["lr"] = rate

            generator = run.batch_generator(epoch, step)
            own_joints = None if joints is None else joints[indices]
            images, own_joints = augmented(images, own_joints, settings, generator)
            targets = known = given_boxes = None
            if own_joints is not None:
                found = target_boxes(own_joints, margins)
                targets, known = (run.to_device(part) for part in found)
                given_boxes = run.to_device(boxes_from_poses(*found)) if settings.pose_boxes else None
            with run.autocast():
                output = network(images, given_boxes)
            terms = losses(output, Batch(run.to_device(labels[indices]), targets, known), settings)

            is_last = step == num_steps - 1
            gradients = BoxGradients(output, terms) if output.boxes and is_last else None
            gradient_scale = scaler.get_scale() if gradients else 1.0
            optimiser.zero_grad(set_to_none=True)
            scaler.scale(terms["loss"]).backward()
            scaler.step(optimiser)
            scaler.update()
            meter.update(terms, len(indices))
        activity = gradients.ratios(gradient_scale) if gradients else {}
        if watched:
            with run.autocast():
                boxes = predicted_boxes(model, prepared(run.to_device(watched.images)))
            activity |= location_activity(boxes, watched, settings)
        meter.finish_epoch(parts, activity, learning_rate=rate)
    meter.close()
    return model


def stage_embedder(model: MGRe, run: Run) -> StageEmbed:
    """At the run's device and precision. Boxes are for a network that takes them from poses."""

    def embed(images: Tensor, boxes: Tensor | None = None) -> Tensor:
        boxes = None if boxes is None else run.to_device(boxes)
        with run.autocast():
            return model.stage_features(prepared(run.to_device(images)), boxes)

    return embed


def embedder(model: MGRe, run: Run) -> Callable[[Tensor], Tensor]:
    """A batch of images (B, 3, H, W) uint8 -> test features (B, S * D) of eq. 6, at the run's device and precision.

    It raises UserError where the network takes its boxes from poses: an image alone is then not enough.
    """
    embed_stages = stage_embedder(model, run)

    def embed(images: Tensor) -> Tensor:
        if run.settings.pose_boxes:
            raise UserError(
                "this variant cannot embed images alone: it takes the boxes of their regions from the file of poses. "
                f"The scores of its training run are in {run.directory / 'result.json'}"
            )
        return weighted(embed_stages(images), model.feature_weights)

    return embed


@command
def main(argv: list[str] | None = None) -> None:
    run = open_run(__package__, Settings, argv)
    settings = run.settings
    # Before the run takes its directory: there may be too few identities, or no poses.
    subset, _ = run.dataset.hold_out(settings.validation_identities)
    joints = training_joints(run, subset) if settings.needs_poses else None
    run.begin()
    model = train(run, subset, joints).eval()
    scores = score(model, stage_embedder(model, run), run)
    run.finish(scores, network_size(model, settings))


if __name__ == "__main__":
    main()
