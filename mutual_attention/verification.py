"""Whether two images show one person: the verifier's probability, and how often it is right on held-out pairs."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError
from common.images import ImageStore
from common.pair_sampler import PairSampler
from common.runs import Run

from .mean_image import centred, mean_image_of
from .model import MutualAttentionNet

PAIRS_PER_BATCH = 64
SEED = 0  # the same pairs for every run on a data set


def verifier(model: MutualAttentionNet, run: Run) -> Callable[[Tensor, Tensor], Tensor]:
    """Two batches of images (B, 3, H, W) uint8 -> how probably each pair shows one person, (B,) on the CPU."""
    mean = mean_image_of(run)

    @torch.inference_mode()
    def verify(first: Tensor, second: Tensor) -> Tensor:
        with run.autocast():
            return model.same_probability(*(centred(images.to(run.device), mean) for images in (first, second))).cpu()

    return verify


def verification_accuracy(model: MutualAttentionNet, run: Run) -> dict[str, float]:
    """`accuracy` (a fraction; same where the probability is above one half) and `num_pairs`, of pairs of query images.

    Half of the pairs are positive, across cameras where possible, and every query is in one at least: people whom
    training has not seen. Empty where the queries make no pairs, as when each person has one.
    """
    query = run.dataset.query
    try:
        sampler = PairSampler(query.persons, query.cameras, PAIRS_PER_BATCH, seed=SEED)
    except UserError:
        return {}
    store = ImageStore(query, run.config.height, run.config.width, cache=run.config.cache)
    verify = verifier(model, run)
    right = np.concatenate(
        [
            (verify(store.gather(first), store.gather(second)).numpy() > 0.5) == same
            for first, second, same in sampler.batches(epoch=0)
        ]
    )
    return {"accuracy": float(right.mean()), "num_pairs": len(right)}
