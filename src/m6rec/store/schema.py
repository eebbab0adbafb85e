"""The tables, as of the newest migration; their names are safe in a database with others."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

PREFIX = "m6rec_"
VERSION = f"{PREFIX}version"  # where Alembic notes which migrations ran
# Keys sort by code point in both databases.
KEY = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
METADATA = sa.MetaData()


def _column(name: str, kind: Any, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, **{"nullable": False} | options)


def _table(name: str, *columns: sa.Column[Any]) -> sa.Table:
    """A table; a SQLite id is never used twice, so that a cursor stays good after a deletion."""
    return sa.Table(PREFIX + name, METADATA, *columns, sqlite_autoincrement=True)


def _index(table: sa.Table, *names: str, where: str = "", unique: bool = False) -> None:
    """An index, named by its table and columns; of the rows for which ``where`` holds."""
    condition = sa.text(where) if where else None
    sa.Index(
        f"{table.name}_{'_'.join(names)}",
        *(table.c[name] for name in names),
        unique=unique,
        sqlite_where=condition,
        postgresql_where=condition,
    )


USERS = _table(
    "users",
    _column("key", KEY, primary_key=True),
    _column("attributes", sa.Text),  # JSON
    _column("comment", sa.Text),
    _column("rev", sa.BigInteger),
)
_index(USERS, "rev", where="rev > 0")

ITEMS = _table(
    "items",
    _column("key", KEY, primary_key=True),  # "domain/bare"
    _column("bare", KEY),
    _column("title", sa.Text),
    _column("text", sa.Text),
    _column("attributes", sa.Text),  # JSON
    _column("categories", sa.Text),  # JSON
    _column("hidden", sa.Boolean),
    _column("time", sa.BigInteger, nullable=True),
    _column("comment", sa.Text),
    _column("rev", sa.BigInteger),
)
_index(ITEMS, "bare")
_index(ITEMS, "rev", where="rev > 0")

EVENTS = _table(
    "events",
    _column("id", ID, primary_key=True, autoincrement=True),
    _column("user_key", KEY),
    _column("item_key", KEY),
    _column("type", KEY),
    _column("value", sa.Double, nullable=True),
    _column("time", sa.BigInteger),
    _column("key", KEY, nullable=True),
    _column("request", KEY, nullable=True),
    _column("comment", sa.Text),
)
_index(EVENTS, "user_key", "time", "id")
_index(EVENTS, "item_key", "time", "id")
_index(EVENTS, "time", "id")
_index(EVENTS, "user_key", "item_key", "type")
_index(EVENTS, "key", where="key IS NOT NULL", unique=True)
_index(EVENTS, "request", where="request IS NOT NULL")

GIVEN = _table(
    "given",
    _column("request", KEY, primary_key=True),
    _column("position", sa.Integer, primary_key=True, autoincrement=False),
    _column("user_key", KEY),
    _column("item_key", KEY),
    _column("domain", KEY),
    _column("time", sa.BigInteger),
    _column("run", sa.Text),
    _column("explored", sa.Boolean),
    _column("arm", sa.Text),
    _column("score", sa.Double, nullable=True),
)
_index(GIVEN, "user_key", "time")
_index(GIVEN, "item_key")
_index(GIVEN, "time")

SEEDS = _table(
    "seeds",
    _column("kind", KEY, primary_key=True),
    _column("position", sa.Integer, primary_key=True, autoincrement=False),
    _column("key", KEY),
)

KEYS = _table(
    "keys",
    _column("hash", KEY, primary_key=True),
    _column("name", sa.Text),
    _column("scope", sa.Text),
    _column("created", sa.BigInteger),
    _column("revoked", sa.BigInteger, nullable=True),
)

# What was deleted: an item's key, a user's digest; the rev is that of the deletion.
DELETED = _table(
    "deleted",
    _column("kind", KEY, primary_key=True),
    _column("key", KEY, primary_key=True),
    _column("rev", sa.BigInteger),
)
_index(DELETED, "kind", "rev")

# The latest rev of users and of items.
REVS = _table(
    "revs",
    _column("kind", KEY, primary_key=True),
    _column("rev", sa.BigInteger),
)

# Of the store as a whole: its id.
ABOUT = _table(
    "about",
    _column("name", KEY, primary_key=True),
    _column("value", sa.Text),
)
