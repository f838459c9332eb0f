"""Batches of indices into a training set.

Every sampler depends on (seed, epoch) only, so that a resumed run sees the same batches, and gives each process its
share of the global batch.
"""

from .cross_modality import CrossModalitySampler
from .identities import IdentitySampler
from .pairs import Pairs, PairSampler

__all__ = ["CrossModalitySampler", "IdentitySampler", "PairSampler", "Pairs"]
