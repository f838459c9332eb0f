"""Train and evaluate FGSAM: `--demo` on synthetic pedestrians, `--data-root DIR` on real data, `--help` for more."""

from collections.abc import Callable
from itertools import repeat

import torch
from torch import Tensor

from common import augment, distributed, evaluation
from common.complexity import model_size
from common.errors import command
from common.images import ImageStore
from common.runs import Meter, Run, open_run
from common.samplers import IdentitySampler

from .attribute_tasks import AttributeTable, attribute_scores, read_table
from .losses import Batch, losses
from .model import FGSAM, Baseline, network_of_phase
from .phases import hand_on, load_pose_net, phase_file, phase_identity, write_phase
from .pose_upkeep import PoseUpkeep, pose_of, pose_weights
from .pretrain_pose import pose_run_for
from .settings import Settings


def learning_rate(phase: int, epoch: int, settings: Settings) -> float:
    """Sec. IV-B: halved after every `halving_epochs` of the phase; epochs of the phase count from 1."""
    return settings.learning_rates[phase - 1] * 0.5 ** ((epoch - 1) // settings.halving_epochs[phase - 1])


def build_optimiser(model: Baseline | FGSAM, phase: int, settings: Settings, *, fused: bool) -> torch.optim.Adam:
    """Adam; what phase 0 trained has a rate of its own, `pose_rate` of the phase's."""
    pose = pose_of(model) if isinstance(model, FGSAM) else []
    known = {id(parameter) for parameter in pose}
    others = [parameter for parameter in model.parameters() if id(parameter) not in known]
    groups = [{"params": own, "share": share} for own, share in ((others, 1.0), (pose, settings.pose_rate)) if own]
    rate = settings.learning_rates[phase - 1]
    return torch.optim.Adam(groups, lr=rate, weight_decay=settings.weight_decay, fused=fused)


def augmented(images: Tensor, settings: Settings, generator: torch.Generator) -> Tensor:
    """Flip and normalise. (B, 3, H, W) uint8 -> float32, channels last."""
    return prepared(augment.random_flip(images, settings.flip_probability, generator))


def prepared(images: Tensor) -> Tensor:
    """What the network sees at test time. (B, 3, H, W) uint8 -> float32, channels last."""
    return augment.normalise(images).contiguous(memory_format=torch.channels_last)


def sampler_of(run: Run) -> IdentitySampler:
    settings, labels = run.settings, run.dataset.train.labels
    return IdentitySampler(labels, settings.identities_per_batch, settings.images_per_identity, seed=run.seed)


def images_per_epoch(run: Run) -> int:
    """More than there are, as identities with few images are filled up to K. For progress and estimates."""
    return sampler_of(run).num_batches(1) * run.settings.identities_per_batch * run.settings.images_per_identity


def train(run: Run) -> Baseline | FGSAM:
    """All phases of a run in turn, from its last finished epoch on; returns the network of the last phase."""
    table, last_epoch = read_table(run), run.restore()
    for phase in run.settings.phases:
        if last_epoch <= run.settings.epochs_until(phase):
            model = train_phase(run, phase, table, last_epoch)
    return model


def train_phase(run: Run, phase: int, table: AttributeTable, last_epoch: int) -> Baseline | FGSAM:
    """One phase, from the weights of the one before; writes phase<N>.pth for the next.

    last_epoch: the run's last finished one; epochs count through all phases.
    """
    settings, device, subset = run.settings, run.device, run.dataset.train
    sampler = sampler_of(run)
    store = ImageStore(subset, settings.height, settings.width, cache=settings.cache)
    labels, attributes = torch.from_numpy(subset.labels), torch.from_numpy(table.labels(subset))

    run.seed_epoch(0)
    model = network_of_phase(phase, subset.num_identities, table.num_values, settings)
    model = model.to(device, memory_format=torch.channels_last)
    optimiser = build_optimiser(model, phase, settings, fused=run.fused)
    scaler = run.gradient_scaler()
    parts = {"model": model, "optimiser": optimiser, "scaler": scaler}
    before, end = settings.epochs_until(phase - 1), settings.epochs_until(phase)
    if last_epoch > before:
        run.restore(**parts)
    else:
        last_epoch = before
        hand_on(run, phase, model)
        if phase == 2 and settings.pose_weights != "none":
            load_pose_net(model.pose_net, pose_weights(run), run.paper, settings)
    upkeep = PoseUpkeep(run) if phase > 1 and end > last_epoch else None

    network = distributed.parallel(model.train(), device)
    meter = Meter(run, end, images_per_epoch(run), last_epoch=last_epoch)
    for epoch in range(last_epoch + 1, end + 1):
        run.seed_epoch(epoch)
        rate = learning_rate(phase, epoch - before, settings)
        for group in optimiser.param_groups:
            group["lr"] = rate * group["share"]
        pose_batches = upkeep.batches(epoch, sampler.num_batches(epoch)) if upkeep else repeat(None)
        batches = zip(store.batches(sampler.batches(epoch), device), pose_batches, strict=False)
        for step, ((indices, images), pose_batch) in enumerate(batches):
            images = augmented(images, settings, run.batch_generator(epoch, step))
            pose_images = (prepared(run.to_device(pose_batch.images)),) if pose_batch else ()
            with run.autocast():
                output = network(images, *pose_images)
            asked = upkeep.asked(images, pose_batch) if upkeep else None
            batch = Batch(run.to_device(labels[indices]), run.to_device(attributes[indices]), phase, asked)
            terms = losses(output, batch, settings)

            optimiser.zero_grad(set_to_none=True)
            scaler.scale(terms["loss"]).backward()
            scaler.step(optimiser)
            scaler.update()
            meter.update(terms, len(indices))
        watched = upkeep.joint_error(model.pose_net) if upkeep else {}
        meter.finish_epoch(parts, watched, learning_rate=rate, phase=phase)
    meter.close()
    if distributed.is_main():
        write_phase(phase_file(run.directory, phase), phase_identity(run, phase), model)
    distributed.barrier()
    return model


def embedder(model: Baseline | FGSAM, run: Run) -> Callable[[Tensor], Tensor]:
    """A batch of images (B, 3, H, W) uint8 -> test features (B, D), at the run's device and precision."""

    def embed(images: Tensor) -> Tensor:
        with run.autocast():
            return model.embed(prepared(run.to_device(images)))

    return embed


def attribute_predictor(model: FGSAM, run: Run) -> Callable[[Tensor], dict[str, Tensor]]:
    """A batch of images (B, 3, H, W) uint8 -> {task: (B, values) probabilities, on the CPU}."""

    def predict(images: Tensor) -> dict[str, Tensor]:
        with run.autocast():
            output = model(prepared(run.to_device(images)))
        return {task: logits.float().softmax(1).cpu() for task, logits in output.attribute_logits.items()}

    return predict


@command
def main(argv: list[str] | None = None) -> None:
    run = open_run(__package__, Settings, argv)
    settings, table = run.settings, read_table(run)
    if 2 in settings.phases and (settings.pose_weights == "auto" or settings.pose_loss == "joints"):
        pose_run_for(run)  # fails now, not after phase 1, where phase 0's data are missing
    run.begin()
    model = train(run).eval()
    scores = evaluation.evaluate_first_search(embedder(model, run), run.dataset, settings)
    if settings.phases[-1] > 1:
        scores["joints"] = PoseUpkeep(run).scores()
    if table.values:
        scores["attributes"] = attribute_scores(attribute_predictor(model, run), run, table)
    run.finish(scores, model_size(model, torch.empty(1, 3, settings.height, settings.width)))


if __name__ == "__main__":
    main()
