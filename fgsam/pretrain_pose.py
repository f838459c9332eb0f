"""Phase 0, the pose resolve net's own training: `python -m fgsam.pretrain_pose --demo`, or `--data-root DIR` for COCO.

Its weights are `runs/fgsam/pose_nets/<dataset>-<kind>-<settings>-s<seed>/pose_net.pth`. What it learned is measured on
people that it has not seen: the mean distance between predicted and true joints, beside that of always answering the
training set's mean joints. Where the weights are there already they are only measured (--force trains them again); an
interrupted training goes on by itself.
"""

import math
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common import augment, distributed, hardware
from common.command_line import command_line, find_data_root
from common.config import config_hash, load_config, parse_overrides
from common.datasets import open_dataset
from common.datasets.base import DataSet
from common.datasets.poses import COCO_JOINTS
from common.errors import command
from common.program_record import write_program_record
from common.provenance import paper_folder
from common.runs import Run, runs_folder

from .figures import joints_sheet
from .ground_truth import affinity_fields, confidence_maps, find_joints, flip_joints, loss_weights, pose_loss, to_cells
from .phases import pose_identity, write_phase
from .pose_data import PoseBatch, PoseImages, open_pose_images
from .pose_net import PoseNet
from .settings import Config, PoseConfig, pose_settings

STRIDE = 8  # of the maps
SEEN = 2  # COCO's v of a joint that can be seen


def pose_run(paper: str, config: PoseConfig, dataset: DataSet, seed: int, device: torch.device) -> Run:
    """The run that trains a pose resolve net, in a directory of its own for each data set and setting."""
    key = f"{config_hash(config)[:8]}-{dataset.fingerprint[:4]}"
    directory = runs_folder() / paper / "pose_nets" / f"{dataset.name}-{dataset.kind}-{key}-s{seed}"
    return Run(paper, dataset, "pretrain_pose", config, seed, device, directory)


def pose_file(run: Run) -> Path:
    return run.directory / "pose_net.pth"


def build_pose_net(config: PoseConfig, pretrained: str) -> PoseNet:
    return PoseNet(width=config.pose_width_factor, batch_norm=config.pose_batch_norm, cpb=False, pretrained=pretrained)


def targets(batch: PoseBatch, config: PoseConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """What the net should give for a batch, and W of eq. 3-4: (B, 57, h, w) each."""
    rows, columns = batch.ignored.shape[1:]
    joints, boxes = batch.joints.to(device), batch.boxes.to(device)
    joints = torch.cat([to_cells(joints[..., :2], rows, columns), joints[..., 2:]], dim=-1)
    boxes = to_cells(boxes.unflatten(-1, (2, 2)), rows, columns).flatten(-2)
    maps = confidence_maps(joints, rows, columns, sigma=config.pose_sigma)
    fields = affinity_fields(joints, rows, columns, limb_width=config.pose_limb_width)
    return torch.cat([maps, fields], dim=1), loss_weights(joints, boxes, batch.ignored.to(device))


def flipped(batch: PoseBatch, probability: float, generator: torch.Generator) -> PoseBatch:
    """Each image mirrored with the given probability, and all that belongs to it."""
    chosen = augment.choose(len(batch.images), probability, generator)
    x_min, y_min, x_max, y_max = batch.boxes.unbind(-1)
    boxes = torch.where(chosen[:, None, None], torch.stack([1 - x_max, y_min, 1 - x_min, y_max], -1), batch.boxes)
    ignored = torch.where(chosen[:, None, None], batch.ignored.flip(2), batch.ignored)
    return PoseBatch(augment.flip(batch.images, chosen), flip_joints(batch.joints, chosen), boxes, ignored)


def train(run: Run, people: PoseImages) -> PoseNet:
    """The whole training of a pose resolve net, from its last finished epoch on; writes pose_net.pth at its end."""
    config, device = run.config, run.device
    rows, columns = config.pose_image_height // STRIDE, config.pose_image_width // STRIDE
    run.seed_epoch(0)
    model = build_pose_net(config, config.pose_pretrained).to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(model.parameters(), lr=config.pose_learning_rate)
    scaler = run.gradient_scaler()
    parts = {"model": model, "optimiser": optimiser, "scaler": scaler}
    last_epoch = run.restore(**parts)
    num_steps = -(-len(people) // config.pose_batch)

    network = distributed.parallel(model.train(), device)
    progress = run.progress(last_epoch, config.pose_epochs)
    progress.reset(total=config.pose_epochs * len(people))
    progress.update(last_epoch * len(people))
    for epoch in range(last_epoch + 1, config.pose_epochs + 1):
        run.seed_epoch(epoch)
        order = np.random.default_rng([run.seed, epoch]).permutation(len(people))
        sums = defaultdict(float)
        for step, indices in enumerate(np.array_split(order, num_steps)):
            done = (epoch - 1 + step / num_steps) / config.pose_epochs
            rate = config.pose_learning_rate * 0.5 * (1 + math.cos(math.pi * done))  # ASSUMED
            for group in optimiser.param_groups:
                group["lr"] = rate
            generator = augment.batch_generator(run.seed, epoch, step, distributed.rank())
            own = indices[distributed.rank() :: distributed.world_size()]
            batch = flipped(people.batch(own, rows, columns), config.flip_probability, generator)
            wanted, weights = targets(batch, config, device)
            images = augment.normalise(batch.images.to(device)).contiguous(memory_format=torch.channels_last)
            with run.autocast():
                stages = network(images)
            maps_loss, fields_loss = pose_loss(stages, wanted, weights)
            loss = maps_loss + fields_loss

            terms = {"loss": loss.item(), "maps_loss": maps_loss.item(), "fields_loss": fields_loss.item()}
            run.check_finite(terms, epoch, step)

            optimiser.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            scaler.step(optimiser)
            scaler.update()

            for name, value in terms.items():
                sums[name] += value
            progress.update(len(indices))
        entry = {name: value / num_steps for name, value in sums.items()} | {"learning_rate": rate}
        run.finish_epoch(epoch, entry, len(people), **parts)
    progress.close()
    if distributed.is_main():
        write_phase(pose_file(run), pose_identity(run.paper, config), model)
    distributed.barrier()
    return model


def trained_pose_net(run: Run) -> Path:
    """The file of a run's pose resolve net, trained first where it is not there yet."""
    if not pose_file(run).is_file():
        print(f"phase 0: no pose resolve net at {pose_file(run)}, training it first", file=sys.stderr)
        people, _ = open_people(run)
        run.begin(resume=True, force=False)
        train(run, people)
    return pose_file(run)


def open_people(run: Run) -> tuple[PoseImages, PoseImages]:
    config = run.config
    with distributed.main_process_first():  # it may have to decode the images
        return open_pose_images(run.dataset, config.pose_image_height, config.pose_image_width, cache=config.cache)


@torch.inference_mode()
def predict(model: PoseNet, people: PoseImages, run: Run) -> tuple[Tensor, Tensor]:
    """Predicted joints (N, 17, 2) and true ones (N, 17, 3) of each image's person, in parts of the image."""
    config = run.config
    rows, columns = config.pose_image_height // STRIDE, config.pose_image_width // STRIDE
    predicted, true = [], []
    for indices in np.array_split(np.arange(len(people)), -(-len(people) // 128)):
        batch = people.batch(indices, rows, columns)
        images = augment.normalise(batch.images.to(run.device)).contiguous(memory_format=torch.channels_last)
        with run.autocast():
            maps = model(images)[-1]
        predicted.append(find_joints(maps)[:, : len(COCO_JOINTS), :2].cpu())
        true.append(batch.joints[:, 0, : len(COCO_JOINTS)])
    return torch.cat(predicted), torch.cat(true)


def mean_joints(people: PoseImages, config: PoseConfig) -> Tensor:
    """The mean place of each joint over the images that show it, (17, 2) in parts of the image; of COCO over 5,000."""
    drawn = np.random.default_rng(0).permutation(len(people))[:5000]
    chunks = np.array_split(drawn, -(-len(drawn) // 500))
    joints = torch.cat([people.batch(indices, 1, 1).joints[:, 0, : len(COCO_JOINTS)] for indices in chunks])
    seen = (joints[..., 2:] == SEEN).float()
    return (joints[..., :2] * seen).sum(0) / seen.sum(0).clamp(min=1)


def joint_scores(predicted: Tensor, true: Tensor, mean: Tensor, config: PoseConfig) -> dict[str, float]:
    """Mean distances to the true joints that can be seen, in parts of the image's height."""
    size = torch.tensor([config.pose_image_width / config.pose_image_height, 1.0])
    seen = true[..., 2] == SEEN

    def distance(places: Tensor) -> float:
        return ((places - true[..., :2]) * size).norm(dim=-1)[seen].mean().item()

    return {"joint_distance": distance(predicted), "mean_joints_distance": distance(mean.expand_as(predicted))}


@command
def main(argv: list[str] | None = None) -> None:
    started = time.monotonic()
    paper = __package__
    parser = command_line(paper, dataset="auto")
    parser.prog, parser.description = f"python -m {paper}.pretrain_pose", "Train FGSAM's pose resolve net (phase 0)."
    arguments = parser.parse_args(argv)
    settings = load_config(
        Config,
        paper_folder(paper),
        dataset="",
        demo=arguments.demo,
        variant=arguments.variant,
        overrides=parse_overrides(arguments.set),
    )
    config = pose_settings(settings)
    name = config.pose_dataset if arguments.dataset == "auto" else arguments.dataset
    device = distributed.initialise(hardware.select_device(arguments.device))
    with distributed.main_process_first():  # it may have to draw the data
        dataset = open_dataset(name, find_data_root(arguments), size="demo" if arguments.demo else "full")
    run = pose_run(paper, config, dataset, arguments.seed, device)
    run.directory = arguments.run_dir or run.directory
    people, unseen = open_people(run)
    if arguments.force or not pose_file(run).is_file():
        run.begin(resume=True, force=arguments.force)
    model = train(run, people).eval()

    if distributed.is_main():
        predicted, true = predict(model, unseen, run)
        scores = joint_scores(predicted, true, mean_joints(people, config), config)
        shown = np.linspace(0, len(unseen) - 1, 6).astype(int)
        joints_sheet(unseen.batch(shown, 1, 1).images, predicted[shown], true[shown], run.directory / "joints.png")
        write_program_record(
            paper,
            "pretrain_pose",
            dataset,
            scores=scores,
            settings={name: getattr(config, name) for name in PoseConfig.__dataclass_fields__},
            started=started,
            device=device,
            precision=run.precision,
        )
        print(
            f"{run.directory.name}: {scores['joint_distance']:.1%} of the image's height from the true joints, the "
            f"training set's mean joints {scores['mean_joints_distance']:.1%} ({pose_file(run)})"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
