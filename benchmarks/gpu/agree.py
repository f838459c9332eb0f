"""Whether a GPU and a CPU compute the same, and where they do not: features, the losses of the first steps, scores.

Features and losses are computed in fp32 (no TF32) with the demo's settings, from the same seed: on both devices the
network starts with the same weights and sees the same batches.

Training amplifies rounding: Adam turns the rounding of a gradient near zero into a step of full size, and a triplet
loss picks another hardest image. NDMF-Net's losses on one CPU, computed with oneDNN and with torch's own convolutions,
differ by 2e-6 in the first step and by more than 1e-3 from the fourth (features: by 2e-7). So the CPU trains a second
time with the other convolutions; where three times the largest difference so far of these two is more than the limit,
it is the limit.
"""

import statistics
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.observe import Enough, runs_in
from benchmarks.pages.staleness import Today
from benchmarks.records import published_records
from benchmarks.spec import known_papers
from common.errors import UserError
from common.images import ImageStore
from common.runs.record import Record, read_record

from .subject import Subject, spec_of

LIMIT = 1e-3  # relative, of features and losses
ROUNDING_FACTOR = 3  # two roundings lead to two trainings, and neither is the one that differs most
ENOUGH_SEEDS = 3  # from which a standard deviation is taken
CPU = "cpu"


def features(subject: Subject) -> dict[str, Any]:
    """The largest difference of an image's feature, as a fraction of its length, over queries and gallery images."""
    on_cpu, on_device = (first_features(subject, device) for device in (CPU, str(subject.device)))
    differences = (on_device - on_cpu).norm(dim=1) / on_cpu.norm(dim=1)
    difference = float(differences.max())
    return {"images": len(on_cpu), "difference": difference, "limit": LIMIT, "agrees": difference <= LIMIT}


@torch.inference_mode()
def first_features(subject: Subject, device: str) -> Tensor:
    """(N, D) on the CPU, of an untrained network: half of queries, half of gallery images."""
    words = subject.words(demo=True, device=device, precision="fp32", **subject.spec.on_gpu.set)
    with tempfile.TemporaryDirectory() as folder, runs_in(Path(folder)):
        run = subject.run(words)
        run.seed_epoch(0)
        loaded = subject.paper.evaluate.network_of(run).ready()
        found = []
        for subset in (run.dataset.searches[0].query, run.dataset.searches[0].gallery):
            modality = subset.samples[0].modality
            embed = loaded.embed[modality] if isinstance(loaded.embed, Mapping) else loaded.embed
            store = ImageStore(subset, run.settings.height, run.settings.width, cache=run.settings.cache)
            found.append(embed(store.gather(np.arange(min(subject.scale.images // 2, len(store))))).float().cpu())
    return torch.cat(found)


def losses(subject: Subject) -> dict[str, Any]:
    """Relative differences of the loss in the first steps of training, without dropout, beside those of rounding.

    difference and limit are those of the step that comes nearest to its limit, or exceeds it most.
    """
    on_cpu, on_device = (first_losses(subject, device) for device in (CPU, str(subject.device)))
    with torchs_own_convolutions():
        rounded = first_losses(subject, CPU)
    return compared_losses(on_cpu, on_device, rounded)


@contextmanager
def torchs_own_convolutions() -> Iterator[None]:
    """In place of oneDNN's, on the CPU."""
    before, *_ = torch.backends.mkldnn.set_flags(_enabled=False, _fp32_precision=None)
    try:
        yield
    finally:
        torch.backends.mkldnn.set_flags(_enabled=before, _fp32_precision=None)


def compared_losses(on_cpu: np.ndarray, on_device: np.ndarray, rounded: np.ndarray) -> dict[str, Any]:
    """rounded: the CPU's losses, computed with other kernels. All (steps,)."""
    differences, rounding = (np.abs(other - on_cpu) / np.abs(on_cpu) for other in (on_device, rounded))
    limits = np.maximum(LIMIT, ROUNDING_FACTOR * np.maximum.accumulate(rounding))
    worst = int((differences / limits).argmax())
    return {
        "steps": len(on_cpu),
        "worst_step": worst + 1,
        "steps_within_strict_limit": int(np.cumprod(differences <= LIMIT).sum()),
        "largest_difference": float(differences.max()),
        "largest_rounding": float(rounding.max()),
        "differences": differences.tolist(),
        "rounding": rounding.tolist(),
        "difference": float(differences[worst]),
        "limit": float(limits[worst]),
        "agrees": bool((differences <= limits).all()),  # NaN does not agree
    }


def first_losses(subject: Subject, device: str) -> np.ndarray:
    """(steps,)"""
    found: list[float] = []

    def note(meter, terms, num_images):
        found.append(terms["loss"])
        if len(found) == subject.scale.steps:
            raise Enough

    changed = subject.spec.on_gpu.set | subject.spec.on_gpu.without_dropout
    words = subject.words(demo=True, device=device, precision="fp32", **changed)
    with tempfile.TemporaryDirectory() as folder, runs_in(Path(folder)):
        subject.train(words, note)
    if len(found) < subject.scale.steps:
        raise UserError(f"the training ended after {len(found)} steps, {subject.scale.steps} are compared")
    return np.array(found)


def scores(subject: Subject) -> dict[str, Any]:
    """mAP of the headline's demo run on the device, beside the committed records of the same run."""
    directory = subject.folder / subject.spec.paper / "demo"
    words = [*subject.words(demo=True), "--seed", "0", "--run-dir", str(directory), "--resume"]
    with runs_in(subject.folder):
        subject.train(words, subject.check_time)
    record = read_record(directory / "result.json")
    return {"mAP": record.scores["mAP"], "precision": record.machine.precision} | judged(subject, record.scores["mAP"])


def judged(subject: Subject, mAP: float) -> dict[str, Any]:
    """Whether mAP is within the noise of seeds; `agrees` is None without a committed record."""
    records = committed_records(subject)
    if not records:
        return {"agrees": None, "noise": "no committed record of this run"}
    noise = noise_of(records)
    values = [record.scores["mAP"] for record in records]
    difference = abs(mAP - statistics.fmean(values))
    today = Today(subject.spec)
    return {
        "committed": values,
        "difference": difference,
        "limit": noise.limit,
        "noise": noise.source,
        "stale": next(filter(None, map(today.change, records)), ""),
        "agrees": difference <= noise.limit,
    }


def committed_records(subject: Subject) -> list[Record]:
    wanted = ("demo", subject.dataset, subject.headline.label)
    records = published_records(subject.spec.paper)
    return [record for record in records if (record.kind, record.dataset, record.variant) == wanted]


@dataclass(frozen=True)
class Noise:
    """limit: of a difference of mAP, a fraction; source: what it was taken from."""

    limit: float
    source: str


def noise_of(records: list[Record]) -> Noise:
    """Two standard deviations of the run's seeds. With too few seeds its noise is unknown, and that of the paper whose
    headline run has enough of them and varies most stands in."""
    if own := two_deviations(records):
        return Noise(own, f"two standard deviations of {len(records)} seeds")
    unknown = f"noise unknown ({'one seed' if len(records) == 1 else f'{len(records)} seeds'})"
    others = []
    for paper in known_papers():
        other = Subject(spec_of(paper), torch.device(CPU), Path())
        if limit := two_deviations(committed_records(other)):
            others.append(
                Noise(limit, f"{unknown}; taken from {other.spec.short}, two standard deviations of its seeds")
            )
    if not others:
        raise UserError(f"{unknown}, and no paper has committed records of {ENOUGH_SEEDS} seeds")
    return max(others, key=lambda noise: noise.limit)


def two_deviations(records: list[Record]) -> float | None:
    """Of mAP; None from too few seeds."""
    values = [record.scores["mAP"] for record in records]
    return 2 * statistics.stdev(values) if len(values) >= ENOUGH_SEEDS else None


MEASUREMENTS = {"features": features, "losses": losses, "scores": scores}
