"""Users whose histories are alike, by the cosine of what few others have."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csc_array, csr_array, diags_array

from m6rec.arrays import Floats, Ids
from m6rec.data.dataset import Dataset


class Nearest:
    """The histories of a run's users, by item, so that a request reads only its own items.

    An item counts by the logarithm of how rare it is; one that everybody has says nothing.
    """

    def __init__(self, data: Dataset) -> None:
        matrix = data.positives  # (n_users, n_items)
        had = np.bincount(matrix.indices, minlength=matrix.shape[1])
        self.rarity = np.log((1 + matrix.shape[0]) / (1 + had)).astype(np.float32)  # (n_items,)
        weighted = csr_array(
            (matrix.data * self.rarity[matrix.indices], matrix.indices, matrix.indptr),
            shape=matrix.shape,
        )
        norm = np.sqrt(weighted.power(2).sum(axis=1))
        self.columns = csc_array(diags_array(1 / np.maximum(norm, 1e-12)) @ weighted)

    def best(self, history: csr_array, k: int, leave: int = -1) -> tuple[Ids, Floats]:
        """Return up to k users, the most alike first, and the cosines, above 0 all of them.

        history: (1, n) weights; items that the run had not are left out. leave: who is asking.
        """
        mine = self._unit(history)
        likeness = self.columns[:, mine.indices] @ mine.data
        if leave >= 0:
            likeness[leave] = 0
        k = min(k, len(likeness))
        codes = np.argpartition(-likeness, k - 1)[:k] if k else np.zeros(0, np.int64)
        codes = codes[np.lexsort((codes, -likeness[codes]))]
        codes = codes[likeness[codes] > 0]
        return codes, likeness[codes]

    def cosines(self, history: csr_array, others: csr_array) -> Floats:
        """Return the likeness (m,) of a history (1, n) to those of others (m, n), whom the run
        need not have."""
        found: Floats = (self._unit(others) @ self._unit(history).T).toarray()[:, 0]
        return found

    def _unit(self, history: csr_array) -> csr_array:
        """Weighted rows of length 1, of the items that the run has and of what was liked."""
        known = csr_array(history[:, : len(self.rarity)]).maximum(0)
        shape = (history.shape[0], len(self.rarity))  # a request may be older than the newest items
        known = csr_array((known.data, known.indices, known.indptr), shape=shape)
        weighted = csr_array(known @ diags_array(self.rarity))
        norm = np.sqrt(weighted.power(2).sum(axis=1))
        return csr_array(diags_array(1 / np.maximum(norm, 1e-12)) @ weighted)
