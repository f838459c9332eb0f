"""Evaluation protocols: which gallery images a query ignores, and what CMC counts.

Shapes: B queries of one block, G gallery images.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

JUNK = -1  # Market-1501's label of bad detections: neither a match nor a non-match


def _market1501(query_ids: Tensor, query_cameras: Tensor, gallery_ids: Tensor, gallery_cameras: Tensor) -> Tensor:
    """Junk, and the query's own person in the query's own camera. Zheng et al., ICCV 2015, Sec. 5."""
    return (query_ids == gallery_ids) & (query_cameras == gallery_cameras) | (gallery_ids == JUNK)


def _sysu_mm01(query_ids: Tensor, query_cameras: Tensor, gallery_ids: Tensor, gallery_cameras: Tensor) -> Tensor:
    """Cameras 2 and 3 are in the same place. Wu et al., "RGB-Infrared Cross-Modality Person Re-ID", ICCV 2017."""
    return (query_cameras == 3) & (gallery_cameras == 2)


def _nothing(query_ids: Tensor, query_cameras: Tensor, gallery_ids: Tensor, gallery_cameras: Tensor) -> Tensor:
    return torch.zeros(len(query_ids), len(gallery_ids), dtype=torch.bool, device=gallery_ids.device)


@dataclass(frozen=True)
class Protocol:
    """excludes: which images are left out of a query's gallery; ids and cameras, (B, 1) and (G,) -> (B, G) bool.
    by_identity: CMC ranks distinct identities: further images of an identity take no rank."""

    excludes: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    by_identity: bool = False


PROTOCOLS = {
    "market1501": Protocol(_market1501),
    "sysu_mm01": Protocol(_sysu_mm01, by_identity=True),
    "regdb": Protocol(_nothing),  # Nguyen et al., "Person Recognition System Based on a Combination ...", Sensors 2017
}
