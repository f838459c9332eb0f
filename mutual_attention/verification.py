"""How often the verifier is correct on held-out pairs: people whom training has not seen."""

from collections.abc import Callable

import numpy as np
from torch import Tensor

from common.errors import UserError
from common.images import ImageStore
from common.runs import Run
from common.samplers import PairSampler

PAIRS_PER_BATCH = 64
SEED = 0  # the same pairs for every run on a data set

Verify = Callable[[Tensor, Tensor], Tensor]  # two batches (B, 3, H, W) uint8 -> P(same person), (B,), both on the CPU


def verification_accuracy(verify: Verify, run: Run) -> dict[str, float]:
    """`accuracy` (a fraction; a pair counts as one person above a probability of one half) and `num_pairs`.

    Half of the pairs of query images are positive, across cameras where possible, and every query is in at least one
    pair. Empty where the queries make no pairs, as when each person has a single one.
    """
    query, settings = run.dataset.query, run.settings
    try:  # every process scores all pairs
        sampler = PairSampler(query.persons, query.cameras, PAIRS_PER_BATCH, seed=SEED, rank=0, world_size=1)
    except UserError:
        return {}
    store = ImageStore(query, settings.height, settings.width, cache=settings.cache)
    correct = np.concatenate(
        [
            (verify(store.gather(first), store.gather(second)).numpy() > 0.5) == same
            for first, second, same in sampler.batches(epoch=0)
        ]
    )
    return {"accuracy": float(correct.mean()), "num_pairs": len(correct)}
