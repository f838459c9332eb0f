"""Kill a run at random moments, resume it each time, and compare it with one that was never interrupted.

`python -m benchmarks.interruptions ndmf_net` trains both on a few synthetic pedestrians with the demo's settings. Every
third kill comes while a checkpoint is being written. Weights, optimiser state and scores must be bitwise identical.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from tqdm import tqdm

from common.datasets.synthetic import make_dataset
from common.errors import UserError, command
from common.files import PARTIAL, read_json
from common.paths import REPOSITORY
from common.runs.checkpoints import LAST

STEPS_SETTINGS = [
    "identities_per_batch=2",
    "images_per_identity=2",
    "checkpoint_epochs=1",
]  # several steps in an epoch of 32 images
POLL_SECONDS = 0.0005
PATIENCE_SECONDS = 120


def start(paper: str, data: Path, run: Path, num_epochs: int, *, resume: bool) -> subprocess.Popen:
    """Train in a new process."""
    words = [sys.executable, "-m", f"{paper}.train", "--demo", "--device", "cpu", "--data-root", str(data)]
    words += ["--run-dir", str(run), "--set", f"num_epochs={num_epochs}", *STEPS_SETTINGS]
    words += ["--resume"] if resume else []
    return subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate()
    if process.returncode:
        raise UserError(f"a run ended with exit code {process.returncode}:\n{errors}")


def kill_at_random(process: subprocess.Popen, run: Path, generator: random.Random, *, while_writing: bool) -> bool:
    """Kill the process some time after it has begun to train. False if it finished first."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    log, written = run / "log.jsonl", run / LAST
    before, begun = changed_at(log), changed_at(written)

    def training() -> bool:
        if while_writing:
            return (run / (LAST + PARTIAL)).is_file()
        return changed_at(log) > before or changed_at(written) > begun

    while process.poll() is None and time.monotonic() < deadline and not training():
        time.sleep(POLL_SECONDS)
    time.sleep(generator.uniform(0, 0.01 if while_writing else 0.6))
    finished = process.poll() is not None
    process.kill()
    process.communicate()
    return not finished


def changed_at(file: Path) -> int:
    """Nanoseconds; 0 where it is missing, as for a moment while a checkpoint becomes the previous one."""
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def differences(first: Path, second: Path) -> list[str]:
    """The tensors and scores that differ between two finished runs; empty if they are bitwise identical."""
    found = []

    def compare(name: str, one, other) -> None:
        if isinstance(one, torch.Tensor):
            if not torch.equal(one, other):
                found.append(name)
        elif isinstance(one, dict):
            for key in one.keys() | other.keys():
                compare(f"{name}.{key}", one.get(key), other.get(key))
        elif isinstance(one, (list, tuple)):
            for index, (left, right) in enumerate(zip(one, other, strict=True)):
                compare(f"{name}[{index}]", left, right)
        elif one != other:
            found.append(f"{name}: {one} and {other}")

    checkpoints = [torch.load(run / LAST, map_location="cpu", weights_only=True) for run in (first, second)]
    for part in ("model", "optimiser", "scaler", "epoch"):
        compare(part, checkpoints[0][part], checkpoints[1][part])
    compare("scores", *(read_json(run / "result.json")["scores"] for run in (first, second)))
    return sorted(found)


def interrupt_and_compare(paper: str, folder: Path, *, kills: int, num_epochs: int, seed: int) -> tuple[int, list[str]]:
    """The number of kills that hit a run in training, and what differs from the uninterrupted run."""
    data, uninterrupted, killed = folder / "data", folder / "uninterrupted", folder / "killed"
    make_dataset(data / "market1501", size="tiny", processes=1)
    finish(start(paper, data, uninterrupted, num_epochs, resume=False))
    generator = random.Random(seed)
    hits = 0
    for kill in tqdm(range(kills), desc="kills", disable=None):
        process = start(paper, data, killed, num_epochs, resume=True)
        hits += kill_at_random(process, killed, generator, while_writing=kill % 3 == 2)
    finish(start(paper, data, killed, num_epochs, resume=True))
    return hits, differences(uninterrupted, killed)


@command
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.interruptions", description=__doc__.split("\n")[0])
    parser.add_argument("paper")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=60, help="enough for all kills to come before the end")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        hits, found = interrupt_and_compare(
            arguments.paper, Path(folder), kills=arguments.kills, num_epochs=arguments.epochs, seed=arguments.seed
        )
    print(f"{hits} of {arguments.kills} kills hit a run in training")
    print("\n".join(["different:", *found]) if found else "weights, optimiser state and scores are bitwise identical")
    return 1 if found or not hits else 0


if __name__ == "__main__":
    sys.exit(main())
