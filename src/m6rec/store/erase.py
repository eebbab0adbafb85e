"""Users and items that go: deletion from every table, and two users made one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from m6rec.errors import DataError
from m6rec.store import rows
from m6rec.store.records import Kind, User
from m6rec.store.schema import ALERTS, EVENTS, GIVEN, LABELS, SEEDS, WATCHED

_KINDS: tuple[Kind, ...] = ("user", "item")
_KEY: sa.BindParameter[str] = sa.bindparam("at")
_FROM: Mapping[Kind, Mapping[str, Any]] = {
    kind: {
        "events": sa.delete(EVENTS).where(EVENTS.c[f"{kind}_key"] == _KEY),
        "given": sa.delete(GIVEN).where(GIVEN.c[f"{kind}_key"] == _KEY),
        "seeds": sa.delete(SEEDS).where(SEEDS.c.kind == kind, SEEDS.c.key == _KEY),
    }
    for kind in _KINDS
}
# A user's watch list goes; what they said of documents and alerts stays, without their name.
_WATCHED = sa.delete(WATCHED).where(WATCHED.c.user_key == _KEY)
_NAMELESS = tuple(
    sa.update(table).where(table.c.user_key == _KEY).values(user_key="")
    for table in (LABELS, ALERTS)
)
_MOVE = {
    name: sa.update(table)
    .where(table.c.user_key == sa.bindparam("source"))
    .values(user_key=sa.bindparam("into"))
    for name, table in (
        ("events", EVENTS), ("given", GIVEN), ("labels", LABELS), ("alerts", ALERTS),
    )
}  # fmt: skip
_MOVE_ITEM = tuple(
    sa.update(table)
    .where(table.c.item_key == sa.bindparam("source"))
    .values(item_key=sa.bindparam("into"))
    for table in (EVENTS, GIVEN)
)
_TO_SELF = sa.delete(EVENTS).where(
    EVENTS.c.user_key == sa.bindparam("user"), EVENTS.c.item_key == sa.bindparam("item")
)
_WATCHES = sa.select(WATCHED.c.entity).where(WATCHED.c.user_key == sa.bindparam("into")).limit(1)
_MOVE_WATCHED = (
    sa.update(WATCHED)
    .where(WATCHED.c.user_key == sa.bindparam("source"))
    .values(user_key=sa.bindparam("into"))
)
_MOVE_SEED = (
    sa.update(SEEDS)
    .where(SEEDS.c.kind == "user", SEEDS.c.key == sa.bindparam("source"))
    .values(key=sa.bindparam("into"))
)
_IS_SEED = sa.select(SEEDS.c.key).where(SEEDS.c.kind == "user", SEEDS.c.key == sa.bindparam("into"))


def delete(connection: sa.Connection, jobs: Sequence[tuple[Kind, str]]) -> list[dict[str, int]]:
    """Delete every row that names a key; returns how many of each table there were."""
    return [_delete(connection, kind, key) for kind, key in jobs]


def delete_users(
    connection: sa.Connection, jobs: Sequence[tuple[str, Sequence[str]]]
) -> list[dict[str, int]]:
    """As ``delete``, for users and the items that they are."""
    found = []
    for user, items in jobs:
        counts = Counter(_delete(connection, "user", user))
        for item in items:
            counts.update(_delete(connection, "item", item, person=True))
        found.append(dict(counts))
    return found


def _delete(
    connection: sa.Connection, kind: Kind, key: str, person: bool = False
) -> dict[str, int]:
    """Whoever is erased is buried even if unknown: what was given to them may not be written yet,
    and a run may have them."""
    counts = {f"{kind}s": rows.drop(connection, kind, [key])}
    for name, statement in _FROM[kind].items():
        counts[name] = connection.execute(statement, {"at": key}).rowcount
    if kind == "user":
        counts["watched"] = connection.execute(_WATCHED, {"at": key}).rowcount
        for statement in _NAMELESS:
            connection.execute(statement, {"at": key})
    if kind == "user" or person or any(counts.values()):
        rows.bury(connection, kind, key, person)
    return counts


def merge(
    connection: sa.Connection, jobs: Sequence[tuple[str, str, Sequence[tuple[str, str]]]]
) -> list[int]:
    """Make a user part of another, who keeps what both say of themselves, and the items that the
    one is those that the other is; returns how many events of the user moved."""
    return [_merge(connection, *job) for job in jobs]


def _merge(
    connection: sa.Connection, source: str, into: str, items: Sequence[tuple[str, str]]
) -> int:
    found = connection.execute(rows.ONE["user"], {"key": source}).one_or_none()
    if found is None:
        raise DataError(f'user "{source}": is not there, so it cannot be merged')
    old = rows.user(found)
    found = connection.execute(rows.ONE["user"], {"key": into}).one_or_none()
    new = User(key=into) if found is None else rows.user(found)
    names = {"source": source, "into": into}
    moved = {name: connection.execute(of, names).rowcount for name, of in _MOVE.items()}["events"]
    if connection.execute(_IS_SEED, {"into": into}).one_or_none():
        connection.execute(_FROM["user"]["seeds"], {"at": source})
    connection.execute(_MOVE_SEED, names)
    if not connection.execute(_WATCHES, {"into": into}).first():
        connection.execute(_MOVE_WATCHED, names)
    connection.execute(_WATCHED, {"at": source})
    rows.drop(connection, "user", [source])
    rows.bury(connection, "user", source)
    merged = User(
        key=into,
        attributes={**old.attributes, **new.attributes},
        comment=new.comment or old.comment,
    )
    rows.put(connection, "user", [rows.MAKERS["user"](merged)])
    for old_item, new_item in items:
        _merge_item(connection, old_item, new_item, into)
    return int(moved)


def _merge_item(connection: sa.Connection, source: str, into: str, user: str) -> None:
    """Let an item that is a person be another one; ``user`` is not linked to themselves by it."""
    rows.ensure(connection, "item", [into])
    for statement in _MOVE_ITEM:
        connection.execute(statement, {"source": source, "into": into})
    connection.execute(_TO_SELF, {"user": user, "item": into})
    rows.drop(connection, "item", [source])
    rows.bury(connection, "item", source, person=True)
