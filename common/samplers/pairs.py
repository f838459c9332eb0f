"""Batches of image pairs, for networks that compare two images."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from common import distributed
from common.errors import UserError


class Pairs(NamedTuple):
    """b pairs; the i-th is the images first[i] and second[i]."""

    first: np.ndarray  # (b,) int64, positions of the anchors in the subset
    second: np.ndarray  # (b,) int64, of their partners
    same: np.ndarray  # (b,) bool, whether both show one identity


class PairSampler:
    """Batches of pairs, half of them positive (one identity), half negative (two), in random order.

    A positive partner is from another camera than the anchor if its identity has images of two cameras, else it is
    another image of the same camera. A negative partner is any image of any other identity.

    In an epoch every image is an anchor once, and repeated anchors fill up the last batch. Which anchors get a positive
    partner is drawn again for each epoch; the only image of an identity never gets one. (If such images are more than
    half, other anchors are repeated to keep the halves equal.)

    `pairs_per_batch` is the global batch; each of several processes gets an equal share, half positive too.
    """

    def __init__(
        self,
        labels: np.ndarray,
        cameras: np.ndarray,
        pairs_per_batch: int,
        *,
        seed: int,
        rank: int | None = None,
        world_size: int | None = None,
    ):
        """labels, cameras: (N,) integers, of each image; rank, world_size: default this process's.

        UserError: no positive or no negative pair can be made, or a batch cannot be halved and shared.
        """
        self.labels, self.cameras = np.asarray(labels), np.asarray(cameras)
        self.pairs_per_batch = pairs_per_batch
        self.seed = seed
        self.rank, self.world_size = distributed.place(rank, world_size)
        if pairs_per_batch < 2 or pairs_per_batch % (2 * self.world_size):
            raise UserError(
                f"pairs_per_batch is {pairs_per_batch}, which {self.world_size} process(es) cannot share equally, half "
                f"positive and half negative: set it to a multiple of {2 * self.world_size}"
            )
        self.by_identity = np.argsort(self.labels, kind="stable")
        _, self.identity, counts = np.unique(self.labels, return_inverse=True, return_counts=True)
        self.starts, self.counts = np.cumsum(counts) - counts, counts
        if len(counts) < 2 or counts.max() < 2:
            raise UserError(
                f"{len(self.labels)} images of {len(counts)} identities, at most {counts.max(initial=0)} of each, "
                "cannot be paired: at least two identities are needed, and two images of one of them"
            )

    def batches(self, epoch: int) -> Iterator[Pairs]:
        """This process's share of each batch: pairs_per_batch / world_size pairs."""
        generator = np.random.default_rng([self.seed, epoch])
        positive, negative = self._anchors(generator)
        partners = self._positive_partners(positive, generator), self._negative_partners(negative, generator)
        half = self.pairs_per_batch // 2
        same = np.repeat([True, False], half // self.world_size)
        for start in range(0, len(positive), half):
            own = slice(start + self.rank, start + half, self.world_size)
            first = np.concatenate([positive[own], negative[own]])
            second = np.concatenate([partners[0][own], partners[1][own]])
            order = generator.permutation(len(same))
            yield Pairs(first[order], second[order], same[order])

    def num_batches(self, epoch: int) -> int:
        return len(self._anchors(np.random.default_rng([self.seed, epoch]))[0]) // (self.pairs_per_batch // 2)

    def _anchors(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Anchors of an epoch's positive and of its negative pairs, equally many, in random order."""
        order = generator.permutation(len(self.labels))
        alone = self.counts[self.identity[order]] == 1
        paired, singles = order[~alone], order[alone]
        num_batches = -(-max(len(order), 2 * len(singles)) // self.pairs_per_batch)
        half = num_batches * (self.pairs_per_batch // 2)
        positive = np.resize(paired, half)  # repeats them if there are too few
        negative = np.concatenate([singles, paired[half:]])
        negative = np.concatenate([negative, generator.choice(order, half - len(negative))])
        return positive, generator.permutation(negative)

    def _positive_partners(self, anchors: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        partners = np.empty_like(anchors)
        for position, anchor in enumerate(anchors):
            start = self.starts[self.identity[anchor]]
            images = self.by_identity[start : start + self.counts[self.identity[anchor]]]
            elsewhere = images[self.cameras[images] != self.cameras[anchor]]
            choices = elsewhere if len(elsewhere) else images[images != anchor]
            partners[position] = choices[generator.integers(len(choices))]
        return partners

    def _negative_partners(self, anchors: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Uniform over all images of other identities; the anchor's own are contiguous and skipped."""
        start, count = self.starts[self.identity[anchors]], self.counts[self.identity[anchors]]
        drawn = generator.integers(len(self.labels) - count)
        return self.by_identity[np.where(drawn < start, drawn, drawn + count)]
