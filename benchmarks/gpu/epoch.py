"""One epoch of each paper at its own settings on the full-size synthetic data set: training, then evaluation."""

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.observe import runs_in
from common.images import ImageStore
from common.runs import Run
from common.runs.record import read_record

from .speed import size_of
from .subject import SCRATCH, Subject, peak_bytes, reset_peak


def epoch(subject: Subject) -> dict[str, Any]:
    """Seconds to draw and to decode the images (near 0 where they were there before), to train and to evaluate."""
    started = time.monotonic()
    words = subject.words(demo=False, size="full", **SCRATCH | subject.spec.on_gpu.set | {"num_epochs": 1})
    drawn = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, runs_in(Path(folder)):
        run = subject.run(words)
        decode(run)
        decoded = time.monotonic()
        reset_peak(subject.device)
        subject.train(words)  # to its end, whatever the time: an epoch cannot resume
        record = read_record(run.directory / "result.json")
    return {
        "images": len(run.dataset.train),
        "precision": record.machine.precision,
        "size": size_of(run),
        "draw_seconds": round(drawn - started, 1),
        "decode_seconds": round(decoded - drawn, 1),
        "train_seconds": record.seconds["train"],
        "evaluate_seconds": record.seconds["evaluate"],
        "images_per_second": record.images_per_second * subject.spec.on_gpu.images_per_sample,
        "memory": peak_bytes(subject.device),
    }


def decode(run: Run) -> None:
    """Decode what is trained and searched, as the run itself would; the run then finds it."""
    searches = [part for search in run.dataset.searches for part in (search.query, search.gallery)]
    for subset in {part.name: part for part in (run.dataset.train, *searches)}.values():
        ImageStore(subset, run.settings.height, run.settings.width, cache=run.settings.cache)


MEASUREMENTS = {"epoch": epoch}
