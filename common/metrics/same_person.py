"""Which gallery images show a query's person, without comparing every query with every gallery image.

Shapes: G gallery images, B queries of one block, M the most matches that any of them has.
"""

import numpy as np

from .block_ranks import Identities, Images
from .inputs import Labels
from .protocols import Protocol


class SamePerson:
    """Looks up the images of each query's person among the gallery's ids, which are sorted once."""

    def __init__(self, labels: Labels):
        self.labels = labels
        self.order = np.argsort(labels.gallery_ids, kind="stable")
        ids = labels.gallery_ids[self.order]
        self.starts = np.searchsorted(ids, labels.query_ids)
        self.counts = np.searchsorted(ids, labels.query_ids, side="right") - self.starts

    def identities(self) -> Identities:
        ids = self.labels.gallery_ids[self.order]
        return Identities(self.order, np.flatnonzero(np.append(True, ids[1:] != ids[:-1])))

    def images(self, queries: slice, rule: Protocol) -> tuple[Images, np.ndarray]:
        """Matches of these queries and images left out, and (B,) the number of matches."""
        ids, cameras = self.labels.gallery_ids, self.labels.gallery_cameras
        query_cameras = self.labels.query_cameras[queries]
        counts = self.counts[queries]
        row = np.repeat(np.arange(len(counts)), counts)
        place = np.arange(len(row)) - np.repeat(counts.cumsum() - counts, counts)
        column = self.order[np.repeat(self.starts[queries], counts) + place]
        own = rule.excludes_own(query_cameras[row], cameras[column])
        match = ~(own | rule.excludes_any(query_cameras[row], ids[column], cameras[column]))
        matches, num_matches = self._table(row[match], column[match], len(counts))
        excluded = np.atleast_2d(rule.excludes_any(query_cameras[:, None], ids, cameras))
        return Images(matches, excluded, self._table(row[own], column[own], len(counts))[0]), num_matches

    def _table(self, row: np.ndarray, column: np.ndarray, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
        """(num_rows, m) the columns of each row, padded with G, and (num_rows,) how many; row: ascending."""
        counts = np.bincount(row, minlength=num_rows)
        table = np.full((num_rows, counts.max()), len(self.order))
        table[np.arange(table.shape[1]) < counts[:, None]] = column
        return table, counts
