"""The mean image of the training set, which is subtracted from every image (Sec. 5.1)."""

import io

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from common import augment, distributed
from common.errors import UserError
from common.images import ImageStore
from common.runs import Run

BATCH_SIZE = 512


def mean_image(store: ImageStore) -> Tensor:
    """The plain average over all images of a store: (3, H, W) float32, in 0..255."""
    total = torch.zeros(3, store.height, store.width, dtype=torch.int64)  # exact, whatever the number of images
    for start in tqdm(range(0, len(store), BATCH_SIZE), desc="mean image", unit="batch", leave=False, disable=None):
        batch = store.gather(np.arange(start, min(start + BATCH_SIZE, len(store))))
        total += batch.sum(0, dtype=torch.int64)
    return (total.double() / len(store)).float()


def mean_image_of(run: Run) -> Tensor:
    """The mean image of a run's training set, on its device; kept as `mean_image.npy` in the run's directory."""
    file = run.directory / "mean_image.npy"
    with distributed.main_process_first():
        if not file.is_file():
            store = ImageStore(run.dataset.train, run.config.height, run.config.width, cache=run.config.cache)
            _write(file, mean_image(store))
    try:
        return torch.from_numpy(np.load(file)).to(run.device)
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}): remove it, and it is computed anew") from None


def centred(images: Tensor, mean: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 -> float32, less the mean image (3, H, W), over ImageNet's deviations; channels last."""
    deviations = 255 * torch.tensor(augment.IMAGENET_STD, device=images.device).view(3, 1, 1)
    return ((images - mean) / deviations).contiguous(memory_format=torch.channels_last)


def _write(file, mean: Tensor) -> None:
    """Whole or not at all."""
    buffer = io.BytesIO()
    np.save(buffer, mean.numpy())
    partial = file.with_name(file.name + ".partial")
    try:
        partial.write_bytes(buffer.getvalue())
        partial.replace(file)
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error}") from None
