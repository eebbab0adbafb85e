"""The first tables."""

from __future__ import annotations

import uuid
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

KEY = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
BIG = sa.BigInteger
KEYED: dict[str, Any] = {"primary_key": True, "nullable": False}


def need(name: str, kind: Any, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False, **options)


def table(name: str, *columns: sa.Column[Any]) -> None:
    op.create_table(f"m6rec_{name}", *columns, sqlite_autoincrement=True)


def index(of: str, *names: str, where: str = "", unique: bool = False) -> None:
    condition = sa.text(where) if where else None
    op.create_index(
        f"m6rec_{of}_{'_'.join(names)}",
        f"m6rec_{of}",
        list(names),
        unique=unique,
        sqlite_where=condition,
        postgresql_where=condition,
    )


def upgrade() -> None:
    table(
        "users",
        sa.Column("key", KEY, **KEYED),
        need("attributes", sa.Text),
        need("comment", sa.Text),
        need("rev", BIG),
    )
    index("users", "rev", where="rev > 0")
    table(
        "items",
        sa.Column("key", KEY, **KEYED),
        need("bare", KEY),
        need("title", sa.Text),
        need("text", sa.Text),
        need("attributes", sa.Text),
        need("categories", sa.Text),
        need("hidden", sa.Boolean),
        sa.Column("time", BIG),
        need("comment", sa.Text),
        need("rev", BIG),
    )
    index("items", "bare")
    index("items", "rev", where="rev > 0")
    table(
        "events",
        sa.Column("id", ID, autoincrement=True, **KEYED),
        need("user_key", KEY),
        need("item_key", KEY),
        need("type", KEY),
        sa.Column("value", sa.Double),
        need("time", BIG),
        sa.Column("key", KEY),
        sa.Column("request", KEY),
        need("comment", sa.Text),
    )
    index("events", "user_key", "time", "id")
    index("events", "item_key", "time", "id")
    index("events", "time", "id")
    index("events", "user_key", "item_key", "type")
    index("events", "key", where="key IS NOT NULL", unique=True)
    index("events", "request", where="request IS NOT NULL")
    table(
        "given",
        sa.Column("request", KEY, **KEYED),
        sa.Column("position", sa.Integer, autoincrement=False, **KEYED),
        need("user_key", KEY),
        need("item_key", KEY),
        need("domain", KEY),
        need("time", BIG),
        need("run", sa.Text),
        need("explored", sa.Boolean),
        need("arm", sa.Text),
        sa.Column("score", sa.Double),
    )
    index("given", "user_key", "time")
    index("given", "item_key")
    index("given", "time")
    table(
        "seeds",
        sa.Column("kind", KEY, **KEYED),
        sa.Column("position", sa.Integer, autoincrement=False, **KEYED),
        need("key", KEY),
    )
    table(
        "keys",
        sa.Column("hash", KEY, **KEYED),
        need("name", sa.Text),
        need("scope", sa.Text),
        need("created", BIG),
        sa.Column("revoked", BIG),
    )
    table(
        "deleted",
        sa.Column("kind", KEY, **KEYED),
        sa.Column("key", KEY, **KEYED),
        need("rev", BIG),
    )
    index("deleted", "kind", "rev")
    about = op.create_table("m6rec_about", sa.Column("name", KEY, **KEYED), need("value", sa.Text))
    op.bulk_insert(about, [{"name": "id", "value": uuid.uuid4().hex}])
    revs = op.create_table("m6rec_revs", sa.Column("kind", KEY, **KEYED), need("rev", BIG))
    op.bulk_insert(revs, [{"kind": "user", "rev": 0}, {"kind": "item", "rev": 0}])
