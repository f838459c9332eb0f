"""The images of a search, with their boxes or occluded."""

import numpy as np
import torch
from torch import Tensor

from common import augment
from common.images import ImageStore


class SearchImages:
    """The images of a store; each batch is what the stage embedding takes, (images, boxes or None).

    boxes: (N, 7, 4) of all images, for networks that do not locate. occlusion_probability: of erasing a rectangle of an
    image (Table 6), the same one at every call; seed: of the rectangles.
    """

    def __init__(
        self, store: ImageStore, *, boxes: Tensor | None = None, occlusion_probability: float = 0.0, seed: int = 0
    ):
        self.store, self.boxes = store, boxes
        self.occlusion_probability, self.seed = occlusion_probability, seed

    def __len__(self) -> int:
        return len(self.store)

    def gather(self, indices: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """(B, 3, H, W) uint8, and the boxes (B, 7, 4)."""
        images = self.store.gather(indices)
        if self.occlusion_probability:
            # Batches of a store always begin at the same images, so the first index identifies the batch.
            generator = augment.batch_generator(self.seed, 0, int(indices[0]))
            visible = torch.ones(len(images), 1, *images.shape[2:], dtype=torch.bool)
            augment.random_erasing(visible, self.occlusion_probability, generator)
            mean_colour = torch.tensor([round(255 * mean) for mean in augment.IMAGENET_MEAN], dtype=torch.uint8)
            images = torch.where(visible, images, mean_colour[:, None, None])
        return images, None if self.boxes is None else self.boxes[indices]
