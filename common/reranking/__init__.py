"""Re-ranking."""

from .k_reciprocal import k_reciprocal_distances, k_reciprocal_from_distances

__all__ = ["k_reciprocal_distances", "k_reciprocal_from_distances"]
