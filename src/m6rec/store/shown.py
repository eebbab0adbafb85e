"""Recommendations that were given, and what was answered to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from m6rec.store.among import among
from m6rec.store.checks import Row, digest
from m6rec.store.records import Given, Hits
from m6rec.store.rows import BURIED, KNOWN, copy
from m6rec.store.schema import EVENTS, GIVEN

G = GIVEN.c
OF_REQUEST = sa.select(GIVEN).where(G.request == sa.bindparam("request")).order_by(G.position)
OF_USER = (
    sa.select(GIVEN)
    .where(G.user_key == sa.bindparam("user"))
    .order_by(G.time.desc(), G.request.desc(), G.position)
    .limit(sa.bindparam("n"))
)
_KNOWN = sa.select(G.request, G.position).where(among(G.request, "requests"))
PORTION = 20_000  # rows that are deleted in one go, so that other writes come in between
_PORTION = (
    sa.select(G.time)
    .where(G.time < sa.bindparam("before"))
    .order_by(G.time)
    .offset(sa.bindparam("skip"))
    .limit(1)
)
_OLDER = sa.delete(GIVEN).where(G.time < sa.bindparam("before"))
_SINCE = G.time >= sa.bindparam("since")
SHOWN = (
    sa.select(G.domain, G.arm, sa.func.count().label("n"))
    .where(_SINCE)
    .group_by(G.domain, G.arm)
    .order_by(G.domain, G.arm)
)
_ANSWERS = (  # "|| ''": else SQLite reads all that was ever given, since that is sorted by request
    sa.select(G.domain, G.arm, EVENTS.c.type, G.request.concat("").label("request"), G.position)
    .join(EVENTS, sa.and_(EVENTS.c.request == G.request, EVENTS.c.item_key == G.item_key))
    .where(_SINCE)
    .distinct()
    .subquery()
)
ANSWERED = sa.select(
    _ANSWERS.c.domain, _ANSWERS.c.arm, _ANSWERS.c.type, sa.func.count().label("n")
).group_by(_ANSWERS.c.domain, _ANSWERS.c.arm, _ANSWERS.c.type)

OUTCOMES = (
    sa.select(
        G.arm,
        G.user_key,
        sa.func.count(sa.distinct(G.request)).label("requests"),
        sa.func.count(sa.distinct(EVENTS.c.request)).label("answered"),
    )
    .outerjoin(EVENTS, sa.and_(EVENTS.c.request == G.request, EVENTS.c.item_key == G.item_key))
    .where(
        _SINCE,
        G.time < sa.bindparam("until"),
        G.user_key != "",
        sa.or_(G.domain == sa.bindparam("domain"), sa.bindparam("domain") == ""),
        sa.or_(G.run == sa.bindparam("run"), sa.bindparam("run") == ""),
    )
    .group_by(G.arm, G.user_key)
    .order_by(G.arm, G.user_key)
)
SCORES = (
    sa.select(G.score)
    .where(
        _SINCE,
        G.time < sa.bindparam("until"),
        G.domain == sa.bindparam("domain"),
        G.score.is_not(None),
    )
    .order_by(G.time.desc())
    .limit(sa.bindparam("n"))
)


def add(connection: sa.Connection, jobs: Sequence[Sequence[Row]]) -> list[int]:
    """Insert what is new by request and position; returns how many of each job were. What was
    given to users who have been erased since is left out."""
    gone = _gone(connection, {row["user_key"] for rows in jobs for row in rows} - {""})
    requests = {row["request"] for rows in jobs for row in rows}
    known = {(r, p) for r, p in connection.execute(_KNOWN, {"requests": requests})}
    new: list[Row] = []
    counts = []
    for rows in jobs:
        before = len(new)
        for row in rows:
            place = row["request"], row["position"]
            if place not in known and row["user_key"] not in gone:
                known.add(place)
                new.append(row)
        counts.append(len(new) - before)
    copy(connection, GIVEN, new)
    return counts


def _gone(connection: sa.Connection, users: set[str]) -> set[str]:
    """Those of these users who were erased and have not come back."""
    stones = {digest(user): user for user in users}
    buried = connection.execute(BURIED, {"of": "user", "keys": set(stones)}).scalars()
    erased = {stones[stone] for stone in buried}
    there = connection.execute(KNOWN["user"], {"keys": erased}).scalars() if erased else ()
    return erased.difference(there)


def forget(connection: sa.Connection, jobs: Sequence[int]) -> list[int]:
    """Delete of what was given before each time the oldest PORTION rows or a few more."""
    counts = []
    for before in jobs:
        last = connection.execute(_PORTION, {"before": before, "skip": PORTION - 1}).scalar()
        until = before if last is None else int(last) + 1
        counts.append(connection.execute(_OLDER, {"before": until}).rowcount)
    return counts


def given(row: Any) -> Given:
    """Return the item given of a row."""
    return Given(
        request=row.request,
        user=row.user_key,
        item=row.item_key,
        position=row.position,
        time=row.time,
        run=row.run,
        explored=row.explored,
        arm=row.arm,
        score=row.score,
    )


def hits(shown: Sequence[Any], answered: Sequence[Any]) -> list[Hits]:
    """Return the counts of each domain and arm."""
    types: dict[tuple[str, str], dict[str, int]] = {(r.domain, r.arm): {} for r in shown}
    for row in answered:
        types.setdefault((row.domain, row.arm), {})[row.type] = row.n
    return [
        Hits(domain=row.domain, arm=row.arm, given=row.n, answered=types[row.domain, row.arm])
        for row in shown
    ]
