"""Items that are people: who is which item, who must not see whom, links that hold both ways."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from m6rec.arrays import Ids, Mask
from m6rec.data.events import Codes
from m6rec.data.schema import DataConfig, Domain, EventType
from m6rec.data.vocab import Vocab


def item_of(domain: Domain, person: str) -> str:
    """Return the key of the item that a person is in a domain of people."""
    own = f"{domain.name}:"
    return f"{domain.name}/{person.removeprefix(own) if domain.users == 'own' else person}"


def itself(user: str, items: Vocab, domains: Sequence[Domain]) -> Ids:
    """Return the codes of the items that a person is, -1 where there is none."""
    return items.encode(item_of(domain, user) for domain in domains if domain.people)


def persons(users: Vocab, items: Vocab, item_domain: Ids, domains: Sequence[Domain]) -> Ids:
    """Return (n_items,) int32: the code of the user who an item is, -1 where it is none."""
    found = np.full(len(items), -1, np.int32)
    for d, domain in enumerate(domains):
        if domain.people:
            place = np.flatnonzero(item_domain == d)
            bare = items.keys.gather(place).str.strip_prefix(f"{domain.name}/").to_list()
            own = [f"{domain.name}:{key}" if domain.users == "own" else key for key in bare]
            codes = users.encode(own)
            found[place] = np.where(codes < 0, users.encode(bare), codes)
    return found


def kept_apart(
    user: Ids, item: Ids, event: Ids, person: Ids, item_domain: Ids, n_users: int,
    events: Sequence[EventType],
) -> csr_array:  # fmt: skip
    """Return (n_users, n_items): by its entries, the items that a user is, those who blocked
    them, and those whom they blocked.

    user, item, event: (N,) rows, oldest first within a user. A block is the newest event of its
    user on that person, of a mutual negative type.
    """
    n_items = len(person)
    own = np.flatnonzero(person >= 0)
    rows, columns = [person[own]], [own]  # themselves
    blocks = np.array([e.mutual and e.sign == "negative" for e in events], np.bool_)
    if blocks[event].any():
        cell = user.astype(np.int64) * n_items + item
        order = np.argsort(cell, kind="stable")
        last = order[np.flatnonzero(np.diff(cell[order], append=-1))]
        last = last[blocks[event[last]] & (person[item[last]] >= 0)]
        for d in np.unique(item_domain[own]):
            place = np.full(n_users, -1, np.int64)  # of each person among the items of the domain
            inside = own[item_domain[own] == d]
            place[person[inside]] = inside
            some = last[(item_domain[item[last]] == d) & (place[user[last]] >= 0)]
            rows += [person[item[some]], user[some]]
            columns += [place[user[some]], item[some]]
    row, column = np.concatenate(rows), np.concatenate(columns)
    return csr_array((np.ones(len(row), np.float32), (row, column)), shape=(n_users, n_items))


def mutual(events: Sequence[EventType]) -> Mask:
    """Return (n_events,) the types that hold in both directions."""
    return np.array([e.mutual and e.sign == "positive" for e in events], np.bool_)


def links(user: Ids, item: Ids, event: Ids, person: Ids, item_domain: Ids,
          events: Sequence[EventType]) -> Ids | None:  # fmt: skip
    """Return (N,) the first row of the same link between two people, the row itself where an
    event is none; None where no type of event is mutual.

    Both rows of a link say the same, so no split may part them.
    """
    other = person[item]
    rows = np.flatnonzero(mutual(events)[event] & (other >= 0))
    if not len(rows):
        return None
    low, high = np.minimum(user[rows], other[rows]), np.maximum(user[rows], other[rows])
    ends = np.stack([item_domain[item[rows]], low, high])
    _, first, link = np.unique(ends, axis=1, return_index=True, return_inverse=True)
    found = np.arange(len(user))
    found[rows] = rows[first][link.ravel()]
    return found


def mirrored(log: pl.DataFrame, config: DataConfig, codes: Codes) -> pl.DataFrame:
    """Return the log with the other direction of every mutual positive event that lacks it.

    log: user, item, event and domain as ``codes``, and other columns, which are copied.
    """
    kinds = [n for n, e in config.events.items() if e.mutual and e.sign == "positive"]
    places = [name for name, domain in config.domains.items() if domain.people]
    if not kinds or not places:
        return log
    both = [
        pl.col(part).is_in(codes.encode(part, pl.Series(names)).implode())
        for part, names in (("event", kinds), ("domain", places))
    ]
    there = log.with_row_index("row").filter(*both)
    swapped = {
        part: codes.encode(part, codes.names(other).gather(there[other]))
        for part, other in (("user", "item"), ("item", "user"))
    }
    cell = ["user", "item", "event", "domain"]
    turned = there.with_columns(pl.Series(n, s) for n, s in swapped.items())
    turned = turned.join(there, on=cell, how="anti").unique(cell, keep="last")
    whole = pl.concat([log.with_row_index("row"), turned.select("row", *log.columns)])
    return whole.sort("row", maintain_order=True).drop("row")
