"""Phase 0, the training of the pose resolve net: `--demo`, or `--data-root DIR` for COCO, `--help` for more.

Its weights are `pose_nets/<dataset>-<kind>-<key>-s<seed>/pose_net.pth` beside the paper's runs, with a key of settings,
images and source code. It is scored on people whom it has not seen. Where the weights exist already it is only scored,
unless --force trains it again; an interrupted training always resumes.
"""

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from common import augment, datasets, devices, distributed
from common.errors import UserError, command
from common.images import ImageStore
from common.runs import Meter, Run, opening, record
from common.runs import settings as run_settings

from .ground_truth import affinity_fields, confidence_maps, flip_joints, loss_weights, pose_losses, to_cells
from .phases import pose_identity, write_phase
from .pose_data import PoseBatch, PoseImages, open_pose_images
from .pose_net import PoseNet
from .pose_scores import joint_scores, joints_sheet, mean_joints, predict_joints, prepared
from .settings import PoseSettings, Settings

PROGRAM = "pretrain_pose"
WAIT_SECONDS = 60  # between two messages


def program_settings(settings: Settings) -> PoseSettings:
    """Those of a run's settings that phase 0 depends on."""
    return PoseSettings(**{name: getattr(settings, name) for name in PoseSettings.__dataclass_fields__})


def pose_run(
    paper: str,
    settings: PoseSettings,
    dataset: datasets.DataSet,
    seed: int,
    device: torch.device,
    *,
    force: bool = False,
) -> Run:
    """The run that trains a pose resolve net, in a directory of its own for each data set, setting and source code."""
    key = f"{run_settings.settings_hash(settings)[:8]}-{dataset.fingerprint[:4]}-{source_of(paper)[:8]}"
    folder = record.program_directory(paper, PROGRAM, dataset).with_name("pose_nets")
    directory = folder / f"{dataset.name}-{dataset.kind}-{key}-s{seed}"
    return Run(paper, dataset, PROGRAM, settings, seed, device, directory, resume=True, force=force, program=PROGRAM)


@cache  # edits while a run trains do not count
def source_of(paper: str) -> str:
    """The hash of phase 0's source code."""
    return record.source_hash(f"{paper}.{PROGRAM}")


def pose_run_for(run: Run) -> Run:
    """The run of phase 0 that a training run builds on. UserError where its data set is not found.

    Its data set is `pose_dataset`, beside the run's own or generated at the same size; its seed is the run's.
    """
    settings = program_settings(run.settings)
    root = run.dataset.folder.parent if run.dataset.kind not in ("demo", "full") else None
    with distributed.main_process_first():  # it may have to generate the data
        dataset = datasets.open_dataset(settings.pose_dataset, root, size=run.dataset.kind)
    return pose_run(run.paper, settings, dataset, run.seed, run.device)


def pose_file(run: Run) -> Path:
    return run.directory / "pose_net.pth"


def trained_pose_net(run: Run) -> Path:
    """The weights of a run of phase 0, which is trained first where they do not exist."""
    file = pose_file(run)
    with one_at_a_time(run):
        if not file.is_file():
            if distributed.is_main():
                print(f"phase 0: no pose resolve net at {file}, training it first", file=sys.stderr)
            people, _ = open_pose_images(run.dataset, run.settings)
            run.begin()
            train(run, people)
    return file


@contextmanager
def one_at_a_time(run: Run) -> Iterator[None]:
    """Wait while another run trains the same pose resolve net: several runs may need it at once."""
    lock = FileLock(run.directory.with_name(f".{run.directory.name}.training.lock"))
    lock_is_ours = False
    if distributed.is_main():
        run.directory.parent.mkdir(parents=True, exist_ok=True)
    while not lock_is_ours:
        if distributed.is_main():
            with suppress(Timeout):
                lock.acquire(timeout=WAIT_SECONDS)
        # The other processes wait here, for less than the time-out of a collective operation.
        lock_is_ours = distributed.gather_objects(lock.is_locked)[0]
        if distributed.is_main() and not lock_is_ours:
            print(f"phase 0: another run trains {pose_file(run)}, waiting for it", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        lock.release()


def learning_rate(progress: float, settings: PoseSettings) -> float:
    """A cosine from pose_learning_rate to 0 (ASSUMED). progress: through the training, from 0 to 1."""
    return settings.pose_learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def flipped(batch: PoseBatch, probability: float, generator: torch.Generator) -> PoseBatch:
    """Mirror each image with the given probability, and its joints, boxes and ignored cells with it."""
    chosen = augment.choose(len(batch.images), probability, generator)
    x_min, y_min, x_max, y_max = batch.boxes.unbind(-1)
    boxes = torch.where(chosen[:, None, None], torch.stack([1 - x_max, y_min, 1 - x_min, y_max], -1), batch.boxes)
    ignored = torch.where(chosen[:, None, None], batch.ignored.flip(2), batch.ignored)
    return PoseBatch(augment.flip(batch.images, chosen), flip_joints(batch.joints, chosen), boxes, ignored)


def targets(batch: PoseBatch, settings: PoseSettings, device: torch.device) -> tuple[Tensor, Tensor]:
    """The maps and fields that the net should give for a batch, and W of eq. 3-4: (B, 57, h, w) each."""
    rows, columns = batch.ignored.shape[1:]
    joints, boxes, ignored = (devices.to_device(part, device) for part in (batch.joints, batch.boxes, batch.ignored))
    joints = torch.cat([to_cells(joints[..., :2], rows, columns), joints[..., 2:]], dim=-1)
    boxes = to_cells(boxes.unflatten(-1, (2, 2)), rows, columns).flatten(-2)
    maps = confidence_maps(joints, rows, columns, sigma=settings.pose_sigma)
    fields = affinity_fields(joints, rows, columns, limb_width=settings.pose_limb_width)
    return torch.cat([maps, fields], dim=1), loss_weights(joints, boxes, ignored)


def train(run: Run, people: PoseImages) -> PoseNet:
    """The whole training of a pose resolve net, from its last finished epoch on; writes pose_net.pth at its end."""
    settings, device = run.settings, run.device
    run.seed_epoch(0)
    model = PoseNet(settings, cpb=False, pretrained=settings.pose_pretrained)
    model = model.to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.pose_learning_rate, fused=run.fused)
    scaler = run.gradient_scaler()
    parts = {"model": model, "optimiser": optimiser, "scaler": scaler}
    last_epoch = run.restore(**parts)

    network = distributed.parallel(model.train(), device)
    num_steps = -(-len(people) // settings.pose_batch)
    meter = Meter(run, settings.pose_epochs, len(people), last_epoch=last_epoch)
    for epoch in range(last_epoch + 1, settings.pose_epochs + 1):
        run.seed_epoch(epoch)
        order = np.random.default_rng([run.seed, epoch]).permutation(len(people))
        own = (indices[distributed.rank() :: distributed.world_size()] for indices in np.array_split(order, num_steps))
        for step, batch in enumerate(ImageStore.read_ahead(own, people.batch)):
            rate = learning_rate((epoch - 1 + step / num_steps) / settings.pose_epochs, settings)
            for group in optimiser.param_groups:
                group["lr"] = rate
            batch = flipped(batch, settings.pose_flip_probability, run.batch_generator(epoch, step))
            wanted, weights = targets(batch, settings, device)
            with run.autocast():
                stages = network(prepared(run.to_device(batch.images)))
            terms = pose_losses(stages, wanted, weights)

            optimiser.zero_grad(set_to_none=True)
            scaler.scale(terms["loss"]).backward()
            scaler.step(optimiser)
            scaler.update()
            meter.update(terms, len(batch.images))
        meter.finish_epoch(parts, learning_rate=rate)
    meter.close()
    if distributed.is_main():
        write_phase(pose_file(run), pose_identity(run.paper, settings), model)
    distributed.barrier()
    return model


@command
def main(argv: list[str] | None = None) -> None:
    started = time.monotonic()
    parser = opening.training_command_line(__package__, dataset="auto")
    parser.prog, parser.description = f"python -m {__package__}.{PROGRAM}", "Train the pose resolve net (phase 0)."
    arguments = parser.parse_args(argv)
    if arguments.seed != 0:
        raise UserError(
            f"the record of phase 0 is that of seed 0: leave --seed out. `python -m {__package__}.train --seed "
            f"{arguments.seed}` trains the pose resolve net of its own seed where it is missing"
        )
    settings = run_settings.load_settings(
        Settings,
        Path(__file__).parent,
        dataset="",
        demo=arguments.demo,
        variant=arguments.variant,
        overrides=run_settings.parse_overrides(arguments.set),
    )
    settings = program_settings(settings)
    if arguments.dataset == "auto":
        arguments.dataset = settings.pose_dataset
    device = distributed.initialise(devices.select_device(arguments.device))
    dataset = opening.dataset_of(arguments)
    run = pose_run(__package__, settings, dataset, arguments.seed, device, force=arguments.force)
    run.directory = arguments.run_dir or run.directory
    people, unseen = open_pose_images(dataset, settings)
    with one_at_a_time(run):
        if run.force or not pose_file(run).is_file():
            run.begin()
        model = train(run, people).eval()
    if distributed.is_main():
        report(run, model, people, unseen, started)


def report(run: Run, model: PoseNet, people: PoseImages, unseen: PoseImages, started: float) -> None:
    """Score the net on people whom it has not seen, write the record and joints.png, and print the scores."""
    predicted, true = predict_joints(model, unseen, run)
    scores = joint_scores(predicted, true, mean_joints(people), run.settings)
    shown = np.linspace(0, len(unseen) - 1, 6).astype(int)
    joints_sheet(unseen.batch(shown).images, predicted[shown], true[shown], run.directory / "joints.png")
    record.write_program_record(
        run.paper,
        PROGRAM,
        run.dataset,
        scores=scores,
        settings=run_settings.settings_dict(run.settings),
        started=started,
        config_hash=run_settings.settings_hash(run.settings),
        device=run.device,
        precision=run.precision,
    )
    print(
        f"{run.directory.name}: the joints are {scores['joint_distance']:.1%} of the image's height from the true "
        f"joints; the training set's mean joints {scores['mean_joints_distance']:.1%} ({pose_file(run)})"
    )


if __name__ == "__main__":
    main()
