"""What the tests on a pretend GPU share: small runs of every paper, a few steps long, with one set of optimisers."""

import functools
import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from torch import nn

from benchmarks.pretend_gpu import PretendGPU
from benchmarks.spec import known_papers, load_spec
from common import samplers
from common.datasets import reader_of
from common.datasets.synthetic import make_dataset
from common.paper import load_paper
from common.runs import Meter, Run, meter, run
from common.visualize import sheets

STEPS = 2  # of an epoch
GPU = "cuda:0"
SMALL = ["height=64", "width=32"]  # settings of every paper, and more of each paper that is tested
PAIRS = ["identities_per_batch=2", "images_per_identity=2"]
POSE_NET = ["pose_epochs=1", "pose_batch=4", "pose_image_height=64", "pose_image_width=32", "pose_width_factor=0.1"]
SMALL_OF = {
    "dfw_crossmodal": PAIRS,
    "fgsam": [*PAIRS, "bilinear_size=256", "phase_epochs=[1, 1, 1]", "num_epochs=3", *POSE_NET],
    "mgre": [*PAIRS, "validation_identities=2"],
    "mutual_attention": ["pairs_per_batch=4"],
    "ndmf_net": [*PAIRS, "num_parts=4", "ndem=false"],  # a CPU's library computes its LSTM in another order
}
PAPERS = [paper for paper in known_papers() if paper in SMALL_OF]


def command_line(paper: str, data: Path, directory: Path, *sets: str, variant: str = "full", device: str = "cpu"):
    """Of a paper's train.py: one epoch (of each phase) in float32, unless `sets`, NAME=VALUE, say otherwise."""
    places = ["--data-root", str(data), "--run-dir", str(directory)]
    settings = ["num_epochs=1", "precision=fp32", *SMALL, *SMALL_OF[paper], *sets]
    return ["--demo", *places, "--variant", variant, "--device", device, "--set", *settings]


def make_data(root: Path) -> None:
    """Every data set that these tests read, at tiny size."""
    demos = (reader_of(load_spec(paper).demo_data_sets[0]).NAME for paper in PAPERS)
    for name in {*demos, "regdb", "coco_keypoints"}:
        make_dataset(root / name, like=name, size="tiny", processes=1)


@contextmanager
def small_runs(folder: Path) -> Iterator[pytest.MonkeyPatch]:
    """Within it, epochs have STEPS steps, and both devices take the same code of the optimisers: the fused kernels that
    a GPU would take round otherwise. Decoded images and runs are in `folder`. What takes time and is tested elsewhere
    is left out: the hash of the source code, training curves, and the encoding of figures as PNG.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REID_DATA", str(folder / "data"))
        patch.setenv("REID_RUNS", str(folder / "runs"))
        patch.setattr(run, "source_hash", functools.cache(lambda module: "0" * 16))
        patch.setattr(run, "training_curves", lambda *_: None)
        patch.setattr(sheets, "_write", lambda sheet, path: Path(path).write_bytes(sheet.tobytes()))
        for sampler in (samplers.IdentitySampler, samplers.PairSampler, samplers.CrossModalitySampler):
            patch.setattr(sampler, "batches", first_steps(sampler.batches))
        patch.setattr(Run, "fused", property(lambda self: None))
        for name in ("adam", "sgd"):
            module = sys.modules[f"torch.optim.{name}"]
            patch.setattr(module, "_default_to_fused_or_foreach", lambda *_, **__: (False, True))
        yield patch


def first_steps(batches: Callable) -> Callable:
    return lambda *arguments, **named: itertools.islice(batches(*arguments, **named), STEPS)


class Trained(Exception):
    """Raised where the training of `trained_steps` ends."""

    def __init__(self, model: nn.Module):
        self.model = model


def trained_steps(paper: str, words: list[str]) -> list[dict[str, float]]:
    """Run a paper's train.py up to the end of its training, without checkpoints; the loss terms of each step."""
    module, steps = load_paper(paper).train, []
    train = module.train

    def stop(*arguments):
        raise Trained(train(*arguments))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "train", stop)
        patch.setattr(meter, "write_checkpoint", lambda *_: None)
        patch.setattr(Meter, "_check_finite", lambda self, terms: steps.append(terms))
        with pytest.raises(Trained):
            module.main(words)
    return steps


@contextmanager
def waits_between_steps(gpu: PretendGPU) -> Iterator[Callable[[], list[int]]]:
    """Gives a function that tells how many waits there were from each step to the next of its epoch."""
    update, found = Meter.update, []

    def counted(meter, terms, num_images):
        update(meter, terms, num_images)
        found.append((id(meter), meter.epoch, meter.num_steps, sum(gpu.waits.values())))

    def waits() -> list[int]:
        return [
            after[3] - before[3]
            for before, after in itertools.pairwise(found)
            if after[:3] == (*before[:2], before[2] + 1)
        ]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Meter, "update", counted)
        yield waits
