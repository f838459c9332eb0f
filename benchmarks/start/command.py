"""`make start` (`python -m benchmarks start`): learn the weights that `pretrained: synthetic` names.

Draws synthetic people that no data set has, trains a ResNet-18 on their attributes, and writes its stem to layer3 with
a record beside it. Images and checkpoints are under runs/start/ until it is finished.
"""

import argparse
import json
import shutil
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.start.accuracy import accuracies, as_text, means, most_common, named_values
from benchmarks.start.attributes import KINDS, NAMES
from benchmarks.start.draw import KIND_SHARES, NUM_CAMERAS, Drawn, images_of
from benchmarks.start.train import KEPT, Training, kept_weights, train
from common import devices
from common.datasets.synthetic.difficulty import GENERATOR_VERSION
from common.datasets.synthetic.seeds import START_WORLDS
from common.errors import UserError
from common.files import write_text
from common.paths import runs_folder
from common.pretrained import SYNTHETIC_BACKBONE, WEIGHTS_FOLDER, sha256_of
from common.runs.checkpoints import save_tensors
from common.runs.lock import hold
from common.runs.provenance import describe_machine, source_commit
from common.runs.source import source_hash


def add_arguments(parser: argparse.ArgumentParser) -> None:
    drawn, training = Drawn(), Training()
    parser.add_argument("--images", type=int, default=training.images, help="to learn from, with repetition")
    parser.add_argument("--worlds", type=int, default=drawn.worlds, help="with people, places and cameras of their own")
    parser.add_argument("--persons", type=int, default=drawn.persons, help="in each world")
    parser.add_argument("--test-persons", type=int, default=drawn.test_persons, help="in a further world")
    parser.add_argument("--frames", type=int, default=drawn.frames, help="images of each person")
    parser.add_argument("--seed", type=int, default=training.seed, help="of training; the people stay the same")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--out", type=Path, default=WEIGHTS_FOLDER, help="folder of the weights and their record")
    parser.add_argument("--resume", action="store_true", help="resume after the last checkpoint, if there is one")
    parser.add_argument("--force", action="store_true", help="start from scratch, replacing what is in runs/start/")


def main(arguments: argparse.Namespace) -> int:
    drawn = Drawn(arguments.worlds, arguments.persons, arguments.frames, arguments.test_persons)
    training = Training(images=arguments.images, seed=arguments.seed)
    device = devices.select_device(arguments.device)
    devices.compute_in_full_precision(device)
    folder = runs_folder() / "start"
    hold(folder, "wait until it has ended, or stop it; nothing was changed")
    if arguments.force:
        shutil.rmtree(folder, ignore_errors=True)
    if (folder / "last.pth").is_file() and not arguments.resume:
        raise UserError(f"{folder} holds an interrupted training: add --resume, or --force to start from scratch")

    source = source_hash("benchmarks.start.command")
    about = {"generator_version": GENERATOR_VERSION, "source_hash": source}
    identity = {"drawn": asdict(drawn), "training": asdict(training), **about}
    started = time.monotonic()
    _discard_other_images(folder, identity)
    images, unseen = (
        images_of(drawn.people(test=test), drawn.frames, folder / f"{'test' if test else 'train'}.npy")
        for test in (False, True)
    )
    drawing = time.monotonic() - started
    count = len(images.pixels) + len(unseen.pixels)
    print(f"{count:,} images of {len(drawn.people(test=False)) + drawn.test_persons:,} people, {drawing:.0f} s")
    model, progress = train(images, training, device, folder / "last.pth", identity)
    table = accuracies(named_values(model, unseen, device), unseen, most_common(images))

    file = arguments.out / f"{SYNTHETIC_BACKBONE}.pth"
    arguments.out.mkdir(parents=True, exist_ok=True)
    save_tensors(file, kept_weights(model), "Free some space and add --resume")
    record = {
        "file": file.name,
        "sha256": sha256_of(file),
        "backbone": SYNTHETIC_BACKBONE,
        "kept": [name.rstrip(".") for name in KEPT],
        "drawn": {
            **asdict(drawn),
            "seeds": [START_WORLDS[world] for world in range(drawn.worlds)],
            "test_seed": START_WORLDS[drawn.worlds],
            "cameras": NUM_CAMERAS,
            "shares": dict(zip(KINDS, KIND_SHARES, strict=True)),
            "images": len(images.pixels),
            "test_images": len(unseen.pixels),
        },
        "training": {**asdict(training), "steps": training.steps, "attributes": list(NAMES), "log": progress.log},
        **about,
        "mean_accuracy": means(table),
        "accuracy": table,
        "seconds": {"draw": round(drawing, 1), "train": round(progress.seconds, 1)},
        "images_per_second": round(training.steps * min(training.batch, len(images.pixels)) / progress.seconds, 1),
        "machine": describe_machine(device, devices.select_precision("auto", device)),
        **source_commit(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(file.with_suffix(".json"), json.dumps(record, indent=1) + "\n")
    shutil.rmtree(folder)
    print(f"{as_text(table)}\nOf unseen people in an unseen world; in brackets, with the most common value\n{file}")
    return 0


def _discard_other_images(folder: Path, identity: dict) -> None:
    """Remove images that were drawn with other options, by another generator or by other source code."""
    mark = folder / "drawn.json"
    wanted = json.dumps({key: identity[key] for key in identity if key != "training"})
    if not mark.is_file() or mark.read_text() != wanted:
        for file in folder.glob("*.npy"):
            file.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    write_text(mark, wanted)
