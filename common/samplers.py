"""Batches of indices, each a function of (seed, epoch) alone: a resumed run sees the batches it would have seen."""

from collections.abc import Iterator

import numpy as np

from common.errors import UserError


class IdentitySampler:
    """P x K batches: P distinct identities with K images each (Hermans et al., "In Defense of the Triplet Loss").

    An epoch: every identity's images are shuffled and cut into groups of K (a short group is filled up by drawing
    again from the same identity), and each group is used at most once. So each image comes about once an epoch, and
    an epoch has about N / (P K) batches. Groups that are left when fewer than P identities have any are dropped.

    P x K is the global batch: of several processes each gets its share of the P identities, disjoint from the others.
    """

    def __init__(
        self,
        labels: np.ndarray,
        identities_per_batch: int,
        images_per_identity: int,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ):
        """labels: (N,) integers, the identity of each image; rank, world_size: see common/distributed.py.

        Raises UserError when there are fewer than P identities, or when P does not divide among the processes.
        """
        labels = np.asarray(labels)
        self.identities_per_batch = identities_per_batch
        self.images_per_identity = images_per_identity
        self.seed = seed
        self.rank, self.world_size = rank, world_size
        order = np.argsort(labels, kind="stable")
        self.images_of = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
        _check_batch(identities_per_batch, len(self.images_of), world_size)

    def batches(self, epoch: int) -> Iterator[np.ndarray]:
        """This process's share of each batch: (P / world_size * K,) int64, an identity's K images side by side."""
        generator = np.random.default_rng([self.seed, epoch])
        waiting: list[tuple[int, np.ndarray]] = []  # groups whose identity already stands in the batch being filled
        batch: dict[int, np.ndarray] = {}
        for identity, group in self._groups(generator):
            if identity in batch:
                waiting.append((identity, group))
                continue
            batch[identity] = group
            while len(batch) == self.identities_per_batch:
                yield np.concatenate(list(batch.values())[self.rank :: self.world_size])
                batch, waiting = self._refill(waiting)
        # The tail: what waited is all that is left.

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
        """The next batch's beginning, from the groups that waited; at most P of them."""
        batch, still_waiting = {}, []
        for identity, group in waiting:
            if identity in batch or len(batch) == self.identities_per_batch:
                still_waiting.append((identity, group))
            else:
                batch[identity] = group
        return batch, still_waiting


class CrossModalitySampler:
    """2PK batches: P distinct identities with K visible and K infrared (or thermal) images of each.

    A batch is laid out as all visible images, then all infrared ones; both halves go through the same identities in the
    same order, an identity's K images side by side.

    An epoch goes through the modality that has more images as IdentitySampler does: each of its images comes about
    once. Beside each of its groups stand K images of the same identity in the other modality, taken in turn from a
    random order: none comes again before all of the identity's others have come, and none stands twice in a batch but
    where there are fewer than K. Identities that one modality has not seen are left out.

    2PK is the global batch: of several processes each gets its share of the P identities, in both modalities.
    """

    def __init__(
        self,
        labels: np.ndarray,
        visible: np.ndarray,
        identities_per_batch: int,
        images_per_identity: int,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ):
        """labels: (N,) integers, the identity of each image; visible: (N,) bool, its modality.

        Raises UserError when fewer than P identities have images of both modalities, or when P does not divide among
        the processes.
        """
        self.labels, visible = np.asarray(labels), np.asarray(visible, dtype=bool)
        in_both = np.intersect1d(self.labels[visible], self.labels[~visible])
        if len(in_both) == 0:
            raise UserError("no identity has both visible and infrared images: this data set has not two modalities")
        _check_batch(identities_per_batch, len(in_both), world_size)
        self.images_per_identity = images_per_identity
        self.seed = seed
        self.rank, self.world_size = rank, world_size
        self.visible_leads = visible.sum() >= (~visible).sum()
        leads = (visible == self.visible_leads) & np.isin(self.labels, in_both)
        self.leading = np.flatnonzero(leads)
        self.following_of = {
            identity: np.flatnonzero((self.labels == identity) & (visible != self.visible_leads))
            for identity in in_both
        }
        # Whole batches in every process: which images follow depends on all groups that came before.
        self.groups = IdentitySampler(self.labels[self.leading], identities_per_batch, images_per_identity, seed=seed)

    def batches(self, epoch: int) -> Iterator[np.ndarray]:
        """This process's share of each batch: (2 * P / world_size * K,) int64, visible images first."""
        generator = np.random.default_rng([self.seed, epoch, 1])  # 1: not the one that orders the leading modality
        queues = {identity: images[:0] for identity, images in self.following_of.items()}
        for batch in self.groups.batches(epoch):
            leading = self.leading[batch].reshape(-1, self.images_per_identity)
            following = np.stack([self._next_images(queues, label, generator) for label in self.labels[leading[:, 0]]])
            halves = (leading, following) if self.visible_leads else (following, leading)
            yield np.concatenate([half[self.rank :: self.world_size].ravel() for half in halves])

    def num_batches(self, epoch: int) -> int:
        return sum(1 for _ in self.batches(epoch))

    def _next_images(self, queues: dict, identity: int, generator: np.random.Generator) -> np.ndarray:
        queue = queues[identity]
        while len(queue) < self.images_per_identity:
            again = generator.permutation(self.following_of[identity])
            waiting = np.isin(again, queue)  # behind the others, so that a group does not hold one of them twice
            queue = np.concatenate([queue, again[~waiting], again[waiting]])
        queues[identity] = queue[self.images_per_identity :]
        return queue[: self.images_per_identity]


def _check_batch(identities_per_batch: int, num_identities: int, world_size: int) -> None:
    if num_identities < identities_per_batch:
        raise UserError(
            f"identities_per_batch is {identities_per_batch}, but the training set has only "
            f"{num_identities} identities: set identities_per_batch to at most that"
        )
    if identities_per_batch % world_size:
        raise UserError(
            f"identities_per_batch is {identities_per_batch}, which {world_size} processes cannot share equally: "
            "start another number of processes, or set it to a multiple of that"
        )
