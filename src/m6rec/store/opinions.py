"""What the opinion monitor keeps: documents, what was read in them, labels, prices, watch lists."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import polars as pl
import sqlalchemy as sa

from m6rec.data.opinions import DOCUMENT, LABEL, LAST, PRICE, READING, SENTIMENTS
from m6rec.errors import DataError
from m6rec.store import checks
from m6rec.store.among import among
from m6rec.store.database import Database
from m6rec.store.rows import copy, copy_tuples
from m6rec.store.schema import ABOUT, DOCUMENTS, LABELS, PRICES, READINGS, REPORTS, WATCHED
from m6rec.store.writer import Writer

D, R, P, L, W, S = DOCUMENTS.c, READINGS.c, PRICES.c, LABELS.c, WATCHED.c, REPORTS.c
_TURN = "turn to watch"
Names = Collection[str] | None  # None = all
_FIELDS = (D.key, D.time, D.source, D.title, D.text, D.language, D.url)
_KNOWN = sa.select(D.key).where(among(D.key, "keys"))
_READ = sa.update(DOCUMENTS).where(D.key == sa.bindparam("at"))
_COPIES = (
    sa.select(D.original, sa.func.count().label("n")).group_by(D.original).subquery()
)  # fmt: skip


class Opinions:
    """``store.opinions``. Times here are unix seconds, as in the frames; see ``Store``.

    Documents: document, time, source, title, text, language, url. Readings: document, entity,
    time, source, sentiment, confidence, spread. Prices: entity, time, close, volume.
    """

    def __init__(self, database: Database, writer: Writer) -> None:
        self._rows = database.rows
        self._write = writer.write

    def add_documents(self, documents: pl.DataFrame) -> int:
        """Add documents; one whose key is there already changes nothing. Returns how many are
        new."""
        frame = _fit(documents, DOCUMENT, "document")
        _check_keys(frame, "document", "source", "language")
        for name in ("title", "text", "url"):
            _check_no_nul(frame, name)
        return int(self._write(_add_documents, frame.unique("document", maintain_order=True)))

    def documents(
        self,
        *,
        keys: Names = None,
        entity: str | None = None,
        since: int = 0,
        until: int = LAST,
        n: int = 1000,
    ) -> pl.DataFrame:
        """Return documents, those with these keys or that mention an entity, the newest first."""
        wanted = sa.select(*_FIELDS).where(D.time >= since, D.time <= until)
        if keys is not None:
            wanted = wanted.where(among(D.key, keys))
        if entity is not None:
            mentioned = sa.select(R.document).where(R.entity == entity)
            wanted = wanted.where(D.key.in_(mentioned))
        wanted = wanted.order_by(D.time.desc(), D.key).limit(n)
        return _frame(self._rows(wanted, {}), DOCUMENT)

    def unread(self, reader: str, n: int = 1000) -> pl.DataFrame:
        """Return documents that this reader has not read yet, the oldest first."""
        wanted = sa.select(*_FIELDS).where(D.reader != reader).order_by(D.time, D.key).limit(n)
        return _frame(self._rows(wanted, {}), DOCUMENT)

    def originals(self, since: int, until: int = LAST, reader: str = "") -> dict[str, str]:
        """Return document → the first copy of it, of those in a span of time that were read, or
        that this reader has read."""
        read = D.reader == reader if reader else D.original != ""
        wanted = sa.select(D.key, D.original).where(D.time >= since, D.time <= until, read)
        return {row.key: row.original for row in self._rows(wanted, {})}

    def originals_of(self, documents: Collection[str]) -> dict[str, str]:
        """Return document → the first copy of it, of those of these that were read."""
        wanted = sa.select(D.key, D.original).where(among(D.key, documents), D.original != "")
        return {row.key: row.original for row in self._rows(wanted, {})}

    def newest(self, until: int = LAST) -> int | None:
        """Return the time of the newest reading or price up to then, None where there is none."""
        times = (
            sa.select(sa.func.max(c.time)).where(c.time <= until).scalar_subquery() for c in (R, P)
        )
        found = [time for time in self._rows(sa.select(*times), {})[0] if time is not None]
        return max(found, default=None)

    def put_readings(
        self, readings: pl.DataFrame, originals: Mapping[str, str], reader: str
    ) -> int:
        """Keep what a reader found in documents, instead of what was found in them before.

        originals: every document that was read → the first copy of it, which is itself where it
        is none; a copy has no readings of its own. entity "" = the document as a whole. Returns
        how many readings there are now.
        """
        frame = _fit(readings, READING, "reading").drop("spread")
        _check_keys(frame, "document", "source")
        _check_keys(frame.filter(pl.col("entity") != ""), "entity")
        job = frame, dict(originals), checks.key(reader, "reader")
        return int(self._write(_put_readings, job))

    def readings(
        self, *, entities: Names = None, since: int = 0, until: int = LAST
    ) -> pl.DataFrame:
        """Return the readings of entities by time; spread counts the document and its copies."""
        return self._readings(
            R.time >= since,
            R.time <= until,
            R.entity != "" if entities is None else among(R.entity, entities),
        )

    def readings_in(self, documents: Collection[str]) -> pl.DataFrame:
        """Return all readings of these documents; entity "" = the document as a whole."""
        return self._readings(among(R.document, documents))

    def _readings(self, *conditions: sa.ColumnElement[bool]) -> pl.DataFrame:
        spread = sa.func.coalesce(_COPIES.c.n, 1)
        columns = (R.document, R.entity, R.time, R.source, R.sentiment, R.confidence)
        wanted = (
            sa.select(*columns, spread)
            .select_from(READINGS.outerjoin(_COPIES, _COPIES.c.original == R.document))
            .where(*conditions)
            .order_by(R.time, R.document, R.entity)
        )
        return _frame(self._rows(wanted, {}), READING)

    def entities(self) -> list[str]:
        """Return all entities with a reading or a price, sorted."""
        found = self._rows(
            sa.union(sa.select(R.entity).where(R.entity != ""), sa.select(P.entity)), {}
        )
        return sorted(row.entity for row in found)

    def label(self, document: str, entity: str, sentiment: str, user: str, time: int) -> bool:
        """Keep what a person says of a document and an entity ("" = of all of it); the last word
        counts. False where there is no such document."""
        if sentiment not in SENTIMENTS:
            raise DataError(f"sentiment {sentiment!r}: must be one of {', '.join(SENTIMENTS)}")
        row = {
            "document": checks.key(document, "document"),
            "entity": checks.key(entity, "entity") if entity else "",
            "sentiment": sentiment,
            "user_key": checks.key(user, "user") if user else "",
            "time": time,
        }
        return bool(self._write(_label, row))

    def labels(self) -> pl.DataFrame:
        """Return all labels: document, entity ("" = the document as a whole), sentiment; the
        oldest first."""
        wanted = sa.select(L.document, L.entity, L.sentiment)
        wanted = wanted.order_by(L.time, L.document, L.entity)
        return _frame(self._rows(wanted, {}), LABEL)

    def labels_of(self, document: str) -> dict[str, str]:
        """Return entity → sentiment of the labels of a document."""
        wanted = sa.select(L.entity, L.sentiment).where(L.document == document)
        return {row.entity: row.sentiment for row in self._rows(wanted, {})}

    def add_prices(self, prices: pl.DataFrame) -> int:
        """Add prices; of one entity and time the last one counts. Returns how many."""
        frame = _fit(prices, PRICE, "price")
        _check_keys(frame, "entity")
        frame = frame.unique(["entity", "time"], keep="last", maintain_order=True)
        return int(self._write(_add_prices, frame))

    def prices(self, *, entities: Names = None, since: int = 0, until: int = LAST) -> pl.DataFrame:
        """Return prices by entity and time."""
        wanted = (
            sa.select(P.entity, P.time, P.close, P.volume)
            .where(P.time >= since, P.time <= until)
            .order_by(P.entity, P.time)
        )
        if entities is not None:
            wanted = wanted.where(among(P.entity, entities))
        return _frame(self._rows(wanted, {}), PRICE)

    def size(self) -> tuple[int, ...]:
        """Return how many documents, unread ones, readings, prices and labels there are."""
        counts = (
            sa.select(sa.func.count()).select_from(DOCUMENTS),
            sa.select(sa.func.count()).select_from(DOCUMENTS).where(D.reader == ""),
            *(sa.select(sa.func.count()).select_from(t) for t in (READINGS, PRICES, LABELS)),
        )
        return tuple(self._rows(sa.select(*(c.scalar_subquery() for c in counts)), {})[0])

    def put_reports(self, reports: Mapping[str, tuple[Any, Any]], time: int) -> None:
        """Replace the reports of all entities: entity → summary and body, as JSON."""
        rows = [
            {"entity": checks.key(entity, "entity"), "time": time,
             "summary": json.dumps(summary, allow_nan=False, ensure_ascii=False),
             "body": json.dumps(body, allow_nan=False, ensure_ascii=False)}
            for entity, (summary, body) in reports.items()
        ]  # fmt: skip
        self._write(_put_reports, rows)

    def summaries(self) -> dict[str, Any]:
        """Return entity → the summary of its report."""
        found = self._rows(sa.select(S.entity, S.summary).order_by(S.entity), {})
        return {row.entity: json.loads(row.summary) for row in found}

    def report(self, entity: str) -> tuple[int, Any] | None:
        """Return when the report of an entity was made, and its body; None where there is none."""
        found = self._rows(sa.select(S.time, S.body).where(S.entity == entity), {})
        return next(((row.time, json.loads(row.body)) for row in found), None)

    def take_turn(self, holder: str, now: int, lease: int) -> bool:
        """Return whether it is this holder's turn to watch, from now for ``lease`` seconds: of
        several processes one has it, until it lets it lapse."""
        return bool(self._write(_take_turn, (holder, now, lease)))

    def set_watch_list(self, user: str, entities: Sequence[str]) -> None:
        """Replace a user's watch list; an empty one leaves nothing."""
        listed = list(dict.fromkeys(checks.key(entity, "entity") for entity in entities))
        self._write(_set_watch_list, (checks.key(user, "user"), listed))

    def watch_list(self, user: str) -> list[str]:
        """Return the entities that a user watches, in their order."""
        wanted = sa.select(W.entity).where(W.user_key == user).order_by(W.position)
        return [row.entity for row in self._rows(wanted, {})]


def _add_documents(connection: sa.Connection, jobs: Sequence[pl.DataFrame]) -> list[int]:
    counts = []
    for frame in jobs:
        known = connection.execute(_KNOWN, {"keys": frame["document"].to_list()}).scalars()
        new = frame.filter(~pl.col("document").is_in(list(known)))
        new = new.with_columns(original=pl.lit(""), reader=pl.lit(""))
        _insert(connection, DOCUMENTS, new.rename({"document": "key"}))
        counts.append(new.height)
    return counts


def _put_readings(
    connection: sa.Connection, jobs: Sequence[tuple[pl.DataFrame, dict[str, str], str]]
) -> list[int]:
    for frame, originals, reader in jobs:
        connection.execute(sa.delete(READINGS).where(among(R.document, list(originals))))
        read = frame.filter(pl.col("document").is_in(list(originals)))
        _insert(connection, READINGS, read)
        marked = [
            {"at": key, "first": original, "by": reader} for key, original in originals.items()
        ]
        if marked:
            connection.execute(
                _READ.values(original=sa.bindparam("first"), reader=sa.bindparam("by")), marked
            )
    return [frame.height for frame, _, _ in jobs]


def _label(connection: sa.Connection, jobs: Sequence[checks.Row]) -> list[bool]:
    found = []
    for row in jobs:
        there = connection.execute(_KNOWN, {"keys": [row["document"]]}).one_or_none()
        found.append(there is not None)
        if there is not None:
            same = (L.document == row["document"], L.entity == row["entity"])
            connection.execute(sa.delete(LABELS).where(*same))
            copy(connection, LABELS, [row])
    return found


def _add_prices(connection: sa.Connection, jobs: Sequence[pl.DataFrame]) -> list[int]:
    for frame in jobs:
        for (entity,), part in frame.group_by("entity", maintain_order=True):
            times = part["time"].to_list()
            connection.execute(sa.delete(PRICES).where(P.entity == entity, among(P.time, times)))
        _insert(connection, PRICES, frame)
    return [frame.height for frame in jobs]


def _put_reports(connection: sa.Connection, jobs: Sequence[list[checks.Row]]) -> list[None]:
    for rows in jobs:
        connection.execute(sa.delete(REPORTS))
        copy(connection, REPORTS, rows)
    return [None] * len(jobs)


def _take_turn(connection: sa.Connection, jobs: Sequence[tuple[str, int, int]]) -> list[bool]:
    taken = []
    for holder, now, lease in jobs:
        found = connection.execute(sa.select(ABOUT.c.value).where(ABOUT.c.name == _TURN)).scalar()
        until, _, other = (found or "0 ").partition(" ")
        taken.append(other == holder or int(until) <= now)
        if taken[-1]:
            connection.execute(sa.delete(ABOUT).where(ABOUT.c.name == _TURN))
            copy(connection, ABOUT, [{"name": _TURN, "value": f"{now + lease} {holder}"}])
    return taken


def _set_watch_list(connection: sa.Connection, jobs: Sequence[tuple[str, list[str]]]) -> list[None]:
    for user, entities in jobs:
        connection.execute(sa.delete(WATCHED).where(W.user_key == user))
        rows = [
            {"user_key": user, "position": place, "entity": entity}
            for place, entity in enumerate(entities)
        ]
        copy(connection, WATCHED, rows)
    return [None] * len(jobs)


def _insert(connection: sa.Connection, table: sa.Table, frame: pl.DataFrame) -> None:
    if frame.height:
        copy_tuples(connection, table, frame.columns, frame.rows())


def _frame(rows: Sequence[Any], schema: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame([tuple(row) for row in rows], schema=schema, orient="row")


def _fit(frame: pl.DataFrame, schema: dict[str, Any], noun: str) -> pl.DataFrame:
    """The columns of a schema, without nulls and NaN; or a sentence that says what is wrong."""
    if lacking := [name for name in schema if name not in frame.columns]:
        raise DataError(f'{noun}s: the column "{lacking[0]}" is missing')
    try:
        frame = frame.select(pl.col(name).cast(kind) for name, kind in schema.items())
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{noun}s: {str(error).splitlines()[0]}") from None
    for name, kind in schema.items():
        bad = pl.col(name).is_null()
        if kind == pl.Float64:
            bad |= ~pl.col(name).is_finite()
        elif kind == pl.Int64:
            bad |= (pl.col(name) < 0) | (pl.col(name) > LAST)
        wrong = frame.select(place=bad.arg_true()).get_column("place")
        if len(wrong):
            value = frame[name][int(wrong[0])]
            raise DataError(f"{noun} {int(wrong[0]) + 1}: {name} {value!r} is not usable")
    return frame


def _check_keys(frame: pl.DataFrame, *names: str) -> None:
    for name in names:
        size = pl.col(name).str.len_chars()
        wrong = frame.filter((size == 0) | (size > checks.LONGEST))
        if wrong.height:
            checks.key(wrong[name][0], name)
        _check_no_nul(frame, name)


def _check_no_nul(frame: pl.DataFrame, name: str) -> None:
    wrong = frame.filter(pl.col(name).str.contains("\0", literal=True))
    if wrong.height:
        checks.text(wrong[name][0], name)
