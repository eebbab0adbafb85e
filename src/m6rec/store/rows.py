"""What users and items share: rows that must exist, growing revs, tombstones, lists."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import sqlalchemy as sa

from m6rec.errors import DataError
from m6rec.store.among import among
from m6rec.store.checks import LONGEST, Row, digest, item_row, user_row
from m6rec.store.records import Item, Kind, User
from m6rec.store.schema import ABOUT, DELETED, ITEMS, REVS, USERS

TABLES = {"user": USERS, "item": ITEMS}
MAKERS: Mapping[Kind, Callable[[Any], Row]] = {"user": user_row, "item": item_row}


def copy(connection: sa.Connection, table: sa.Table, rows: Sequence[Row]) -> None:
    """Insert rows of the same columns: by COPY on PostgreSQL, else by one prepared statement."""
    if rows:
        names = list(rows[0])
        copy_tuples(connection, table, names, [tuple(row.values()) for row in rows])


def copy_tuples(
    connection: sa.Connection, table: sa.Table, names: Sequence[str], rows: Sequence[Any]
) -> None:
    """Insert tuples; see ``copy``."""
    listed = ", ".join(f'"{name}"' for name in names)
    if connection.dialect.name == "postgresql":
        driver: Any = connection.connection.driver_connection
        with driver.cursor().copy(f'COPY "{table.name}" ({listed}) FROM STDIN') as into:
            for row in rows:
                into.write_row(row)
        return
    marks = ", ".join("?" * len(names))
    connection.exec_driver_sql(f'INSERT INTO "{table.name}" ({listed}) VALUES ({marks})', rows)


def _keyed(make: Callable[[sa.Table], Any]) -> dict[Kind, Any]:
    return {"user": make(USERS), "item": make(ITEMS)}


def _of(table: sa.Table) -> sa.ColumnElement[bool]:
    return among(table.c.key, "keys")


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
ALL = _keyed(
    lambda table: (
        sa.select(table)
        .where(table.c.rev > sa.bindparam("since"), table.c.rev <= sa.bindparam("rev"))
        .order_by(table.c.rev, table.c.key)
    )
)
# The databases take the index of such rows only where they read its very condition.
CHANGED = {kind: select.where(sa.text("rev > 0")) for kind, select in ALL.items()}
_DELETE = _keyed(lambda table: sa.delete(table).where(_of(table)))
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
    DELETED.c.kind == sa.bindparam("of"), among(DELETED.c.key, "keys")
)
BURIED = sa.select(DELETED.c.key).where(
    DELETED.c.kind == sa.bindparam("of"), among(DELETED.c.key, "keys")
)
BARES = (
    sa.select(ITEMS.c.key, ITEMS.c.bare).where(among(ITEMS.c.bare, "bares")).order_by(ITEMS.c.key)
)
ID = sa.select(ABOUT.c.value).where(ABOUT.c.name == "id")
END = chr(0x10FFFF) * (LONGEST + 1)  # sorts after every key


def next_rev(connection: sa.Connection, kind: Kind) -> int:
    """Return the rev of what this transaction changes; readers see all of it or nothing."""
    return int(connection.execute(_NEXT_REV, {"of": kind}).scalar_one())


def ensure(connection: sa.Connection, kind: Kind, keys: Collection[str]) -> None:
    """Insert bare rows for the keys that are missing."""
    found = connection.execute(KNOWN[kind], {"keys": keys}).scalars()
    missing = sorted(set(keys).difference(found))
    if missing:
        bare = User if kind == "user" else Item
        write(connection, kind, [MAKERS[kind](bare(key=key)) for key in missing])


def write(connection: sa.Connection, kind: Kind, rows: Sequence[Row]) -> None:
    """Insert rows under a new rev; items that had been deleted are so no longer. Of users it is
    kept that they were: what a run knows by the key is of who was erased."""
    rev = next_rev(connection, kind)
    copy(connection, TABLES[kind], [{**row, "rev": rev} for row in rows])
    if kind == "item":
        stones = [stone for row in rows for stone in _stones(kind, row["key"])]
        connection.execute(_FORGET, {"of": kind, "keys": stones})


def put(connection: sa.Connection, kind: Kind, rows: Sequence[Row]) -> int:
    """Insert or overwrite; of several rows with one key the last one counts."""
    last = {row["key"]: row for row in rows}
    if last:
        drop(connection, kind, last)
        write(connection, kind, list(last.values()))
    return len(last)


def drop(connection: sa.Connection, kind: Kind, keys: Collection[str]) -> int:
    """Delete rows, without a tombstone."""
    return connection.execute(_DELETE[kind], {"keys": keys}).rowcount


def bury(connection: sa.Connection, kind: Kind, key: str, person: bool = False) -> None:
    """Leave a tombstone, for readers that keep a copy; person: an item is a user."""
    stones = _stones(kind, key)
    connection.execute(_FORGET, {"of": kind, "keys": stones})
    stone = {"kind": kind, "key": stones[-1] if person else stones[0]}
    copy(connection, DELETED, [{**stone, "rev": next_rev(connection, kind)}])


def put_users(connection: sa.Connection, jobs: Sequence[Sequence[Row]]) -> list[int]:
    """Put users; see ``put``."""
    return [put(connection, "user", each) for each in jobs]


def put_items(connection: sa.Connection, jobs: Sequence[Sequence[Row]]) -> list[int]:
    """Put items; see ``put``."""
    return [put(connection, "item", each) for each in jobs]


def patch(
    connection: sa.Connection, jobs: Sequence[tuple[Kind, str, Mapping[str, Any]]]
) -> list[bool]:
    """Change some fields of rows; False for one that is not there."""
    return [_patch(connection, *job) for job in jobs]


def categorise(connection: sa.Connection, jobs: Sequence[tuple[str, str, bool]]) -> list[bool]:
    """Put items into a category, or take them out; False for one that is not there."""
    return [_categorise(connection, *job) for job in jobs]


def _categorise(connection: sa.Connection, key: str, category: str, inside: bool) -> bool:
    found = connection.execute(ONE["item"], {"key": key}).one_or_none()
    if found is None:
        return False
    others = [each for each in item(found).categories if each != category]
    categories = (*others, category) if inside else tuple(others)
    return _patch(connection, "item", key, {"categories": categories})


def _patch(connection: sa.Connection, kind: Kind, key: str, changes: Mapping[str, Any]) -> bool:
    found = connection.execute(ONE[kind], {"key": key}).one_or_none()
    if found is None:
        return False
    value = VALUES[kind](found)
    if unknown := set(changes) - ({each.name for each in fields(value)} - {"key", "rev"}):
        raise DataError(f'{kind} "{key}": "{min(unknown)}" cannot be changed')
    put(connection, kind, [MAKERS[kind](replace(value, **changes))])
    return True


def _stones(kind: Kind, key: str) -> list[str]:
    """What may stand for a deleted key: of a person always the digest."""
    return [digest(key)] if kind == "user" else [key, digest(key)]


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
