"""Train and evaluate FGSAM: `python -m fgsam.train --demo`, or `--data-root DIR` for the real data."""

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from common import augment, distributed
from common.command_line import command_line
from common.complexity import count_macs, count_parameters
from common.datasets import open_dataset
from common.errors import command
from common.evaluation import evaluate_single_query
from common.images import ImageStore
from common.runs import Run
from common.samplers import IdentitySampler

from .attribute_tasks import AttributeTable, attribute_scores, read_attribute_table
from .losses import attribute_losses, focal_triplet, mean_of_positive, triplet, triplet_distances
from .model import FGSAM, Baseline, Outputs
from .phases import hand_on, load_pose_net, phase_file, phase_identity, write_phase
from .pretrain_pose import pose_run, trained_pose_net
from .settings import Config, pose_settings


def build_model(config: Config, phase: int, num_identities: int, num_values: Mapping[str, int]) -> Baseline | FGSAM:
    """The network of a phase. num_values: attribute task -> how many values it has."""
    backbone = {
        "backbone": config.backbone,
        "last_stride": config.last_stride,
        "pretrained": config.pretrained if phase == config.phases[0] == 1 else "none",  # later phases are handed theirs
        "bnneck": config.bnneck,
    }
    if phase == 1:
        return Baseline(num_identities, **backbone)
    return FGSAM(
        num_identities,
        num_values,
        phase=phase,
        **backbone,
        pose_width_factor=config.pose_width_factor,
        pose_batch_norm=config.pose_batch_norm,
        cpb=config.cpb,
        bilinear_size=config.bilinear_size,
        plenary_size=config.plenary_size,
        part_size=config.part_size,
    )


def augmented(images: Tensor, config: Config, generator: torch.Generator) -> Tensor:
    """Flip and normalise. (B, 3, H, W) uint8 -> float32, channels last."""
    images = augment.random_flip(images, config.flip_probability, generator)
    return augment.normalise(images).contiguous(memory_format=torch.channels_last)


def loss_terms(outputs: Outputs, labels: Tensor, attributes: Tensor, config: Config, phase: int) -> dict[str, Tensor]:
    """Eq. 11: identity cross-entropy, attribute cross-entropies summed over tasks (phases 2 and 3), focal triplet
    losses summed over branches (phase 3). labels: (B,); attributes: (B, tasks), of this process's images."""
    terms = {"identity_loss": functional.cross_entropy(outputs.identity_logits.float(), labels)}
    if outputs.attribute_logits:
        terms["attribute_loss"] = sum(attribute_losses(outputs.attribute_logits, attributes).values())
    if phase == 3:
        all_labels = distributed.gather(labels)
        terms["triplet_loss"] = sum(
            branch_loss(distributed.gather_with_gradient(embedding.float()), all_labels, config)
            for embedding in outputs.embeddings.values()
        )
    return terms


def branch_loss(embeddings: Tensor, labels: Tensor, config: Config) -> Tensor:
    """Eq. 10 (or eq. 9) over the triplets of a batch. embeddings: (B, D); labels: (B,)."""
    distances = triplet_distances(embeddings, labels, config.mining)
    if not config.focal:
        return mean_of_positive(triplet(*distances, alpha=config.alpha))
    constants = {"alpha": config.alpha, "beta": config.beta, "gamma": config.gamma}
    return mean_of_positive(focal_triplet(*distances, **constants, detach_weight=config.detach_weight))


def train(run: Run, table: AttributeTable | None) -> Baseline | FGSAM:
    """All phases of a run in turn, from its last finished epoch on; returns the network of the last one."""
    last_epoch = run.restore()
    for phase in run.config.phases:
        if last_epoch <= run.config.epochs_before(phase) + run.config.epochs_of(phase):
            model = train_phase(run, phase, table, last_epoch)
    return model


def train_phase(run: Run, phase: int, table: AttributeTable | None, last_epoch: int) -> Baseline | FGSAM:
    """One phase, from the weights of the one before; leaves phase<N>.pth for the next. last_epoch: of the run."""
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
    attributes = torch.from_numpy(table.labels(subset)) if table else torch.empty(len(subset), 0, dtype=torch.int64)

    run.seed_epoch(0)
    model = build_model(config, phase, subset.num_identities, table.num_values if table else {})
    model = model.to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(
        model.parameters(), lr=config.learning_rates[phase - 1], weight_decay=config.weight_decay
    )
    scaler = run.gradient_scaler()
    parts = {"model": model, "optimiser": optimiser, "scaler": scaler}
    before = config.epochs_before(phase)
    if last_epoch > before:
        run.restore(**parts)
    else:
        hand_on(run, phase, model)
        if phase == 2 and config.pose_weights != "none":
            load_pose_net(model, pose_weights(run), run.paper, config)

    network = distributed.parallel(model.train(), device)
    last_epoch, num_epochs = max(last_epoch, before), config.epochs_of(phase)
    progress = run.progress(last_epoch, before + num_epochs)
    for epoch in range(last_epoch + 1, before + num_epochs + 1):
        run.seed_epoch(epoch)
        rate = config.learning_rate(phase, epoch - before)
        for group in optimiser.param_groups:
            group["lr"] = rate
        sums, num_steps = defaultdict(float), 0
        for step, indices in enumerate(sampler.batches(epoch)):
            generator = augment.batch_generator(run.seed, epoch, step, distributed.rank())
            images = augmented(store.gather(indices).to(device), config, generator)
            with run.autocast():
                outputs = network(images)
            losses = loss_terms(outputs, labels[indices].to(device), attributes[indices].to(device), config, phase)
            loss = sum(losses.values())

            terms = {"loss": loss.item(), **{name: value.item() for name, value in losses.items()}}
            run.check_finite(terms, epoch, step)

            optimiser.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            scaler.step(optimiser)
            scaler.update()

            for name, value in terms.items():
                sums[name] += value
            num_steps += 1
            progress.update(distributed.world_size() * len(indices))
            progress.set_postfix(phase=phase, epoch=epoch, loss=f"{terms['loss']:.3f}", refresh=False)
        entry = {name: value / num_steps for name, value in sums.items()}
        entry |= {"learning_rate": rate, "phase": phase}
        batch_size = config.identities_per_batch * config.images_per_identity
        run.finish_epoch(epoch, entry, num_steps * batch_size, **parts)
    progress.close()
    leave_phase(run, phase, model)
    return model


def leave_phase(run: Run, phase: int, model: Baseline | FGSAM) -> None:
    if distributed.is_main():
        write_phase(phase_file(run.directory, phase), phase_identity(run, phase), model)
    distributed.barrier()


def pose_weights(run: Run) -> Path:
    """The pose resolve net's file of phase 0, trained first where `pose_weights: auto` finds none."""
    config = run.config
    if config.pose_weights != "auto":
        return Path(config.pose_weights).expanduser()
    return trained_pose_net(find_pose_run(run))


def find_pose_run(run: Run) -> Run:
    """The run of phase 0 with this run's pose settings; its data stand beside the run's own. UserError: not there."""
    config = run.config
    root = None if run.dataset.kind in ("demo", "full") else run.dataset.folder.parent
    dataset = open_dataset(config.pose_dataset, root, size=run.dataset.kind)
    return pose_run(run.paper, pose_settings(config), dataset, 0, run.device)


def embedder(model: Baseline | FGSAM, run: Run) -> Callable[[Tensor], Tensor]:
    """A batch of images (B, 3, H, W) uint8 -> test features (B, D), at the run's device and precision."""

    def embed(images: Tensor) -> Tensor:
        with run.autocast():
            return model.embed(augment.normalise(images.to(run.device)).contiguous(memory_format=torch.channels_last))

    return embed


def attribute_predictor(model: FGSAM, run: Run) -> Callable[[Tensor], dict[str, Tensor]]:
    """A batch of images (B, 3, H, W) uint8 -> {task: (B, values) probabilities, on the CPU}."""

    def predict(images: Tensor) -> dict[str, Tensor]:
        with run.autocast():
            outputs = model(augment.normalise(images.to(run.device)).contiguous(memory_format=torch.channels_last))
        return {task: logits.float().softmax(1).cpu() for task, logits in outputs.attribute_logits.items()}

    return predict


def read_table(run: Run) -> AttributeTable | None:
    """The attributes that a run learns; none in phase 1 or where they are left out."""
    if not run.config.attributes or run.config.phases == [1]:
        return None
    return read_attribute_table(run.dataset)


@command
def main(argv: list[str] | None = None) -> None:
    arguments = command_line(__package__).parse_args(argv)
    run = Run.from_arguments(__package__, Config, arguments)
    config = run.config
    table = read_table(run)
    if 2 in config.phases and config.pose_weights == "auto":
        find_pose_run(run)  # what is missing is said now, not after phase 1
    run.begin(resume=arguments.resume, force=arguments.force)
    model = train(run, table).eval()

    started = time.monotonic()
    scores = evaluate_single_query(embedder(model, run), run.dataset, config.height, config.width, cache=config.cache)
    if table:
        scores["attributes"] = attribute_scores(attribute_predictor(model, run), run, table)
    macs = count_macs(model, torch.empty(1, 3, config.height, config.width))
    size = {"num_parameters": count_parameters(model), "macs": macs}
    run.finish(scores, time.monotonic() - started, size)


if __name__ == "__main__":
    main(sys.argv[1:])
