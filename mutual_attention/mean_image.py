"""The mean image of the training set, which is subtracted from every image (Sec. 5.1): the network's input."""

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from common import augment, distributed
from common.devices import constant
from common.errors import UserError
from common.files import written_atomically
from common.images import ImageStore
from common.runs import Run

BATCH_SIZE = 512


def mean_image(store: ImageStore) -> Tensor:
    """The plain average over all images of a store: (3, H, W) float32, in 0..255."""
    total = torch.zeros(3, store.height, store.width, dtype=torch.int64)  # exact for any number of images
    for start in tqdm(range(0, len(store), BATCH_SIZE), desc="mean image", unit="batch", leave=False, disable=None):
        batch = store.gather(np.arange(start, min(start + BATCH_SIZE, len(store))))
        total += batch.sum(0, dtype=torch.int64)
    return (total.double() / len(store)).float()


def mean_image_of(run: Run) -> Tensor:
    """The mean image of a run's training set: (3, H, W) on its device.

    Kept as `mean_image.npy` in the run's directory, which must exist, and computed where it is missing. All processes
    must call this alike. UserError: the file is damaged, or cannot be written.
    """
    settings, file = run.settings, run.directory / "mean_image.npy"
    with distributed.main_process_first():
        if not file.is_file():
            store = ImageStore(run.dataset.train, settings.height, settings.width, cache=settings.cache)
            with written_atomically(file) as partial, open(partial, "wb") as stream:
                np.save(stream, mean_image(store).numpy())
    try:
        return torch.from_numpy(np.load(file)).to(run.device)
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}): remove it, and it is computed again") from None


def prepared(images: Tensor, mean: Tensor) -> Tensor:
    """What the network sees at test time: minus the mean image (3, H, W), over ImageNet's standard deviations.

    (B, 3, H, W) uint8 -> float32, channels last.
    """
    deviations = 255 * constant(augment.IMAGENET_STD, images.device).view(3, 1, 1)
    return ((images - mean) / deviations).contiguous(memory_format=torch.channels_last)
