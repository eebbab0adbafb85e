"""The event store: users, items, events, what was recommended; in SQLite or PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from m6rec.errors import DataError
from m6rec.store import bulk, checks, erase, files, lists, log, look, rows, shown, small
from m6rec.store.alerts import Alerts
from m6rec.store.database import Database
from m6rec.store.look import Look
from m6rec.store.opinions import Opinions
from m6rec.store.records import ApiKey, Event, Feedback, Given, History, Hits, Item, Kind, User
from m6rec.store.writer import Writer


class Store:
    """Open with ``Store.open(url)``. Times are µs since 1970, UTC; item keys are "domain/key".

    Safe to call from many threads. A write is whole or not at all, and durable when it returns;
    a read after it, by any process, sees it. Raises DataError for what it cannot take, and
    StoreError where the database fails, in one sentence. Lists come in pages of ``n``, with a
    cursor to the next page, "" after the last one. ``opinions`` and ``alerts`` hold what the
    opinion monitor keeps.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writer = Writer(database)
        self._rows = database.rows
        self._write = self._writer.write
        self.opinions = Opinions(database, self._writer)
        self.alerts = Alerts(database, self._writer)

    @classmethod
    def open(cls, url: str, create: bool = True) -> Self:
        """Open "sqlite:///m6rec.db" or "postgresql://…"; tables are made or brought up to date.
        create: make an SQLite file that does not exist, which else is a StoreError."""
        return cls(Database.open(url, create))

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def empty(self) -> bool:
        """Return whether there is no user, item or event."""
        return not any(self._rows(bulk.ANY, {})[0])

    # Events

    def add_events(self, events: Iterable[Event]) -> int:
        """Add events, and the users and items that they name; returns how many were new."""
        return int(self._write(log.add, checks.rows(events)))

    def replace_events(self, events: Iterable[Event]) -> int:
        """Add events, each instead of all others of its type, user and item."""
        return int(self._write(log.replace, checks.rows(events)))

    def delete_events(self, user: str, item: str, type: str | None = None) -> int:
        """Delete a user's events on an item, of one type or all; returns how many there were."""
        return int(self._write(log.delete, (user, item, type)))

    def history(self, user: str, until: int, limit: int | None = None) -> History:
        """Return a user's events up to ``until``, oldest first; with a limit only the newest."""
        span = {"user": user, "until": until}
        if limit is None:
            return log.columns(self._rows(log.HISTORY, span))
        return log.columns(self._rows(log.LATEST, {**span, "n": limit})[::-1])

    def histories(self, users: Sequence[str], until: int) -> list[History]:
        """Return the histories of many users, in their order; see ``history``."""
        found = self._rows(log.HISTORIES, {"users": set(users), "until": until})
        return log.by_user(found, users)

    def look(self, users: Iterable[str] = (), until: int = 0, limit: int = 0) -> Look:
        """Return what a request needs, in one statement: the revs, and of these users their rows
        and newest events up to ``until``, at most ``limit`` of each."""
        keys = list(dict.fromkeys(users))
        found = look.told(self._looked(keys[: look.MOST], until, limit), keys[: look.MOST])
        for at in range(look.MOST, len(keys), look.MOST):
            some = keys[at : at + look.MOST]
            more = look.told(self._looked(some, until, limit), some)
            found.histories.update(more.histories)
            found.users.update(more.users)
        return found

    def _looked(self, users: Sequence[str], until: int, limit: int) -> Sequence[Any]:
        statement = look.statement(len(users))
        return self._database.kept(statement, look.asked(users, until, limit))

    def standing_of(self, user: str, types: Collection[str], until: int) -> list[str]:
        """Return the items on which a user's newest event up to ``until`` is of these types."""
        span = {"user": user, "types": types, "until": until}
        return [row.item_key for row in self._rows(log.STANDING_OF, span)]

    def standing_on(
        self, item: str, types: Collection[str], until: int, limit: int | None = None
    ) -> list[tuple[str, str, float | None, int]]:
        """Return user, type, value and time of those whose newest event on an item up to ``until``
        is of these types; with a limit, of the newest events of these types."""
        span = {"item": item, "types": types, "until": until}
        if limit is None:
            return [tuple(row) for row in self._rows(log.STANDING_ON, span)]
        return [tuple(row) for row in self._rows(log.LATEST_ON, {**span, "n": limit})]

    def events(
        self,
        *,
        users: Collection[str] | None = None,
        items: Collection[str] | None = None,
        types: Collection[str] | None = None,
        since: int | None = None,
        until: int | None = None,
        newest: bool = True,
        cursor: str = "",
        n: int = 100,
    ) -> tuple[list[Event], str]:
        """Return events by time, the newest or the oldest first, and a cursor."""
        page = lists.events_page(users, items, types, since, until, newest, cursor, n)
        found, after = lists.cut(self._rows(page, {}), n, "time", "id")
        return [lists.event(row) for row in found], after

    def feedback(
        self,
        *,
        users: Collection[str] | None = None,
        items: Collection[str] | None = None,
        types: Collection[str] | None = None,
        until: int | None = None,
        cursor: str = "",
        n: int = 100,
    ) -> tuple[list[Feedback], str]:
        """Return the sums of events, by user, item and type, and a cursor."""
        page = lists.feedback_page(users, items, types, until, cursor, n)
        found, after = lists.cut(self._rows(page, {}), n, "user_key", "item_key", "type")
        return [lists.feedback(row) for row in found], after

    def popular(self, until: int, newest: int, without: Collection[str] = ()) -> dict[str, int]:
        """Return item → events among the newest ones up to ``until``, the most first; events of
        the types ``without`` are not counted."""
        given = {"until": until, "n": newest, "without": list(without)}
        return {row.item_key: row.n for row in self._rows(log.POPULAR, given)}

    def last_event(self) -> int:
        """Return the id of the event that was added last, 0 without any."""
        return int(self._rows(log.LAST, {})[0][0])

    # Users

    def put_users(self, users: Iterable[User]) -> int:
        """Insert or overwrite users; returns how many."""
        return int(self._write(rows.put_users, checks.rows(users)))

    def patch_user(self, key: str, /, **changes: Any) -> bool:
        """Change fields of a user; False where there is no such user."""
        return bool(self._write(rows.patch, ("user", key, changes)))

    def user(self, key: str) -> User | None:
        """Return a user."""
        return next((rows.user(row) for row in self._rows(rows.ONE["user"], {"key": key})), None)

    def users(self, cursor: str = "", n: int = 100) -> tuple[list[User], str]:
        """Return users by key, and a cursor."""
        found, after = self._page("user", cursor, n)
        return [rows.user(row) for row in found], after

    def known_users(self, keys: Collection[str]) -> set[str]:
        """Return those of these keys that there are users of."""
        return {row.key for row in self._rows(rows.KNOWN["user"], {"keys": keys})}

    def erased_users(self, keys: Collection[str]) -> set[str]:
        """Return those of these keys that were erased or merged away, even where they came back."""
        stones = {checks.digest(key): key for key in keys}
        found = self._rows(rows.BURIED, {"of": "user", "keys": set(stones)})
        return {stones[row.key] for row in found}

    def delete_user(self, key: str, items: Sequence[str] = ()) -> dict[str, int]:
        """Erase a user from every table; returns how many rows of each. ``digest(key)`` stays,
        so that ``changed_users`` can tell that they are gone. items: where items are people, those
        that the user is, which are erased alike."""
        counts: dict[str, int] = self._write(erase.delete_users, (key, tuple(items)))
        self._database.shred()
        return counts

    def merge_users(self, source: str, into: str, items: Sequence[tuple[str, str]] = ()) -> int:
        """Make a user part of another; returns how many events moved. Where both say something
        of themselves, what ``into`` says stays. items: where items are people, the item that
        ``source`` is and that ``into`` is, of each domain: links to the one go to the other."""
        if source == into:
            raise DataError(f'user "{source}": cannot be merged into itself')
        moved = int(
            self._write(
                erase.merge, (checks.key(source, "user"), checks.key(into, "user"), tuple(items))
            )
        )
        self._database.shred()
        return moved

    def changed_users(self, since: int) -> tuple[int, list[User], list[str]]:
        """Return the rev now, the users that changed after that of ``since``, and the digests
        of those who were deleted; -1 = all that there are."""
        rev, found, gone = self._changed("user", since)
        return rev, [rows.user(row) for row in found], gone

    # Items

    def put_items(self, items: Iterable[Item]) -> int:
        """Insert or overwrite items; returns how many."""
        return int(self._write(rows.put_items, checks.rows(items)))

    def patch_item(self, key: str, /, **changes: Any) -> bool:
        """Change fields of an item; False where there is no such item."""
        return bool(self._write(rows.patch, ("item", key, changes)))

    def categorise_item(self, key: str, category: str, inside: bool = True) -> bool:
        """Put an item into a category, or take it out; False where there is no such item."""
        return bool(self._write(rows.categorise, (key, category, inside)))

    def item(self, key: str) -> Item | None:
        """Return an item."""
        return next((rows.item(row) for row in self._rows(rows.ONE["item"], {"key": key})), None)

    def items(
        self, cursor: str = "", n: int = 100, *, domain: str | None = None
    ) -> tuple[list[Item], str]:
        """Return items by key, of one domain or all, and a cursor."""
        found, after = self._page("item", cursor, n, domain)
        return [rows.item(row) for row in found], after

    def known_items(self, keys: Collection[str]) -> set[str]:
        """Return those of these keys that there are items of."""
        return {row.key for row in self._rows(rows.KNOWN["item"], {"keys": keys})}

    def keys_by_bare(self, bare: Collection[str]) -> dict[str, list[str]]:
        """Return part after the domain → the keys that have it; of those that there are."""
        found: dict[str, list[str]] = {}
        for row in self._rows(rows.BARES, {"bares": set(bare)}):
            found.setdefault(row.bare, []).append(row.key)
        return found

    def delete_item(self, key: str) -> dict[str, int]:
        """Delete an item from every table; returns how many rows of each."""
        counts: dict[str, int] = self._write(erase.delete, ("item", key))
        return counts

    def changed_items(self, since: int) -> tuple[int, list[Item], list[str]]:
        """Return the rev now, the items that changed after that of ``since``, and the keys that
        were deleted, of people their digests; -1 = all that there are, those of a run included."""
        rev, found, gone = self._changed("item", since)
        return rev, [rows.item(row) for row in found], gone

    # Seeds, recommendations, API keys

    def set_seeds(self, kind: Kind, keys: Sequence[str]) -> None:
        """Replace the seed users or the seed items."""
        self._write(small.set_seeds, (kind, small.seed_keys(kind, keys)))

    def seeds(self, kind: Kind) -> list[str]:
        """Return the seed users or the seed items, in the order in which they were set."""
        return [row.key for row in self._rows(small.OF_KIND, {"kind": kind})]

    def add_given(self, given: Iterable[Given]) -> int:
        """Note what was recommended; returns how many rows were new by request and position."""
        return int(self._write(shown.add, checks.rows(given)))

    def given(self, request: str) -> list[Given]:
        """Return what was given to one request, the first place first."""
        return [shown.given(row) for row in self._rows(shown.OF_REQUEST, {"request": request})]

    def given_to(self, user: str, n: int = 100) -> list[Given]:
        """Return what was given to a user, the newest request first."""
        return [shown.given(row) for row in self._rows(shown.OF_USER, {"user": user, "n": n})]

    def forget_given(self, before: int) -> int:
        """Delete what was given before a time, in portions; returns how many rows."""
        total = deleted = int(self._write(shown.forget, before))
        while deleted >= shown.PORTION:
            deleted = int(self._write(shown.forget, before))
            total += deleted
        return total

    def hits(self, since: int) -> list[Hits]:
        """Return what became of what was given since a time, by domain and arm."""
        span = {"since": since}
        return shown.hits(self._rows(shown.SHOWN, span), self._rows(shown.ANSWERED, span))

    def outcomes(
        self, since: int, until: int = checks.LAST, domain: str = "", run: str = ""
    ) -> list[tuple[str, str, int, int]]:
        """Return arm, user, requests, and requests of which an item got an event that names the
        request, of every user that was recommended something (of a domain, by a run) in a span of
        time."""
        span = {"since": since, "until": until, "domain": domain, "run": run}
        found = self._rows(shown.OUTCOMES, span)
        return [(row.arm, row.user_key, row.requests, row.answered) for row in found]

    def scores(self, domain: str, since: int, until: int, n: int = 10_000) -> list[float]:
        """Return the scores of the newest items of a domain that were given in a span of time."""
        span = {"since": since, "until": until, "domain": domain, "n": n}
        return [row.score for row in self._rows(shown.SCORES, span)]

    def add_key(self, key: ApiKey) -> None:
        """Add an API key."""
        self._write(small.add_key, key)

    def keys(self) -> list[ApiKey]:
        """Return all API keys, the revoked ones too, the oldest first."""
        return [small.api_key(row) for row in self._rows(small.ALL_KEYS, {})]

    def revoke_key(self, hash: str, time: int) -> bool:
        """Revoke an API key; False where it is unknown or revoked already."""
        return bool(self._write(small.revoke_key, (hash, checks.moment(time))))

    # In bulk

    def import_run(self, fitted: bulk.Fitted) -> bool:
        """Import a run's items, users and history with rev 0; False, and nothing, unless empty.

        An event's value is how many plain ones of its type it weighs; of events without times the
        order is kept, and their time is -1.
        """
        return bool(self._write(bulk.import_runs, fitted))

    def export_events(self, path: str | Path) -> int:
        """Write all events to a .jsonl or .parquet file; returns how many. Those without a key
        get one, by which ``import_events`` knows them."""
        batches = files.all_events(self._rows, self._prefix())
        return files.write(Path(path), "event", batches)

    def export_users(self, path: str | Path) -> int:
        """Write all users to a .jsonl or .parquet file; returns how many."""
        return files.write(Path(path), "user", files.all_of(self._rows, "user"))

    def export_items(self, path: str | Path) -> int:
        """Write all items to a .jsonl or .parquet file; returns how many."""
        return files.write(Path(path), "item", files.all_of(self._rows, "item"))

    def import_events(self, path: str | Path) -> int:
        """Add the events of a file, in batches; returns how many were new by their key."""
        prefix = self._prefix()
        return sum(
            self._write(log.restore, (prefix, checks.rows_of_file(path, first, batch)))
            for first, batch in files.read(Path(path), "event")
        )

    def import_users(self, path: str | Path) -> int:
        """Insert or overwrite the users of a file, in batches; returns how many."""
        return sum(
            self._write(rows.put_users, checks.rows_of_file(path, first, batch))
            for first, batch in files.read(Path(path), "user")
        )

    def import_items(self, path: str | Path) -> int:
        """Insert or overwrite the items of a file, in batches; returns how many."""
        return sum(
            self._write(rows.put_items, checks.rows_of_file(path, first, batch))
            for first, batch in files.read(Path(path), "item")
        )

    def _prefix(self) -> str:
        """Of the keys that events without one get in an export of this store."""
        return f"{self._rows(rows.ID, {})[0].value}/"

    def _page(
        self, kind: Kind, cursor: str, n: int, domain: str | None = None
    ) -> tuple[Sequence[Any], str]:
        start, end = ("", rows.END) if domain is None else (f"{domain}/", f"{domain}0")
        after = lists.read_cursor(cursor, str)[0] if cursor else start
        found = self._rows(rows.PAGE[kind], {"after": after, "end": end, "n": lists.more_than(n)})
        return lists.cut(found, n, "key")

    def _changed(self, kind: Kind, since: int) -> tuple[int, Sequence[Any], list[str]]:
        """What a later transaction changes is left for the next time, so nothing is missed."""
        rev = int(self._rows(rows.REV, {"kind": kind})[0].rev)
        span = {"since": since, "rev": rev}
        gone = self._rows(rows.GONE, {**span, "kind": kind})
        select = rows.ALL[kind] if since < 0 else rows.CHANGED[kind]
        return rev, self._rows(select, span), [row.key for row in gone]
