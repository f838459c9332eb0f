"""2PK batches of two modalities."""

from collections.abc import Iterator

import numpy as np

from common import distributed
from common.errors import UserError

from .identities import IdentitySampler, check_batch


class CrossModalitySampler:
    """2PK batches: P distinct identities with K visible and K infrared (or thermal) images of each.

    A batch holds all visible images, then all infrared ones. Both halves have the same identities in the same order, an
    identity's K images side by side.

    An epoch goes through the modality with more images as IdentitySampler does, so that each of its images is used
    about once. Each group is paired with K images of the same identity in the other modality, taken from a random
    order: an image is used again only after all others of its identity, and is twice in a batch only if there are fewer
    than K. Identities without images of both modalities are left out.

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
        rank: int | None = None,
        world_size: int | None = None,
    ):
        """labels: (N,) integers, the identity of each image; visible: (N,) bool, its modality.

        UserError: fewer than P identities have images of both modalities, or P is not divisible by the number of
        processes.
        """
        self.rank, self.world_size = distributed.place(rank, world_size)
        self.labels, visible = np.asarray(labels), np.asarray(visible, dtype=bool)
        in_both = np.intersect1d(self.labels[visible], self.labels[~visible])
        if len(in_both) == 0:
            raise UserError("no identity has both visible and infrared images: is this a cross-modality data set?")
        check_batch(identities_per_batch, len(in_both), self.world_size)
        self.images_per_identity = images_per_identity
        self.seed = seed
        self.visible_leads = visible.sum() >= (~visible).sum()
        leads = (visible == self.visible_leads) & np.isin(self.labels, in_both)
        self.leading = np.flatnonzero(leads)
        self.following_of = {
            identity: np.flatnonzero((self.labels == identity) & (visible != self.visible_leads))
            for identity in in_both
        }
        # Every process draws the global batch: which images follow depends on all groups before.
        self.groups = IdentitySampler(
            self.labels[self.leading], identities_per_batch, images_per_identity, seed=seed, rank=0, world_size=1
        )

    def batches(self, epoch: int) -> Iterator[np.ndarray]:
        """This process's share of each batch: (2 * P / world_size * K,) int64, visible images first."""
        generator = np.random.default_rng([self.seed, epoch, 1])  # 1: not the generator of the leading modality
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
            waiting = np.isin(again, queue)  # go last, so that a group does not hold one of them twice
            queue = np.concatenate([queue, again[~waiting], again[waiting]])
        queues[identity] = queue[self.images_per_identity :]
        return queue[: self.images_per_identity]
