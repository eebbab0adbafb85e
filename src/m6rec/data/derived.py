"""Features derived from behaviour: of users, as of a request; of items, as of train."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from m6rec.arrays import Array, Floats, Ids
from m6rec.data.normalise import Normaliser
from m6rec.data.query import DAY, SEQUENCE, Query, make_query

if TYPE_CHECKING:  # a Dataset describes its requests by this module
    from m6rec.data.dataset import Dataset

DERIVED = "derived"  # name of the feature block, of users and of items
USER_NAMES = ("activity", "frequency", "recency", "diversity", "mean value", "price level")
ITEM_NAMES = ("popularity", "age", "freshness")
BATCH = 16_384  # users whose requests are made at once
LIMIT = 3.0  # standard deviations; an odd request is not taken for more unlike train than this


@dataclass(frozen=True, kw_only=True, eq=False)
class Derivation:
    """What it takes, beside events, to make blocks of derived features.

    item_group, n_groups, price: of ``derived_user``. user_scale, item_scale: of each column,
    fitted on train.
    """

    item_group: Ids
    n_groups: int
    price: Array | None
    user_scale: tuple[Normaliser, ...]
    item_scale: tuple[Normaliser, ...]

    def users(self, query: Query) -> Floats:
        """Return (B, 5 or 6) float32 deviations from the mean user of train; 0 where unknown."""
        raw = derived_user(query, self.item_group, self.n_groups, self.price)
        return _deviations(raw, self.user_scale)

    def extended(self, new: Derivation) -> Derivation:
        """Return what describes requests and items where those of ``new`` come after these."""
        joined = replace(self, item_group=np.concatenate([self.item_group, new.item_group]))
        if self.price is None or new.price is None:
            return joined
        return replace(joined, price=np.concatenate([self.price, new.price]))

    def items(self, dataset: Dataset) -> Floats:
        """Return (n_items, 3) float32 deviations from the mean item of train; 0 where unknown."""
        return _deviations(derived_item(dataset), self.item_scale)


def derived_user(
    query: Query, item_group: Ids, n_groups: int, price: Array | None = None
) -> Floats:
    """Return (B, 6) float32 features of the requests, columns as in ``USER_NAMES``.

    A function of the request alone, so that training (``as_of``) and live requests agree. NaN
    where unknown: all without history, frequency and recency without times. Without ``price``
    the last column is left out.

    activity: ln(1 + distinct items). frequency: ln(1 + events per active day) over the
    sequence. recency: 1 / (1 + days since the newest event). diversity: entropy of the items'
    groups, 1 = spread evenly. mean value: mean history weight or rating. price level: mean of
    ``price`` (n_items,) over the items that have one (not NaN).
    item_group: (n_items,) in 0 … n_groups-1, such as the domain or a category; -1 = none.
    """
    h = query.history
    n, size = len(query), np.diff(query.history.indptr)
    row = np.repeat(np.arange(n), size)
    known = query.times >= 0
    day = np.where(known, query.times // DAY, -1)
    fresh = known & np.c_[np.ones((n, 1), np.bool_), np.diff(day, axis=1) != 0]
    days, count = fresh.sum(axis=1), known.sum(axis=1)
    newest = query.times.max(axis=1, initial=-1)
    idle = np.maximum(query.now - newest, 0) / DAY
    columns = [
        np.where(size > 0, np.log1p(size), np.nan),
        np.where(count > 0, np.log1p(count / np.maximum(days, 1)), np.nan),
        np.where((newest >= 0) & (query.now >= 0), 1 / (1 + idle), np.nan),
        _evenness(row, item_group[h.indices], n, n_groups),
        _mean(row, h.data, n),
    ]
    if price is not None:
        value = np.asarray(price, np.float64)[h.indices]
        priced = ~np.isnan(value)
        columns.append(_mean(row[priced], value[priced], n))
    return np.column_stack(columns).astype(np.float32)


def derived_item(train: Dataset) -> Floats:
    """Return (n_items, 3) float32 features, columns as in ``ITEM_NAMES``, as of the newest event.

    popularity: ln(1 + users). age: ln(1 + days since the first event). freshness: 1 / (1 + days
    since the last event). NaN for an item without events; age and freshness without times.
    """
    n = train.n_items
    block = np.full((n, len(ITEM_NAMES)), np.nan)
    active = np.bincount(train.item, minlength=n) > 0
    users = np.bincount(train.positives.indices, minlength=n)
    block[active, 0] = np.log1p(users[active])
    timed = train.time >= 0
    if timed.any():
        item, time = train.item[timed], train.time[timed]
        first, last = np.full(n, np.iinfo(np.int64).max), np.full(n, -1)
        np.minimum.at(first, item, time)
        np.maximum.at(last, item, time)
        seen = last >= 0
        block[seen, 1] = np.log1p((train.now - first[seen]) / DAY)
        block[seen, 2] = 1 / (1 + (train.now - last[seen]) / DAY)
    return block.astype(np.float32)


def as_of(dataset: Dataset, rows: Ids, length: int = SEQUENCE) -> Query:
    """Return the requests (B,) as they stood before the events at ``rows`` (B,) happened.

    Each holds the earlier events of the same user, never the event itself or a later one, and
    ``now`` is the time of the event.
    """
    rows = np.asarray(rows, np.int64)
    user = dataset.user[rows]
    count = rows - dataset.start[user]
    row = np.repeat(np.arange(len(rows)), count)
    at = np.arange(len(row)) - np.repeat(np.cumsum(count) - count - dataset.start[user], count)
    query = make_query(
        row=row,
        item=dataset.item[at],
        weight=dataset.weight[at],
        time=dataset.time[at],
        event=dataset.event[at],
        user=user,
        now=dataset.time[rows],
        n_items=dataset.n_items,
        events=dataset.events,
        explicit=dataset.explicit,
        features={name: block[user] for name, block in dataset.user_attributes.items()},
        length=length,
    )
    return dataset.described(query)


def newest_requests(dataset: Dataset) -> Iterator[Query]:
    """Yield the requests that the newest event of each user answered, in batches.

    Users without events are left out; of a single event, the history before it is empty.
    """
    rows = (dataset.start[1:] - 1)[np.diff(dataset.start) > 0]
    for at in range(0, len(rows), BATCH):
        yield as_of(dataset, rows[at : at + BATCH])


def _deviations(raw: Array, scales: tuple[Normaliser, ...]) -> Floats:
    """(n, d) in standard deviations of train; 0 where unknown."""
    columns = [scale.apply(x) for scale, x in zip(scales, raw.T, strict=True)]
    return np.nan_to_num(np.column_stack(columns)).clip(-LIMIT, LIMIT).astype(np.float32)


def _evenness(row: Ids, group: Ids, n: int, n_groups: int) -> Array:
    """(n,) entropy of each row's groups over its greatest possible value; NaN without any."""
    inside = group >= 0
    cell = row[inside].astype(np.int64) * n_groups + group[inside]
    cells, count = np.unique(cell, return_counts=True)
    owner = cells // n_groups
    share = count / np.bincount(owner, count, n)[owner]
    entropy = np.bincount(owner, -share * np.log(share), n) / np.log(max(2, n_groups))
    return np.where(np.bincount(owner, minlength=n) > 0, entropy, np.nan)


def _mean(row: Ids, value: Array, n: int) -> Array:
    """(n,) mean value of each row; NaN without any."""
    count = np.bincount(row, minlength=n)
    return np.where(count > 0, np.bincount(row, value, n) / np.maximum(count, 1), np.nan)
