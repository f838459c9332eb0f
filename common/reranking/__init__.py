"""Re-ranking."""

from .k_reciprocal import k_reciprocal_distances

__all__ = ["k_reciprocal_distances"]
