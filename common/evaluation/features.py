"""Features of the subsets that a data set's searches need, each extracted once."""

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from common import distributed
from common.datasets.base import Search
from common.images import ImageStore

Embed = Callable[[Tensor], Tensor]  # images (B, 3, H, W) uint8 on the CPU -> test features (B, D), on any device


class ImageSettings(Protocol):
    """The settings by which a run's images are read."""

    height: int
    width: int
    cache: bool


@torch.inference_mode()
def extract_features(embed: Embed, store: ImageStore, *, batch_size: int = 128, name: str = "features") -> Tensor:
    """The features of every image of a store: (N, dim) float32, on the device where `embed` leaves them.

    embed: moves the images to the device, normalises them and runs the network. Several processes share the batches of
    one process, so that the features are the same.
    """
    starts = range(0, len(store), batch_size)
    own_starts = starts[distributed.rank() :: distributed.world_size()]
    bar = tqdm(own_starts, desc=name, unit="batch", leave=False, disable=None if distributed.is_main() else True)
    own = {start: embed(store.gather(np.arange(start, min(start + batch_size, len(store))))).float() for start in bar}
    batches = distributed.gather_batches(own)
    return torch.cat([batches[start] for start in starts])


def extract_searches(
    embed: Embed | Mapping[str, Embed],
    searches: tuple[Search, ...],
    settings: ImageSettings,
    *,
    batch_size: int = 128,
) -> dict[str, Tensor]:
    """Features of every subset that the searches need, each extracted once: {subset name: (N, dim)}.

    embed: one for all images, or {modality: embed} for two-stream networks; a subset has one modality.
    """
    subsets = {subset.name: subset for search in searches for subset in (search.query, search.gallery)}
    features = {}
    for name, subset in subsets.items():
        store = ImageStore(subset, settings.height, settings.width, cache=settings.cache)
        own = embed[subset.samples[0].modality] if isinstance(embed, Mapping) else embed
        features[name] = extract_features(own, store, batch_size=batch_size, name=name)
    return features
