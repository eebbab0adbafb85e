"""The tables of the opinion monitor."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"

KEY = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
BIG = sa.BigInteger
KEYED: dict[str, Any] = {"primary_key": True, "nullable": False}


def need(name: str, kind: Any, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False, **options)


def table(name: str, *columns: sa.Column[Any]) -> None:
    op.create_table(f"m6rec_{name}", *columns, sqlite_autoincrement=True)


def index(of: str, *names: str, where: str = "") -> None:
    condition = sa.text(where) if where else None
    op.create_index(
        f"m6rec_{of}_{'_'.join(names)}",
        f"m6rec_{of}",
        list(names),
        sqlite_where=condition,
        postgresql_where=condition,
    )


def upgrade() -> None:
    table(
        "documents",
        sa.Column("key", KEY, **KEYED),
        need("time", BIG),
        need("source", KEY),
        need("title", sa.Text),
        need("text", sa.Text),
        need("language", KEY),
        need("url", sa.Text),
        need("original", KEY),
        need("reader", KEY),
    )
    index("documents", "time", "key")
    index("documents", "original")
    index("documents", "reader", "time")
    table(
        "readings",
        sa.Column("document", KEY, **KEYED),
        sa.Column("entity", KEY, **KEYED),
        need("time", BIG),
        need("source", KEY),
        need("sentiment", sa.Double),
        need("confidence", sa.Double),
    )
    index("readings", "entity", "time")
    index("readings", "time")
    table(
        "labels",
        sa.Column("document", KEY, **KEYED),
        sa.Column("entity", KEY, **KEYED),
        need("sentiment", KEY),
        need("user_key", KEY),
        need("time", BIG),
    )
    table(
        "prices",
        sa.Column("entity", KEY, **KEYED),
        sa.Column("time", BIG, autoincrement=False, **KEYED),
        need("close", sa.Double),
        need("volume", sa.Double),
    )
    index("prices", "time")
    table(
        "reports",
        sa.Column("entity", KEY, **KEYED),
        need("time", BIG),
        need("summary", sa.Text),
        need("body", sa.Text),
    )
    table(
        "alerts",
        sa.Column("key", KEY, **KEYED),
        need("entity", KEY),
        need("rule", KEY),
        need("severity", KEY),
        need("time", BIG),
        need("value", sa.Double),
        need("text", sa.Text),
        need("details", sa.Text),
        sa.Column("acknowledged", BIG),
        need("user_key", KEY),
    )
    index("alerts", "time", "key")
    index("alerts", "entity", "time")
    table(
        "outbox",
        sa.Column("alert", KEY, **KEYED),
        sa.Column("sink", KEY, **KEYED),
        need("due", BIG),
        need("attempts", sa.Integer),
        sa.Column("delivered", BIG),
        need("error", sa.Text),
    )
    index("outbox", "due", where="delivered IS NULL")
    table(
        "watched",
        sa.Column("user_key", KEY, **KEYED),
        sa.Column("position", sa.Integer, autoincrement=False, **KEYED),
        need("entity", KEY),
    )
