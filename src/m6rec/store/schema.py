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

# What was deleted: an item's key, a person's digest; the rev is that of the deletion.
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

# Of the store as a whole: its id, and whose turn it is to watch opinions.
ABOUT = _table(
    "about",
    _column("name", KEY, primary_key=True),
    _column("value", sa.Text),
)

# What the opinion monitor reads and finds. Times of these tables are unix seconds.
# original: the key of the first copy of the same text, itself where there is none. reader: the
# model that read it, "" = not read yet.
DOCUMENTS = _table(
    "documents",
    _column("key", KEY, primary_key=True),
    _column("time", sa.BigInteger),
    _column("source", KEY),
    _column("title", sa.Text),
    _column("text", sa.Text),
    _column("language", KEY),
    _column("url", sa.Text),
    _column("original", KEY),
    _column("reader", KEY),
)
_index(DOCUMENTS, "time", "key")
_index(DOCUMENTS, "original")
_index(DOCUMENTS, "reader", "time")

READINGS = _table(
    "readings",
    _column("document", KEY, primary_key=True),
    _column("entity", KEY, primary_key=True),
    _column("time", sa.BigInteger),
    _column("source", KEY),
    _column("sentiment", sa.Double),
    _column("confidence", sa.Double),
)
_index(READINGS, "entity", "time")
_index(READINGS, "time")

# A person's word on a document and entity ("" = the document as a whole).
LABELS = _table(
    "labels",
    _column("document", KEY, primary_key=True),
    _column("entity", KEY, primary_key=True),
    _column("sentiment", KEY),
    _column("user_key", KEY),
    _column("time", sa.BigInteger),
)

PRICES = _table(
    "prices",
    _column("entity", KEY, primary_key=True),
    _column("time", sa.BigInteger, primary_key=True, autoincrement=False),
    _column("close", sa.Double),
    _column("volume", sa.Double),
)
_index(PRICES, "time")

# The newest report of each entity: summary and body are JSON.
REPORTS = _table(
    "reports",
    _column("entity", KEY, primary_key=True),
    _column("time", sa.BigInteger),
    _column("summary", sa.Text),
    _column("body", sa.Text),
)

ALERTS = _table(
    "alerts",
    _column("key", KEY, primary_key=True),
    _column("entity", KEY),
    _column("rule", KEY),
    _column("severity", KEY),
    _column("time", sa.BigInteger),
    _column("value", sa.Double),
    _column("text", sa.Text),
    _column("details", sa.Text),  # JSON
    _column("acknowledged", sa.BigInteger, nullable=True),
    _column("user_key", KEY),  # who acknowledged it
)
_index(ALERTS, "time", "key")
_index(ALERTS, "entity", "time")

# What is to be told where: a row for each alert and sink, from the alert's own transaction on.
OUTBOX = _table(
    "outbox",
    _column("alert", KEY, primary_key=True),
    _column("sink", KEY, primary_key=True),
    _column("due", sa.BigInteger),
    _column("attempts", sa.Integer),
    _column("delivered", sa.BigInteger, nullable=True),
    _column("error", sa.Text),
)
_index(OUTBOX, "due", where="delivered IS NULL")

WATCHED = _table(
    "watched",
    _column("user_key", KEY, primary_key=True),
    _column("position", sa.Integer, primary_key=True, autoincrement=False),
    _column("entity", KEY),
)
