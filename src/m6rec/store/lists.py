"""The event log, page by page: event by event, or summed by type, user and item."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from m6rec.errors import DataError
from m6rec.store.among import among
from m6rec.store.records import Event, Feedback
from m6rec.store.schema import EVENTS

E = EVENTS.c
Names = Collection[str] | None  # None = all


def events_page(
    users: Names,
    items: Names,
    types: Names,
    since: int | None,
    until: int | None,
    newest: bool,
    cursor: str,
    n: int,
) -> sa.Select[Any]:
    """Select a page of events and one more, to tell whether that is all."""
    order = (E.time, E.id)
    statement = sa.select(EVENTS).where(*_of(users, items, types, until))
    if since is not None:
        statement = statement.where(E.time >= since)
    if cursor:
        time, last = read_cursor(cursor, int, int)
        here = sa.tuple_(*order)
        there = sa.tuple_(sa.literal(time, sa.BigInteger), sa.literal(last, sa.BigInteger))
        statement = statement.where(here < there if newest else here > there)
    if newest:
        return statement.order_by(E.time.desc(), E.id.desc()).limit(more_than(n))
    return statement.order_by(*order).limit(more_than(n))


def feedback_page(
    users: Names, items: Names, types: Names, until: int | None, cursor: str, n: int
) -> sa.Select[Any]:
    """Select a page of sums and one more, sorted by user, item and type."""
    group = (E.user_key, E.item_key, E.type)
    page = sa.select(
        *group,
        sa.func.sum(sa.func.coalesce(E.value, 1.0)).label("value"),
        sa.func.max(E.time).label("time"),
        sa.func.min(E.time).label("first"),
    ).where(*_of(users, items, types, until))
    if cursor:
        last = read_cursor(cursor, str, str, str)
        page = page.where(sa.tuple_(*group) > sa.tuple_(*(sa.literal(part) for part in last)))
    sums = page.group_by(*group).order_by(*group).limit(more_than(n)).subquery()
    one = EVENTS.alias()
    latest = (
        sa.select(one.c.comment)
        .where(
            one.c.user_key == sums.c.user_key,
            one.c.item_key == sums.c.item_key,
            one.c.type == sums.c.type,
            one.c.time == sums.c.time,
        )
        .order_by(one.c.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    return sa.select(sums, latest.label("comment")).order_by(
        sums.c.user_key, sums.c.item_key, sums.c.type
    )


def more_than(n: int) -> int:
    """Return the rows to ask for, so as to see whether a page of n is the last one."""
    if not 1 <= n < 2**31:
        raise DataError(f"n = {n}: must be at least 1")
    return n + 1


def _of(
    users: Names, items: Names, types: Names, until: int | None
) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = [
        _is(column, names)
        for column, names in ((E.user_key, users), (E.item_key, items), (E.type, types))
        if names is not None
    ]
    return found if until is None else [*found, E.time <= until]


def _is(column: sa.Column[Any], names: Collection[str]) -> sa.ColumnElement[bool]:
    """One name is told as such: PostgreSQL then knows how few rows there are."""
    return column == next(iter(names)) if len(names) == 1 else among(column, names)


def cut(rows: Sequence[Any], n: int, *columns: str) -> tuple[Sequence[Any], str]:
    """Return at most n rows, and the cursor to the next page: "" where there is none."""
    if len(rows) <= n:
        return rows, ""
    last = [getattr(rows[n - 1], name) for name in columns]
    text = json.dumps(last, ensure_ascii=False, separators=(",", ":"))
    return rows[:n], base64.urlsafe_b64encode(text.encode()).decode()


def read_cursor(cursor: str, *kinds: type) -> list[Any]:
    """Return the values of the last row before a page."""
    try:
        values = json.loads(base64.b64decode(cursor, altchars=b"-_", validate=True))
        fits = [type(value) for value in values] == list(kinds)
        if fits and all(_holds(value) for value in values):
            return list(values)
    except (ValueError, TypeError, RecursionError):
        pass
    raise DataError(f'cursor "{cursor[:40]}": is not one that the store gave')


def _holds(value: str | int) -> bool:
    """Whether the databases can compare with it."""
    if isinstance(value, int):
        return abs(value) < 2**63
    return "\0" not in value and value.encode("utf-8", "replace").decode() == value


def event(row: Any) -> Event:
    """Return the event of a row."""
    return Event(
        id=row.id,
        user=row.user_key,
        item=row.item_key,
        type=row.type,
        value=row.value,
        time=row.time,
        key=row.key,
        request=row.request,
        comment=row.comment,
    )


def feedback(row: Any) -> Feedback:
    """Return the sums of a row."""
    return Feedback(
        type=row.type,
        user=row.user_key,
        item=row.item_key,
        value=row.value,
        time=row.time,
        first=row.first,
        comment=row.comment,
    )
