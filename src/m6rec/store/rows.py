"""What users and items share: rows that must exist, growing revs, tombstones, lists."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from m6rec.errors import StoreError
from m6rec.store.checks import Row, digest, item_row, user_row
from m6rec.store.records import Item, Kind, User
from m6rec.store.schema import DELETED, ITEMS, REVS, USERS

TABLES = {"user": USERS, "item": ITEMS}
MAKERS: Mapping[Kind, Callable[[Any], Row]] = {"user": user_row, "item": item_row}
PART = 500  # keys in one IN (…)


def placeholder(name: str) -> sa.BindParameter[Any]:
    """Return a parameter for a list, as in IN (…)."""
    return sa.bindparam(name, expanding=True)


def chunks(values: Collection[Any], size: int = PART) -> Iterator[list[Any]]:
    """Cut into lists that fit one statement."""
    rest = list(values)
    for start in range(0, len(rest), size):
        yield rest[start : start + size]


def _keyed(make: Callable[[sa.Table], Any]) -> dict[Kind, Any]:
    return {"user": make(USERS), "item": make(ITEMS)}


def _of(table: sa.Table) -> sa.ColumnElement[bool]:
    return table.c.key.in_(placeholder("keys"))


KNOWN = _keyed(lambda table: sa.select(table.c.key).where(_of(table)))
ONE = _keyed(lambda table: sa.select(table).where(table.c.key == sa.bindparam("key")))
PAGE = _keyed(
    lambda table: (
        sa.select(table)
        .where(table.c.key > sa.bindparam("after"), table.c.key < sa.bindparam("end"))
        .order_by(table.c.key)
        .limit(sa.bindparam("n"))
    )
)
CHANGED = _keyed(
    lambda table: (
        sa.select(table)
        .where(table.c.rev > sa.bindparam("since"), table.c.rev <= sa.bindparam("rev"))
        .order_by(table.c.rev, table.c.key)
    )
)
_DELETE = _keyed(lambda table: sa.delete(table).where(_of(table)))
_INSERT = _keyed(sa.insert)
REV = sa.select(REVS.c.rev).where(REVS.c.kind == sa.bindparam("kind"))
_NEXT_REV = (
    sa.update(REVS)
    .where(REVS.c.kind == sa.bindparam("of"))
    .values(rev=REVS.c.rev + 1)
    .returning(REVS.c.rev)
)
GONE = sa.select(DELETED.c.key).where(
    DELETED.c.kind == sa.bindparam("kind"),
    DELETED.c.rev > sa.bindparam("since"),
    DELETED.c.rev <= sa.bindparam("rev"),
)
_FORGET = sa.delete(DELETED).where(
    DELETED.c.kind == sa.bindparam("of"), DELETED.c.key.in_(placeholder("keys"))
)
END = chr(0x10FFFF)  # sorts after every key


def next_rev(connection: sa.Connection, kind: Kind) -> int:
    """Return the rev of what this transaction changes; readers see all of it or nothing."""
    return int(connection.execute(_NEXT_REV, {"of": kind}).scalar_one())


def ensure(connection: sa.Connection, kind: Kind, keys: Collection[str]) -> None:
    """Insert bare rows for the keys that are missing."""
    found: set[str] = set()
    for part in chunks(keys):
        found |= {key for (key,) in connection.execute(KNOWN[kind], {"keys": part})}
    missing = sorted(set(keys) - found)
    if missing:
        bare = User if kind == "user" else Item
        write(connection, kind, [MAKERS[kind](bare(key=key)) for key in missing])


def write(connection: sa.Connection, kind: Kind, rows: Sequence[Row]) -> None:
    """Insert rows under a new rev; keys that had been deleted are so no longer."""
    rev = next_rev(connection, kind)
    connection.execute(_INSERT[kind], [{**row, "rev": rev} for row in rows])
    for part in chunks([row["key"] for row in rows]):
        connection.execute(_FORGET, {"of": kind, "keys": [_stone(kind, key) for key in part]})


def put(connection: sa.Connection, kind: Kind, rows: Sequence[Row]) -> int:
    """Insert or overwrite; of several rows with one key the last one counts."""
    last = {row["key"]: row for row in rows}
    if last:
        drop(connection, kind, last)
        write(connection, kind, list(last.values()))
    return len(last)


def drop(connection: sa.Connection, kind: Kind, keys: Collection[str]) -> int:
    """Delete rows, without a tombstone."""
    return sum(connection.execute(_DELETE[kind], {"keys": part}).rowcount for part in chunks(keys))


def bury(connection: sa.Connection, kind: Kind, key: str) -> None:
    """Leave a tombstone, for readers that keep a copy."""
    stone = {"kind": kind, "key": _stone(kind, key)}
    connection.execute(_FORGET, {"of": kind, "keys": [stone["key"]]})
    connection.execute(sa.insert(DELETED), [{**stone, "rev": next_rev(connection, kind)}])


def patch(connection: sa.Connection, kind: Kind, key: str, changes: Mapping[str, Any]) -> bool:
    """Change some fields of a row; False where there is none."""
    found = connection.execute(ONE[kind], {"key": key}).one_or_none()
    if found is None:
        return False
    try:
        changed = replace(VALUES[kind](found), **changes)
    except TypeError:
        raise StoreError(f'{kind} "{key}": has no {" or ".join(sorted(changes))}') from None
    if changed.key != key:
        raise StoreError(f'{kind} "{key}": its key cannot be changed')
    put(connection, kind, [MAKERS[kind](changed)])
    return True


def _stone(kind: Kind, key: str) -> str:
    return digest(key) if kind == "user" else key


def user(row: Any) -> User:
    """Return the user of a row."""
    return User(
        key=row.key, attributes=json.loads(row.attributes), comment=row.comment, rev=row.rev
    )


def item(row: Any) -> Item:
    """Return the item of a row."""
    return Item(
        key=row.key,
        title=row.title,
        text=row.text,
        attributes=json.loads(row.attributes),
        categories=tuple(json.loads(row.categories)),
        hidden=row.hidden,
        time=row.time,
        comment=row.comment,
        rev=row.rev,
    )


VALUES: Mapping[Kind, Callable[[Any], Any]] = {"user": user, "item": item}
