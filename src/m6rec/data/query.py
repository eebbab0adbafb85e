"""The request: who asks, what they did, when, and in which words, encoded for a batch of B."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.sparse import csr_array

from m6rec.arrays import Array, Ids, Mask
from m6rec.data.schema import EventType

SEQUENCE = 100  # newest events of a user that a query carries in order
DAY = 86_400
TINY = np.finfo(np.float32).tiny
ACTIVITY_EDGES = (1, 5, 20)  # history items in a domain: 0 | 1-4 | 5-19 | 20 and more
ACTIVITY_NAMES = ("0", "1-4", "5-19", "20+")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Query:
    """B requests. A model sees nothing else of a user.

    user: (B,) user codes, -1 unknown.
    history: (B, n_items) float32 weights; below 0 = negative feedback (implicit domains);
        ratings as given (explicit domains). A row may be empty.
    sequence, times, event: (B, L) item codes, unix seconds and event-type codes,
        oldest → newest, left-padded with -1.
    now: (B,) request time in unix seconds, -1 where the data has no times.
    features: name → (B, d) float32 user attributes; zeros where unknown.
    text: B free texts (a question, a search, a profile), or None.
    withheld: (B, n_items), by its stored entries, what no list may hold though it is not in the
        history: the person who asks, and who blocked them; None = nothing.
    """

    user: Ids
    history: csr_array
    sequence: Ids
    times: Ids
    event: Ids
    now: Ids
    features: Mapping[str, Array] = field(default_factory=dict)
    text: tuple[str, ...] | None = None
    withheld: csr_array | None = None

    def __len__(self) -> int:
        return len(self.user)

    @property
    def seen(self) -> csr_array:
        """(B, n_items) what no list may hold, by its stored entries: the history, and more."""
        if self.withheld is None:
            return self.history
        return csr_array(ones(self.history) + ones(self.withheld))

    def take(self, rows: Array | slice) -> Query:
        """Return the requests at these rows (indices, mask or slice)."""
        index = np.arange(len(self))[rows]
        return Query(
            user=self.user[index],
            history=self.history[index],
            sequence=self.sequence[index],
            times=self.times[index],
            event=self.event[index],
            now=self.now[index],
            features={name: block[index] for name, block in self.features.items()},
            text=None if self.text is None else tuple(self.text[i] for i in index),
            withheld=None if self.withheld is None else self.withheld[index],
        )

    def at(self, rows: Sequence[int]) -> Query:
        """Return the requests at these places: itself where these are all of them in order, so
        that what models hold of it serves again."""
        return self if [*rows] == [*range(len(self))] else self.take(np.asarray(rows, np.int64))

    def within(self, n: int) -> Query:
        """Return the requests as a model reads them that knows the first n items only."""
        if self.history.shape[1] <= n:
            return self
        sequence = np.where(self.sequence < n, self.sequence, -1)
        withheld = None if self.withheld is None else self.withheld[:, :n]
        return replace(self, history=self.history[:, :n], sequence=sequence, withheld=withheld)

    def activity(self, item_domain: Ids, n_domains: int) -> Ids:
        """Return (B, n_domains) counts of distinct history items, negative ones left out."""
        h = self.history
        positive = h.data > 0
        row = np.repeat(np.arange(len(self)), h.indptr[1:] - h.indptr[:-1])[positive]
        cell = row * n_domains + item_domain[h.indices[positive]]
        return np.bincount(cell, minlength=len(self) * n_domains).reshape(len(self), n_domains)


def of_items(rows: Sequence[Ids], n_items: int) -> csr_array:
    """Return (B, n_items) with an entry of 1 for each item of each row; -1 is skipped."""
    row = np.repeat(np.arange(len(rows)), [len(items) for items in rows])
    item = np.concatenate([np.zeros(0, np.int32), *rows])
    known = item >= 0
    entry = np.ones(int(known.sum()), np.float32)
    return csr_array((entry, (row[known], item[known])), shape=(len(rows), n_items))


def ones(matrix: csr_array) -> csr_array:
    """Return the same stored entries, all 1, so that no sum of two exclusions cancels."""
    data = np.ones(matrix.nnz, np.float32)
    return csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def activity_bucket(counts: Ids) -> Ids:
    """Return the activity bucket of each count: an index into ACTIVITY_NAMES."""
    return np.searchsorted(np.asarray(ACTIVITY_EDGES), counts, side="right")


def make_query(
    *,
    row: Ids,
    item: Ids,
    weight: Array,
    time: Ids,
    event: Ids,
    user: Ids,
    now: Ids,
    n_items: int,
    events: Sequence[EventType],
    explicit: Mask,
    features: Mapping[str, Array] | None = None,
    text: tuple[str, ...] | None = None,
    length: int = SEQUENCE,
) -> Query:
    """Build a Query from event rows, from a Dataset or live from a store alike.

    row: (N,) request number 0 … B-1 of each event; rows of one request stand together,
    oldest first. explicit: (n_items,) items whose values are ratings.
    """
    n = len(user)
    start = np.searchsorted(row, np.arange(n + 1))
    from_end = start[row + 1] - np.arange(len(row))  # 1 = newest event of its request
    length = max(1, min(length, int((start[1:] - start[:-1]).max(initial=0))))
    kept = from_end <= length
    place = (row[kept], length - from_end[kept])
    sequence = np.full((n, length), -1, dtype=np.int32)
    times = np.full((n, length), -1, dtype=np.int64)
    kinds = np.full((n, length), -1, dtype=np.int16)
    sequence[place], times[place], kinds[place] = item[kept], time[kept], event[kept]
    return Query(
        user=user,
        history=history_matrix(row, item, weight, time, event, now, n_items, events, explicit),
        sequence=sequence,
        times=times,
        event=kinds,
        now=now,
        features=features or {},
        text=text,
    )


def history_matrix(
    row: Ids,
    item: Ids,
    weight: Array,
    time: Ids,
    event: Ids,
    now: Ids,
    n_items: int,
    events: Sequence[EventType],
    explicit: Mask,
) -> csr_array:
    """Sum event weights to one entry per (request, item): (B, n_items) float32.

    Items are codes of 0 to n_items - 1. Event rows stand by request, oldest first. Weights decay
    by the half-life of their type up to ``now`` of the request, each type's total is capped, and
    if the newest event on an item is negative the entry is that negative weight. Explicit items
    keep the newest value.
    """
    shape = (len(now), n_items)
    given = w = np.asarray(weight, dtype=np.float32)
    half_life = np.array([e.half_life or np.inf for e in events] or [np.inf])
    if np.isfinite(half_life).any():
        age = np.where((now[row] >= 0) & (time >= 0), now[row] - time, 0).clip(0) / DAY
        w = np.where(explicit[item], w, w * np.exp2(-age / half_life[event])).astype(np.float32)
    cap = np.array([np.inf if e.cap is None else e.cap for e in events] or [np.inf])
    if not (explicit[item].any() or np.isfinite(cap).any() or (given < 0).any()):
        start = np.searchsorted(row, np.arange(len(now) + 1))
        summed = csr_array((w, item, start), shape=shape, copy=True)
        summed.sum_duplicates()
        return summed

    cell = row.astype(np.int64) * n_items + item
    order = np.argsort(cell, kind="stable")
    cell, w, event, given = cell[order], w[order], event[order], given[order]
    first = np.flatnonzero(np.r_[True, cell[1:] != cell[:-1]]) if len(cell) else order
    last = np.r_[first[1:], len(cell)] - 1 if len(cell) else order
    disliked = given[last] < 0  # however long ago
    newest = np.where(disliked, np.minimum(w[last], -TINY), w[last])
    group = np.repeat(np.arange(len(first)), np.diff(np.r_[first, len(cell)]))
    n_types = len(cap)
    by_type = np.bincount(group * n_types + event, np.maximum(w, 0), len(first) * n_types)
    total = np.minimum(by_type.reshape(-1, n_types), cap).sum(axis=1)
    column = cell[first] % n_items
    keep_newest = explicit[column] | disliked
    value = np.where(keep_newest, newest, total).astype(np.float32)
    return csr_array((value, (cell[first] // n_items, column)), shape=shape)
