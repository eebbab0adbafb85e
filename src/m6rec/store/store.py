"""The event store: users, items, events and what was recommended, in SQLite or PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Self

import sqlalchemy as sa

from m6rec.store import bulk, events, rows
from m6rec.store.checks import Row
from m6rec.store.checks import rows as checked
from m6rec.store.database import Database
from m6rec.store.records import Event, History, Item
from m6rec.store.schema import EVENTS, ITEMS, USERS
from m6rec.store.writer import Writer

_ANY = sa.select(
    *(sa.exists(sa.select(sa.literal(1)).select_from(t)) for t in (USERS, ITEMS, EVENTS))
)


def put_items(connection: sa.Connection, jobs: Sequence[Sequence[Row]]) -> list[int]:
    return [rows.put(connection, "item", each) for each in jobs]


class Store:
    """Open with ``Store.open(url)``. Safe to call from many threads; every write is durable when
    it returns, whole or not at all. Raises StoreError in one sentence.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writer = Writer(database)

    @classmethod
    def open(cls, url: str) -> Self:
        """Open "sqlite:///m6rec.db" or "postgresql://…", with tables made or brought up to date."""
        return cls(Database.open(url))

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def empty(self) -> bool:
        """Return whether there is no user, item or event."""
        return not any(self._database.rows(_ANY, {})[0])

    def add_events(self, given: Iterable[Event]) -> int:
        """Add events and the users and items they name; returns how many were new."""
        return int(self._writer.write(events.add, checked(given)))

    def replace_events(self, given: Iterable[Event]) -> int:
        """Add events, each instead of all others of its type, user and item."""
        return int(self._writer.write(events.replace, checked(given)))

    def history(self, user: str, until: int, limit: int | None = None) -> History:
        """Return a user's events up to ``until`` (µs), oldest first; with ``limit`` the newest."""
        if limit is None:
            return events.history(
                self._database.rows(events.HISTORY, {"user": user, "until": until})
            )
        found = self._database.rows(events.LATEST, {"user": user, "until": until, "n": limit})
        return events.history(found[::-1])

    def put_items(self, items: Iterable[Item]) -> int:
        """Insert or overwrite items."""
        return int(self._writer.write(put_items, checked(items)))

    def item_rev(self) -> int:
        """Return the rev of the latest change of an item."""
        return int(self._database.rows(rows.REV, {"kind": "item"})[0].rev)

    def changed_items(self, since: int) -> tuple[int, list[Item], list[str]]:
        """Return the rev now, the items that changed after ``since``, and the keys deleted."""
        rev = self.item_rev()
        span = {"since": since, "rev": rev}
        found = self._database.rows(rows.CHANGED["item"], span)
        gone = self._database.rows(rows.GONE, {**span, "kind": "item"})
        return rev, [rows.item(row) for row in found], [row.key for row in gone]

    def import_run(self, fitted: bulk.Fitted) -> bool:
        """Import a run's items, users and history; False, and nothing, unless empty before."""

        def task(connection: sa.Connection, jobs: Sequence[Any]) -> list[bool]:
            if any(connection.execute(_ANY).one()):
                return [False]
            bulk.import_run(connection, fitted)
            return [True]

        return bool(self._writer.write(task, None))
