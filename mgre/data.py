"""What a run trains and tests on: the training images without the identities held out, and test images with their boxes
or occluded.
"""

import numpy as np
import torch
from torch import Tensor

from common import augment, distributed
from common.datasets.base import DataSet, Search, Subset
from common.errors import UserError
from common.evaluation import Embed, extract_features
from common.images import ImageStore

SPLIT_SEED = 0  # the same identities are held out of every run


def split_training(dataset: DataSet, validation_identities: int) -> tuple[Subset, Search | None]:
    """The training images, and a search among those of `validation_identities` that are held out (None for 0).

    As in Market-1501, a query is one image of each identity in each camera, the gallery all others. UserError: more
    identities are to be held out than there are.
    """
    subset = dataset.train
    if validation_identities == 0:
        return subset, None
    persons = np.unique(subset.persons)
    if validation_identities >= len(persons):
        raise UserError(
            f"validation_identities is {validation_identities}, but the training set has {len(persons)} identities"
        )
    held_out = np.random.default_rng(SPLIT_SEED).choice(persons, validation_identities, replace=False)
    mask = np.isin(subset.persons, held_out)
    keys = np.stack([subset.persons, subset.cameras], axis=1)
    first_of_camera = np.zeros(len(subset), bool)
    first_of_camera[np.unique(keys, axis=0, return_index=True)[1]] = True
    parts = {
        "train_split": ~mask,
        "validation_query": mask & first_of_camera,
        "validation_gallery": mask & ~first_of_camera,
    }
    train, query, gallery = (
        Subset(name, tuple(subset.samples[position] for position in np.flatnonzero(chosen)))
        for name, chosen in parts.items()
    )
    return train, Search("validation", query, gallery)


class SearchImages:
    """The images of a store, each batch as the arguments of an embedding: (images, boxes or None).

    boxes: (N, 7, 4) of all images, for networks that do not locate. occlusion_probability: of erasing a rectangle of an
    image (Table 6), the same at every call; seed: of the rectangles.
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
            # Batches of a store always begin at the same images, so that the first says which draw this is.
            generator = augment.batch_generator(self.seed, 0, int(indices[0]))
            seen = torch.ones(len(images), 1, *images.shape[2:], dtype=torch.bool)
            augment.random_erasing(seen, self.occlusion_probability, generator)
            mean_colour = torch.tensor([round(255 * mean) for mean in augment.IMAGENET_MEAN], dtype=torch.uint8)
            images = torch.where(seen, images, mean_colour[:, None, None])
        return images, None if self.boxes is None else self.boxes[indices]


def extract_search(
    embed: Embed,
    search: Search,
    height: int,
    width: int,
    *,
    cache: bool,
    boxes: dict[str, Tensor] | None = None,
    occlusion_probability: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Features of a search's query and gallery, (N, ...) each.

    embed: takes images and boxes; boxes: {subset name: (N, 7, 4)}.
    """
    features = []
    for seed, subset in enumerate((search.query, search.gallery)):
        with distributed.main_process_first():  # it may have to decode the images
            store = ImageStore(subset, height, width, cache=cache)
        images = SearchImages(
            store, boxes=boxes and boxes[subset.name], occlusion_probability=occlusion_probability, seed=seed
        )
        features.append(extract_features(lambda batch: embed(*batch), images, name=subset.name))
    return features[0], features[1]
