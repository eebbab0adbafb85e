"""Histories as rows of entries, one domain at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from m6rec.arrays import Array, Ids


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """History entries of one domain as CSR rows over its item codes."""

    start: Ids  # (R + 1,)
    item: Ids  # (N,)
    value: Array  # (N,)

    @property
    def count(self) -> Ids:
        """(R,) entries of each row."""
        return self.start[1:] - self.start[:-1]

    @classmethod
    def of(cls, history: csr_array, item_domain: Ids, domain: int) -> Events:
        """Take the entries of the items of a domain."""
        keep = item_domain[history.indices] == domain
        before = np.r_[0, np.cumsum(keep)]
        return cls(before[history.indptr], history.indices[keep], history.data[keep])

    @classmethod
    def split(cls, history: csr_array, item_domain: Ids, n_domains: int) -> list[Events]:
        """Return the entries of each domain, in one pass over all of them."""
        n_rows, domain = history.shape[0], item_domain[history.indices]
        order = np.argsort(domain, kind="stable")
        row = np.repeat(np.arange(n_rows), np.diff(history.indptr))
        cell = domain.astype(np.int64) * n_rows + row
        count = np.bincount(cell, minlength=n_domains * n_rows).reshape(n_domains, n_rows)
        at = np.split(order, np.cumsum(count.sum(axis=1))[:-1])
        return [
            cls(np.r_[0, np.cumsum(n)], history.indices[rows], history.data[rows])
            for n, rows in zip(count, at, strict=True)
        ]

    def rows(self, first: int, last: int) -> Events:
        """Return some rows alone."""
        at, start = slice(self.start[first], self.start[last]), self.start[first : last + 1]
        return Events(start - start[0], self.item[at], self.value[at])

    def take(self, rows: Ids) -> Events:
        """Return these rows (M,) alone, in this order."""
        size = self.count[rows]
        start = np.r_[0, np.cumsum(size)]
        at = np.arange(start[-1]) + np.repeat(self.start[rows] - start[:-1], size)
        return Events(start, self.item[at], self.value[at])

    def flipped(self, n: int) -> tuple[Events, Ids]:
        """Return the transpose with n rows, and where each of its entries stood here."""
        entries = np.arange(len(self.item))
        shape = len(self.start) - 1, n
        columns = csr_array((entries, self.item, self.start), shape=shape).tocsc()
        order = columns.data
        return Events(columns.indptr, columns.indices, self.value[order]), order
