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
_OLDER = sa.delete(GIVEN).where(G.time < sa.bindparam("before"))
_SINCE = G.time >= sa.bindparam("since")
SHOWN = (
    sa.select(G.domain, G.arm, sa.func.count().label("n"))
    .where(_SINCE)
    .group_by(G.domain, G.arm)
    .order_by(G.domain, G.arm)
)
_ANSWERS = (
    sa.select(G.domain, G.arm, EVENTS.c.type, G.request, G.position)
    .join(EVENTS, sa.and_(EVENTS.c.request == G.request, EVENTS.c.item_key == G.item_key))
    .where(_SINCE)
    .distinct()
    .subquery()
)
ANSWERED = sa.select(
    _ANSWERS.c.domain, _ANSWERS.c.arm, _ANSWERS.c.type, sa.func.count().label("n")
).group_by(_ANSWERS.c.domain, _ANSWERS.c.arm, _ANSWERS.c.type)

_REPLIED = (
    sa.select(EVENTS.c.request, EVENTS.c.item_key)
    .where(EVENTS.c.request.is_not(None))
    .distinct()
    .subquery()
)
OUTCOMES = (
    sa.select(
        G.arm,
        G.user_key,
        sa.func.count(sa.distinct(G.request)).label("requests"),
        sa.func.count(sa.distinct(_REPLIED.c.request)).label("answered"),
    )
    .outerjoin(
        _REPLIED,
        sa.and_(_REPLIED.c.request == G.request, _REPLIED.c.item_key == G.item_key),
    )
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
    """Delete what was given before each time."""
    return [connection.execute(_OLDER, {"before": before}).rowcount for before in jobs]


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
