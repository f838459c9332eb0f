"""Evaluation protocols: which gallery images a query ignores, and what CMC counts.

The rules take arrays of ids and cameras that broadcast and return bool arrays; camera rules never depend on who a query
shows, so that they need not be evaluated for every pair of images.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

JUNK = -1  # Market-1501's label of bad detections: neither a match nor a non-match


def _none(query_cameras: np.ndarray, *gallery: np.ndarray) -> np.ndarray:
    """Shaped as the gallery's arrays: no query ignores any image."""
    return np.zeros(gallery[0].shape, bool)


def _junk(query_cameras: np.ndarray, gallery_ids: np.ndarray, gallery_cameras: np.ndarray) -> np.ndarray:
    return gallery_ids == JUNK


def _same_place(query_cameras: np.ndarray, gallery_ids: np.ndarray, gallery_cameras: np.ndarray) -> np.ndarray:
    """Cameras 2 and 3 are in the same place. Wu et al., "RGB-Infrared Cross-Modality Person Re-ID", ICCV 2017."""
    return (query_cameras == 3) & (gallery_cameras == 2)


def _same_camera(query_cameras: np.ndarray, gallery_cameras: np.ndarray) -> np.ndarray:
    """Zheng et al., ICCV 2015, Sec. 5: also ignored are the images of the query's own person in its own camera."""
    return query_cameras == gallery_cameras


@dataclass(frozen=True)
class Protocol:
    """excludes_any: gallery images that are left out whoever they show, by query cameras, gallery ids, gallery cameras.
    excludes_own: images of the query's person that are left out too, by query cameras and gallery cameras.
    by_identity: CMC ranks distinct identities: further images of an identity take no rank."""

    excludes_any: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    excludes_own: Callable[[np.ndarray, np.ndarray], np.ndarray] = _none
    by_identity: bool = False

    def excludes(self, query_ids, query_cameras, gallery_ids, gallery_cameras) -> np.ndarray:
        """All that is left out: ids and cameras of B queries and G gallery images, (B,) and (G,) -> (B, G) bool."""
        cameras = query_cameras[:, None]
        own = (query_ids[:, None] == gallery_ids) & self.excludes_own(cameras, gallery_cameras)
        return own | self.excludes_any(cameras, gallery_ids, gallery_cameras)


PROTOCOLS = {
    "market1501": Protocol(_junk, _same_camera),
    "sysu_mm01": Protocol(_same_place, by_identity=True),
    "regdb": Protocol(_none),  # Nguyen et al., "Person Recognition System Based on a Combination ...", Sensors 2017
}
