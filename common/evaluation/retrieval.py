"""The nearest gallery images of chosen queries, and which identities a figure shows."""

import numpy as np
import torch
from torch import Tensor

from common.datasets.base import Search, Subset
from common.metrics import PROTOCOLS


def random_identities(subset: Subset, count: int, *, among: np.ndarray | None = None) -> np.ndarray:
    """Positions of one random image of each of `count` random identities: (n,), by identity, the same at every call.

    among: (N,) bool, the images that may be chosen; default all. n < count if there are fewer identities.
    """
    allowed = np.ones(len(subset), bool) if among is None else among
    generator = np.random.default_rng(0)
    persons = np.unique(subset.persons[allowed])
    chosen = np.sort(generator.choice(persons, min(count, len(persons)), replace=False))
    return np.array([generator.choice(np.flatnonzero(allowed & (subset.persons == person))) for person in chosen])


def nearest_images(
    search: Search, query_features: Tensor, gallery_features: Tensor, chosen: np.ndarray, top: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest gallery images of the queries `chosen`, (n,), among those that the protocol admits.

    Returns positions in the gallery and Euclidean distances, both (n, top), nearest first; fewer columns if some query
    has fewer images to rank.
    """
    left_out = ~rankable(search, chosen)
    distances = np.where(left_out, np.inf, torch.cdist(query_features[chosen], gallery_features).cpu().numpy())
    top = min(top, int((~left_out).sum(1).min()))
    order = np.argsort(distances, axis=1, kind="stable")[:, :top]
    return order, np.take_along_axis(distances, order, axis=1)


def rankable(search: Search, chosen: np.ndarray) -> np.ndarray:
    """(n, G) bool: the gallery images that the protocol admits for each of the queries `chosen`, (n,). Of a search with
    trials, the gallery is the first trial's."""
    in_trial = np.zeros(len(search.gallery), bool)
    in_trial[search.trials[0] if search.trials else slice(None)] = True
    query, gallery = search.query, search.gallery
    return in_trial & ~PROTOCOLS[search.protocol].excludes(
        query.persons[chosen], query.cameras[chosen], gallery.persons, gallery.cameras
    )
