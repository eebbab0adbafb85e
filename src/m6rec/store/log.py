"""The event log: adding, replacing, deleting, and a user's history."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from m6rec.store.among import among
from m6rec.store.checks import Row
from m6rec.store.records import History
from m6rec.store.rows import copy, ensure
from m6rec.store.schema import EVENTS

E = EVENTS.c
ID = re.compile("[0-9]{1,18}")
_COLUMNS = (E.item_key, E.type, E.value, E.time)
_SEEN = (E.user_key == sa.bindparam("user"), E.time <= sa.bindparam("until"))
HISTORY = sa.select(*_COLUMNS).where(*_SEEN).order_by(E.time, E.id)
LATEST = (
    sa.select(*_COLUMNS).where(*_SEEN).order_by(E.time.desc(), E.id.desc()).limit(sa.bindparam("n"))
)
HISTORIES = (
    sa.select(E.user_key, *_COLUMNS)
    .where(among(E.user_key, "users"), E.time <= sa.bindparam("until"))
    .order_by(E.user_key, E.time, E.id)
)
_NEWEST = (
    sa.select(E.item_key, E.type)
    .where(E.time <= sa.bindparam("until"))
    .order_by(E.time.desc(), E.id.desc())
    .limit(sa.bindparam("n"))
    .subquery()
)
POPULAR = (
    sa.select(_NEWEST.c.item_key, sa.func.count().label("n"))
    .where(sa.not_(among(_NEWEST.c.type, "without")))
    .group_by(_NEWEST.c.item_key)
    .order_by(sa.desc("n"), _NEWEST.c.item_key)
)
_N, _TOLD = EVENTS.alias("newer").c, EVENTS.alias("told").c
_UNTIL = sa.bindparam("until", type_=sa.BigInteger)


def _stands(of: Any) -> sa.ColumnElement[bool]:
    """Whether a user has no newer event on the item: counted, since PostgreSQL would join the
    whole log for NOT EXISTS, and by time + 0, since SQLite would look the time up."""
    newer = sa.select(sa.func.count()).where(
        _N.user_key == of.user_key,
        _N.item_key == of.item_key,
        _N.time + 0 <= _UNTIL,
        sa.tuple_(_N.time + 0, _N.id) > sa.tuple_(of.time, of.id),
    )
    return newer.scalar_subquery() == 0


_OF_TYPES = sa.select(_TOLD.item_key).where(
    _TOLD.user_key == sa.bindparam("user"), among(_TOLD.type, "types")
)
STANDING_OF = sa.select(E.item_key).where(
    E.user_key == sa.bindparam("user"), E.item_key.in_(_OF_TYPES),
    E.time + 0 <= _UNTIL, among(E.type, "types"), _stands(E),
)  # fmt: skip
_ON = sa.select(E.id, E.user_key, *_COLUMNS).where(
    E.item_key == sa.bindparam("item"), E.time <= _UNTIL, among(E.type, "types")
)
_NEWEST_ON = _ON.order_by(E.time.desc(), E.id.desc()).limit(sa.bindparam("n"))
STANDING_ON, LATEST_ON = (
    sa.select(of.c.user_key, of.c.type, of.c.value, of.c.time).where(_stands(of.c))
    for of in (_ON.subquery("of"), _NEWEST_ON.subquery("of"))
)
LAST = sa.select(sa.func.coalesce(sa.func.max(E.id), 0))
_KNOWN = sa.select(E.key).where(among(E.key, "keys"))
_KNOWN_IDS = sa.select(E.id).where(among(E.id, "ids"))
_OF_PAIR = (E.user_key == sa.bindparam("user"), E.item_key == sa.bindparam("item"))
_OF_TYPE = E.type == sa.bindparam("of_type")
_DELETE_PAIR = sa.delete(EVENTS).where(*_OF_PAIR)
_DELETE_TRIPLE = sa.delete(EVENTS).where(*_OF_PAIR, _OF_TYPE)


def add(connection: sa.Connection, jobs: Sequence[Sequence[Row]]) -> list[int]:
    """Insert the rows of each job whose idempotency key is new; returns how many of each were."""
    new = _new(connection, jobs)
    _insert(connection, [row for rows in new for row in rows])
    return [len(rows) for rows in new]


def replace(connection: sa.Connection, jobs: Sequence[Sequence[Row]]) -> list[int]:
    """As ``add``, but an event is then the only one of its type, user and item."""
    new = _new(connection, jobs)
    last = {(row["user_key"], row["item_key"], row["type"]): row for rows in new for row in rows}
    if last:
        triples = [{"user": user, "item": item, "of_type": kind} for user, item, kind in last]
        connection.execute(_DELETE_TRIPLE, triples)
        _insert(connection, list(last.values()))
    return [len(rows) for rows in new]


def restore(connection: sa.Connection, jobs: Sequence[tuple[str, Sequence[Row]]]) -> list[int]:
    """As ``add``, for rows from a file: those that this store itself exported, and still has,
    are left out by their id. A job is the prefix of such keys, and rows.
    """
    kept = []
    for prefix, rows in jobs:
        ends = {row["key"]: (row["key"] or "").removeprefix(prefix) for row in rows}
        own = {key: int(end) for key, end in ends.items() if end != key and ID.fullmatch(end)}
        there = set(connection.execute(_KNOWN_IDS, {"ids": own.values()}).scalars())
        kept.append([row for row in rows if own.get(row["key"]) not in there])
    return add(connection, kept)


def delete(connection: sa.Connection, jobs: Sequence[tuple[str, str, str | None]]) -> list[int]:
    """Delete a user's events on an item, of one type or all; returns how many there were."""
    return [
        connection.execute(
            _DELETE_PAIR if kind is None else _DELETE_TRIPLE,
            {"user": user, "item": item} | ({} if kind is None else {"of_type": kind}),
        ).rowcount
        for user, item, kind in jobs
    ]


def _new(connection: sa.Connection, jobs: Sequence[Sequence[Row]]) -> list[list[Row]]:
    """The rows of each job without a key or with a new one.

    There is one writer at a time, so what is not there now is not there at the insert either.
    """
    keys = {row["key"] for rows in jobs for row in rows if row["key"] is not None}
    known = set(connection.execute(_KNOWN, {"keys": keys}).scalars()) if keys else keys
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


def _insert(connection: sa.Connection, rows: Sequence[Row]) -> None:
    """Insert rows, and bare rows for the users and items that are missing."""
    if rows:
        ensure(connection, "item", {row["item_key"] for row in rows})
        ensure(connection, "user", {row["user_key"] for row in rows})
        copy(connection, EVENTS, rows)


def columns(rows: Sequence[Any]) -> History:
    """Return rows of item, type, value and time as columns."""
    return History(*map(list, zip(*rows, strict=True))) if rows else History([], [], [], [])


def by_user(rows: Sequence[Any], users: Sequence[str]) -> list[History]:
    """Return the history of each user from rows that begin with the user."""
    found = {user: History([], [], [], []) for user in users}
    for user, item, kind, value, time in rows:
        history = found[user]
        history.item.append(item)
        history.type.append(kind)
        history.value.append(value)
        history.time.append(time)
    return [found[user] for user in users]
