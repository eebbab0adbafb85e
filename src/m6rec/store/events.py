"""The event log: adding, replacing, deleting; histories, lists and sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from m6rec.store.checks import Row
from m6rec.store.records import History
from m6rec.store.rows import chunks, ensure, placeholder
from m6rec.store.schema import EVENTS

E = EVENTS.c
_OLDEST = (E.time, E.id)
_NEWEST = (E.time.desc(), E.id.desc())
_SEEN = (E.user_key == sa.bindparam("user"), E.time <= sa.bindparam("until"))
_COLUMNS = (E.item_key, E.type, E.value, E.time)
HISTORY = sa.select(*_COLUMNS).where(*_SEEN).order_by(*_OLDEST)
LATEST = sa.select(*_COLUMNS).where(*_SEEN).order_by(*_NEWEST).limit(sa.bindparam("n"))
_KNOWN = sa.select(E.key).where(E.key.in_(placeholder("keys")))
_DELETE_TRIPLE = sa.delete(EVENTS).where(
    E.user_key == sa.bindparam("user"),
    E.item_key == sa.bindparam("item"),
    E.type == sa.bindparam("of_type"),
)


def add(connection: sa.Connection, jobs: Sequence[Sequence[Row]]) -> list[int]:
    """Insert the rows of each job whose idempotency key is new; returns how many of each were."""
    new = _new(connection, jobs)
    insert(connection, [row for rows in new for row in rows])
    return [len(rows) for rows in new]


def replace(connection: sa.Connection, jobs: Sequence[Sequence[Row]]) -> list[int]:
    """As ``add``, but an event is then the only one of its type, user and item."""
    new = _new(connection, jobs)
    last = {(row["user_key"], row["item_key"], row["type"]): row for rows in new for row in rows}
    if last:
        triples = [dict(zip(("user", "item", "of_type"), triple, strict=True)) for triple in last]
        connection.execute(_DELETE_TRIPLE, triples)
        insert(connection, list(last.values()))
    return [len(rows) for rows in new]


def _new(connection: sa.Connection, jobs: Sequence[Sequence[Row]]) -> list[list[Row]]:
    """The rows of each job without a key or with a new one.

    There is one writer at a time, so what is not there now is not there at the insert either.
    """
    keys = {row["key"] for rows in jobs for row in rows if row["key"] is not None}
    known = set()
    for part in chunks(keys):
        known |= {key for (key,) in connection.execute(_KNOWN, {"keys": part})}
    found = []
    for rows in jobs:
        fresh = []
        for row in rows:
            if row["key"] not in known:
                fresh.append(row)
                if row["key"] is not None:
                    known.add(row["key"])
        found.append(fresh)
    return found


def insert(connection: sa.Connection, rows: Sequence[Row]) -> None:
    """Insert rows, and bare rows for the users and items that are missing."""
    if not rows:
        return
    ensure(connection, "item", {row["item_key"] for row in rows})
    ensure(connection, "user", {row["user_key"] for row in rows})
    connection.execute(sa.insert(EVENTS), rows)


def history(rows: Sequence[Any]) -> History:
    """Return rows of item, type, value and time as columns."""
    return History(*map(list, zip(*rows, strict=True))) if rows else History([], [], [], [])
