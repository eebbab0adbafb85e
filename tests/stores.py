"""Empty stores for tests: a SQLite file, and a schema of its own in PostgreSQL where one is set."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from m6rec.store import Event, Store
from m6rec.store.schema import METADATA

POSTGRES = os.environ.get("M6REC_TEST_POSTGRES")  # tested for real where it is set
KINDS = ["sqlite", *(["postgresql"] if POSTGRES else [])]


def event(user: str = "ann", item: str = "films/a", time: int = 1, **more: object) -> Event:
    return Event(user=user, item=item, time=time, **{"type": "view", **more})  # type: ignore[arg-type]


@contextmanager
def place(kind: str, folder: Path) -> Iterator[str]:
    """Yield the URL of a database without tables."""
    if kind == "sqlite":
        yield f"sqlite:///{folder}/{uuid.uuid4().hex}.db"
        return
    import psycopg

    name = f"m6rec_test_{uuid.uuid4().hex}"
    with psycopg.connect(POSTGRES, autocommit=True, connect_timeout=10) as connection:
        connection.execute(f"create schema {name}")
        try:
            yield f"{POSTGRES}?options=-csearch_path%3D{name}"
        finally:
            connection.execute(f"drop schema {name} cascade")


@cache
def template() -> Path:
    """A SQLite file with empty tables."""
    path = Path(mkdtemp()) / "empty.db"
    Store.open(f"sqlite:///{path}").close()
    return path


@contextmanager
def empty_store(kind: str, folder: Path) -> Iterator[Store]:
    """Yield an open store without rows."""
    with place(kind, folder) as url:
        if kind == "sqlite":
            shutil.copy(template(), url.removeprefix("sqlite:///"))
        store = Store.open(url)
        try:
            yield store
        finally:
            store.close()


def wipe(store: Store) -> None:
    """Delete all rows of a store."""
    with store._database.transaction() as connection:
        for table in METADATA.tables.values():
            if table.name == "m6rec_revs":
                connection.execute(table.update().values(rev=0))
            elif table.name == "m6rec_about":
                connection.execute(table.delete().where(table.c.name != "id"))
            else:
                connection.execute(table.delete())
