"""Baselines without training: a data set's counts, and colour histograms to compare the networks' scores with.

Both histograms use only the middle columns, where the person is; the balanced one applies grey-world white balance
first, which removes the cameras' colour casts.

`python -m benchmarks.reproduce.baselines PROGRAM --paper ndmf_net --dataset market1501 --demo` writes a result record
as a training run does. PROGRAM is counts, colour_histogram or balanced_histogram.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from matplotlib.colors import rgb_to_hsv

from benchmarks.spec import BASELINES, BASELINES_MODULE
from common.datasets.arguments import add_dataset_arguments, dataset_of
from common.datasets.base import DataSet, Subset
from common.errors import command
from common.evaluation import score_search
from common.images import ImageStore
from common.runs.record import read_record, write_program_record

HEIGHT, WIDTH = 128, 64
# The best of about a dozen settings tried on the synthetic Market-1501, so that the baseline is a strong one.
STRIPES = 8  # horizontal
BINS = (12, 3, 3)  # hue, saturation, value; joint
MARGIN = 22  # columns left out on either side: over the full width the background outweighs the person


def colour_histograms(images: np.ndarray) -> np.ndarray:
    """Joint HSV histograms of horizontal stripes, the root of the L1-normalised counts (for Hellinger's distance).

    images: (B, 3, H, W) uint8, RGB. Returns (B, STRIPES * product of BINS) float32 of unit length.
    """
    num_images, _, height, width = images.shape
    hsv = rgb_to_hsv(images.transpose(0, 2, 3, 1).astype(np.float32) / 255)
    cells = [np.minimum((hsv[..., axis] * bins).astype(np.int64), bins - 1) for axis, bins in enumerate(BINS)]
    num_cells = int(np.prod(BINS))
    cell = (cells[0] * BINS[1] + cells[1]) * BINS[2] + cells[2]  # (B, H, W)
    stripe = np.arange(height) * STRIPES // height
    image = np.arange(num_images)
    flat = (image[:, None, None] * STRIPES + stripe[None, :, None]) * num_cells + cell
    counts = np.bincount(flat.ravel(), minlength=num_images * STRIPES * num_cells)
    return np.sqrt(counts.reshape(num_images, -1) / (height * width)).astype(np.float32)


def grey_world(images: np.ndarray) -> np.ndarray:
    """Each image with its channels scaled so that their means are equal. (B, 3, H, W) uint8 -> the same."""
    channel_means = images.mean((2, 3), keepdims=True, dtype=np.float32)
    balanced = images * (channel_means.mean(1, keepdims=True) / np.maximum(channel_means, 1))
    return np.clip(np.round(balanced), 0, 255).astype(np.uint8)


def histogram_scores(dataset: DataSet, *, balanced: bool) -> dict[str, float]:
    """Scores of the data set's first search by the colour histogram; balanced: after white balance."""

    def features(subset: Subset) -> torch.Tensor:
        store = ImageStore(subset, HEIGHT, WIDTH)
        starts = range(0, len(store), 256)
        batches = [store.gather(np.arange(start, min(start + 256, len(store)))).numpy() for start in starts]
        batches = [batch[..., MARGIN:-MARGIN] for batch in batches]
        batches = [grey_world(batch) for batch in batches] if balanced else batches
        return torch.from_numpy(np.concatenate([colour_histograms(batch) for batch in batches]))

    search = dataset.searches[0]
    return score_search(search, features(search.query), features(search.gallery))


def write_baseline(paper: str, program: str, dataset: DataSet) -> Path:
    """Write the record of a data set's counts or of a colour histogram on it; returns its path."""
    started = time.monotonic()
    scores = {} if program == "counts" else histogram_scores(dataset, balanced=program == "balanced_histogram")
    settings = (
        {"height": HEIGHT, "width": WIDTH, "stripes": STRIPES, "bins": list(BINS), "margin": MARGIN} if scores else {}
    )
    return write_program_record(
        paper, program, dataset, scores=scores, settings=settings, started=started, module=BASELINES_MODULE
    )


@command
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=f"python -m {BASELINES_MODULE}", description=__doc__.split("\n")[0])
    parser.add_argument("program", choices=BASELINES)
    parser.add_argument("--paper", required=True)
    add_dataset_arguments(parser)
    arguments = parser.parse_args(argv)
    file = write_baseline(arguments.paper, arguments.program, dataset_of(arguments))
    scores = read_record(file).scores
    found = f"mAP {scores['mAP']:.1%}  Rank-1 {scores['rank1']:.1%}" if scores else "counted"
    print(f"{file.parent.name}: {found}  ({file})")


if __name__ == "__main__":
    main()
