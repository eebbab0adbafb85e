"""Users' events as pieces of sequences, and batches of pieces of like length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from m6rec.arrays import Ids, Mask
from m6rec.data.dataset import Dataset
from m6rec.data.query import Query

if TYPE_CHECKING:  # it loads torch, and the window model needs none
    from m6rec.training.group import Group

Scope = Literal["auto", "all", "domain"]
SORTED = 20  # batches among which pieces are sorted by length
GAPS = 22  # classes of the time between two events


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Rows padded on the right with -1. item, time: (B, T) what was seen, and when; target:
    (B, T) the place among ``Pieces.item`` of what came next."""

    item: Ids
    time: Ids
    target: Ids

    def part(self, group: Group) -> Batch:
        """Return the rows of this process; of like length, as those of the others are."""
        rows = slice(group.rank, None, group.size)
        return Batch(self.item[rows], self.time[rows], self.target[rows])


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """Pieces of at most ``length`` targets, each with the events before them.

    row: (N,) liked events, as rows of the dataset; item, time: of each. first: (M,) place among
    them of the first input of a piece. size: (M,) its targets.
    """

    row: Ids
    item: Ids
    time: Ids
    first: Ids
    size: Ids

    @classmethod
    def of(cls, train: Dataset, length: int, joint: bool = True) -> Pieces:
        """Cut each user's liked items of implicit domains, the newest piece being whole.

        joint: one sequence over all domains; else one in each.
        """
        row = np.flatnonzero((train.weight > 0) & ~train.explicit[train.item])
        key = train.user[row].astype(np.int64)
        if not joint:
            key = key * train.n_domains + train.item_domain[train.item[row]]
            order = np.argsort(key, kind="stable")
            row, key = row[order], key[order]
        start = np.flatnonzero(np.diff(key, prepend=-1, append=-1))
        targets = np.diff(start) - 1
        count = -(-targets // length)
        owner = np.repeat(np.arange(len(targets)), count)
        back = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)  # 0 = newest
        last = start[owner + 1] - 1 - back * length  # place after the piece's last input
        first = np.maximum(last - length, start[owner])
        return cls(row, train.item[row], train.time[row], first, last - first)

    def __len__(self) -> int:
        return len(self.first)

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[Batch]:
        """Yield all pieces once, in random order, in batches of like length."""
        order = rng.permutation(len(self))
        block = size * SORTED
        parts = [order[at : at + block] for at in range(0, len(order), block)]
        parts = [part[np.argsort(self.size[part], kind="stable")] for part in parts]
        cut = [part[at : at + size] for part in parts for at in range(0, len(part), size)]
        for i in rng.permutation(len(cut)):
            rows = cut[i]
            place = np.arange(self.size[rows].max())
            at = self.first[rows][:, None] + place
            inside = place < self.size[rows][:, None]
            at = np.where(inside, at, 0)
            yield Batch(
                np.where(inside, self.item[at], -1),
                np.where(inside, self.time[at], -1),
                np.where(inside, at + 1, -1),
            )


def settled(scope: Scope, train: Dataset) -> Scope:
    """Return what "auto" means here: "all", or "domain" where several domains have no times, so
    that nobody knows in which order events of different domains happened."""
    if scope != "auto":
        return scope
    return "all" if train.n_domains == 1 or (train.time >= 0).any() else "domain"


def gaps(time: Ids) -> Ids:
    """Return the class of the time since the event before: (B, T); 0 = unknown or first.

    time: (B, T) seconds, -1 = unknown. Classes double from a minute on.
    """
    gap = np.diff(time, axis=1, prepend=-1)
    known = (time >= 0) & (np.roll(time, 1, axis=1) >= 0)
    known[:, :1] = False
    found = 1 + np.log2(1 + np.maximum(gap, 0) / 60).astype(np.int64)
    return np.where(known, found.clip(1, GAPS - 1), 0)


def histories(query: Query, length: int, known: Mask) -> tuple[Ids, Ids, Ids]:
    """Return the newest liked items of requests and their times, each (B, T) padded on the right
    with -1, and (B,) their number. known: (n_items,) items that count.

    An item whose newest event is negative, by the history, is left out.
    """
    item = query.sequence
    liked = item >= 0
    liked &= known[np.maximum(item, 0)]
    if (query.history.data <= 0).any():
        row = np.repeat(np.arange(len(query)), np.diff(query.history.indptr))
        bad = query.history.data <= 0
        cell = row[bad].astype(np.int64) * len(known) + query.history.indices[bad]
        mine = np.arange(len(query))[:, None] * len(known) + np.maximum(item, 0)
        liked &= ~np.isin(mine, cell)
    count = np.minimum(liked.sum(axis=1), length)
    width = max(1, int(count.max(initial=0)))
    from_end = np.cumsum(liked[:, ::-1], axis=1)[:, ::-1]  # 1 = newest liked
    kept = liked & (from_end <= count[:, None])
    out, time = np.full((2, len(query), width), -1, np.int64)
    row, column = np.nonzero(kept)
    place = count[row] - from_end[row, column]
    out[row, place], time[row, place] = item[row, column], query.times[row, column]
    return out, time, count
