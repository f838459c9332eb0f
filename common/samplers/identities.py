"""P x K batches."""

from collections.abc import Iterator

import numpy as np

from common import distributed
from common.errors import UserError


class IdentitySampler:
    """P x K batches: P distinct identities with K images each (Hermans et al., "In Defense of the Triplet Loss").

    In an epoch, every identity's images are shuffled and cut into groups of K (a short group is filled up with repeated
    images of the identity), and each group is used at most once. So each image is used about once per epoch, which has
    about N / (P K) batches. The groups left over when fewer than P identities remain are dropped.

    P x K is the global batch: of several processes each gets its share of the P identities, disjoint from the others.
    """

    def __init__(
        self,
        labels: np.ndarray,
        identities_per_batch: int,
        images_per_identity: int,
        *,
        seed: int,
        rank: int | None = None,
        world_size: int | None = None,
    ):
        """labels: (N,) integers, the identity of each image; rank, world_size: default this process's.

        UserError: fewer than P identities, or P is not divisible by the number of processes.
        """
        labels = np.asarray(labels)
        self.identities_per_batch = identities_per_batch
        self.images_per_identity = images_per_identity
        self.seed = seed
        self.rank, self.world_size = distributed.place(rank, world_size)
        order = np.argsort(labels, kind="stable")
        self.images_of = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
        check_batch(identities_per_batch, len(self.images_of), self.world_size)

    def batches(self, epoch: int) -> Iterator[np.ndarray]:
        """This process's share of each batch: (P / world_size * K,) int64, an identity's K images side by side."""
        generator = np.random.default_rng([self.seed, epoch])
        waiting: list[tuple[int, np.ndarray]] = []  # groups whose identity is already in the batch being filled
        batch: dict[int, np.ndarray] = {}
        for identity, group in self._groups(generator):
            if identity in batch:
                waiting.append((identity, group))
                continue
            batch[identity] = group
            while len(batch) == self.identities_per_batch:
                yield np.concatenate(list(batch.values())[self.rank :: self.world_size])
                batch, waiting = self._refill(waiting)
        # Groups that are still waiting here are dropped.

    def num_batches(self, epoch: int) -> int:
        return sum(1 for _ in self.batches(epoch))

    def _groups(self, generator: np.random.Generator) -> list[tuple[int, np.ndarray]]:
        """All (identity, K images) of an epoch, an identity's groups spread evenly over it in random order."""
        K = self.images_per_identity
        timed = []
        for identity, images in enumerate(self.images_of):
            shuffled = generator.permutation(images)
            short = -len(shuffled) % K
            if short:
                replace = len(images) < short
                shuffled = np.concatenate([shuffled, generator.choice(images, short, replace=replace)])
            groups = shuffled.reshape(-1, K)
            times = (np.arange(len(groups)) + generator.random(len(groups))) / len(groups)
            timed += [(time, identity, group) for time, group in zip(times, groups, strict=True)]
        timed.sort(key=lambda entry: entry[0])
        return [(identity, group) for _, identity, group in timed]

    def _refill(self, waiting: list) -> tuple[dict, list]:
        """The start of the next batch from the waiting groups, at most P, and the groups that still wait."""
        batch, still_waiting = {}, []
        for identity, group in waiting:
            if identity in batch or len(batch) == self.identities_per_batch:
                still_waiting.append((identity, group))
            else:
                batch[identity] = group
        return batch, still_waiting


def check_batch(identities_per_batch: int, num_identities: int, world_size: int) -> None:
    if num_identities < identities_per_batch:
        raise UserError(
            f"identities_per_batch is {identities_per_batch}, but the training set has only "
            f"{num_identities} identities: set it to at most {num_identities}"
        )
    if identities_per_batch % world_size:
        raise UserError(
            f"identities_per_batch is {identities_per_batch}, which {world_size} processes cannot share equally: "
            f"change the number of processes, or set it to a multiple of {world_size}"
        )
