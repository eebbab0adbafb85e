"""Copies of the same text: the first one counts, the others are its spread.

Minhash over pairs and triples of words (Broder 1997), in bands, so that only texts that share a
band are compared; then those count as copies that share enough of their hashes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from m6rec.arrays import Array, Ids
from m6rec.text.hashed import count_grams

BUCKETS = 1 << 30  # of pairs of words: hardly two share one
LINKS = 64  # most members of a band that each is compared with


@dataclass(frozen=True, kw_only=True)
class Copies:
    """When two texts are copies.

    similar: least share of common words and pairs (Jaccard), estimated.
    days: at most this long after the first one.
    hashes: of a text; in bands of ``rows``.
    """

    similar: float = 0.7
    days: float = 3.0
    hashes: int = 96
    rows: int = 4

    def __post_init__(self) -> None:
        if not 0 < self.similar <= 1:
            raise ValueError(f"similar = {self.similar}: must be above 0, and at most 1")
        if self.days <= 0:
            raise ValueError(f"days = {self.days}: must be above 0")
        if self.rows < 1 or self.hashes < self.rows or self.hashes % self.rows:
            raise ValueError("hashes must be a multiple of rows")

    def first(self, texts: Sequence[str], times: Ids, settled: int = 0) -> Ids:
        """Return (n,) the place of the first copy of each text, its own where it is the first.

        times: (n,) unix seconds. Of the same time, the one that stands first is the first.
        settled: how many of the texts, from the start, were told before: the others are copies of
        them, whatever their time.
        """
        n = len(texts)
        if not n:
            return np.zeros(0, np.int64)
        order = np.lexsort((np.asarray(times), np.arange(n) >= settled))
        times = np.asarray(times)[order]
        signature = _signatures([texts[i] for i in order.tolist()], self.hashes)
        a, b = self._candidates(signature)
        near = (signature[a] == signature[b]).mean(axis=1) >= self.similar
        near &= np.abs(times[a] - times[b]) <= self.days * 86_400
        a, b = a[near], b[near]
        graph = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(n, n))
        _, group = connected_components(graph, directed=False)
        first = np.full(group.max() + 1, n)
        np.minimum.at(first, group, np.arange(n))
        found = np.empty(n, np.int64)
        found[order] = order[first[group]]
        return found

    def _candidates(self, signature: Array) -> tuple[Ids, Ids]:
        """Pairs of texts that share a band, the earlier one first."""
        pairs = []
        for start in range(0, self.hashes, self.rows):
            band = np.ascontiguousarray(signature[:, start : start + self.rows])
            _, code = np.unique(band.view(f"V{band.shape[1] * band.itemsize}"), return_inverse=True)
            code = code.ravel()
            order = np.argsort(code, kind="stable")
            for step in (1, 2, 4, 8, 16, 32, LINKS):
                a, b = order[:-step], order[step:]
                same = code[a] == code[b]
                if not same.any():
                    break
                pairs.append(np.stack([a[same], b[same]]))
        if not pairs:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        both = np.unique(np.concatenate(pairs, axis=1), axis=1)
        return both[0], both[1]


def _signatures(texts: Sequence[str], hashes: int) -> Array:
    """(n, hashes) uint32: the least value of each hash over the words and pairs of a text.

    A text without a word has values of its own.
    """
    grams = count_grams(texts, BUCKETS, 0)
    rng = np.random.default_rng(0)
    multiply = rng.integers(1, 1 << 62, hashes, dtype=np.uint64) | np.uint64(1)
    add = rng.integers(0, 1 << 62, hashes, dtype=np.uint64)
    value = grams.indices.astype(np.uint64)
    told = np.flatnonzero(np.diff(grams.indptr))
    out = np.empty((len(texts), hashes), np.uint32)
    out[:] = (np.arange(len(texts), dtype=np.uint32) * np.uint32(2654435761))[:, None]
    if len(told):
        starts = grams.indptr[told]
        for h in range(hashes):
            mixed = (value * multiply[h] + add[h]) >> np.uint64(32)
            out[told, h] = np.minimum.reduceat(mixed, starts)
    return out
