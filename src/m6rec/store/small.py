"""The two short lists: seeds, and API keys by their hash."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from m6rec.errors import DataError
from m6rec.store import checks
from m6rec.store.records import ApiKey, Kind
from m6rec.store.rows import copy
from m6rec.store.schema import KEYS, SEEDS

OF_KIND = (
    sa.select(SEEDS.c.key).where(SEEDS.c.kind == sa.bindparam("kind")).order_by(SEEDS.c.position)
)
ALL_KEYS = sa.select(KEYS).order_by(KEYS.c.created, KEYS.c.hash)
_NO_SEEDS = sa.delete(SEEDS).where(SEEDS.c.kind == sa.bindparam("of"))
_KNOWN = sa.select(KEYS.c.hash).where(KEYS.c.hash == sa.bindparam("hash"))
_REVOKE = (
    sa.update(KEYS)
    .where(KEYS.c.hash == sa.bindparam("at"), KEYS.c.revoked.is_(None))
    .values(revoked=sa.bindparam("when"))
)


def set_seeds(connection: sa.Connection, jobs: Sequence[tuple[Kind, Sequence[str]]]) -> list[None]:
    """Replace all seeds of a kind."""
    for kind, keys in jobs:
        connection.execute(_NO_SEEDS, {"of": kind})
        rows = [{"kind": kind, "position": i, "key": key} for i, key in enumerate(keys)]
        copy(connection, SEEDS, rows)
    return [None] * len(jobs)


def seed_keys(kind: Kind, keys: Sequence[Any]) -> list[str]:
    """Return distinct checked keys in their order."""
    if kind not in ("user", "item"):
        raise DataError(f'seeds "{kind}": must be of "user" or "item"')
    check = checks.item_key if kind == "item" else lambda key: checks.key(key, "user")
    return list(dict.fromkeys(check(key) for key in keys))


def add_key(connection: sa.Connection, jobs: Sequence[ApiKey]) -> list[None]:
    """Insert keys that are not there yet."""
    for key in jobs:
        row = {
            "hash": checks.key(key.hash, "hash"),
            "name": checks.text(key.name, "name"),
            "scope": checks.key(key.scope, "scope"),
            "created": checks.moment(key.created, "created"),
            "revoked": None if key.revoked is None else checks.moment(key.revoked, "revoked"),
        }
        if connection.execute(_KNOWN, {"hash": key.hash}).one_or_none():
            raise DataError(f'API key "{key.name}": is there already')
        copy(connection, KEYS, [row])
    return [None] * len(jobs)


def revoke_key(connection: sa.Connection, jobs: Sequence[tuple[str, int]]) -> list[bool]:
    """Revoke keys; false for one that is unknown or was revoked before."""
    return [
        connection.execute(_REVOKE, {"at": key, "when": when}).rowcount > 0 for key, when in jobs
    ]


def api_key(row: Any) -> ApiKey:
    """Return the key of a row."""
    return ApiKey(
        hash=row.hash, name=row.name, scope=row.scope, created=row.created, revoked=row.revoked
    )
