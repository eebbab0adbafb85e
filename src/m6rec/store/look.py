"""What a request needs of the store, as of one moment: revs, users, their newest events."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from m6rec.store.records import History, User
from m6rec.store.schema import EVENTS, REVS, USERS

MOST = 32  # users of one statement
REV, USER, EVENT = range(3)  # what a row tells
E, U = EVENTS.c, USERS.c


class Look(NamedTuple):
    """item_rev, user_rev: of the latest changes. histories: of all users that were asked for,
    oldest first. users: those of them that there are, by key."""

    item_rev: int
    user_rev: int
    histories: dict[str, History]
    users: dict[str, User]


@cache
def statement(n: int) -> sa.CompoundSelect[Any]:
    """Select revs, and of n users their rows and newest events, each by its index; parameters
    user_0, user_1, …, until and limit.

    A window over the events of all users would read all that a busy one ever did.
    """
    nothing = sa.cast(sa.null(), sa.Double)
    number: sa.ColumnElement[int] = sa.literal_column("0")
    empty: sa.ColumnElement[str] = sa.literal_column("''")

    def kind(code: int) -> sa.ColumnElement[int]:
        return sa.literal_column(str(code)).label("kind")

    found: list[sa.Select[Any]] = [
        sa.select(
            kind(REV), REVS.c.kind.label("key"), empty.label("text"), empty.label("more"),
            nothing.label("value"), REVS.c.rev.label("number"), number.label("id"),
        )
    ]  # fmt: skip
    for i in range(n):
        user: sa.BindParameter[str] = sa.bindparam(f"user_{i}", type_=U.key.type)
        found.append(
            sa.select(kind(USER), U.key, U.attributes, U.comment, nothing, U.rev, number)
            .where(U.key == user)
        )  # fmt: skip
        newest = (
            sa.select(kind(EVENT), E.user_key, E.item_key, E.type, E.value, E.time, E.id)
            .where(E.user_key == user, E.time <= sa.bindparam("until"))
            .order_by(E.time.desc(), E.id.desc())
            .limit(sa.bindparam("limit"))
            .subquery()
        )
        found.append(sa.select(newest))
    return sa.union_all(*found)


def asked(users: Sequence[str], until: int, limit: int) -> Mapping[str, Any]:
    """Return the parameters of ``statement``."""
    named: dict[str, Any] = {f"user_{i}": key for i, key in enumerate(users)}
    return named | {"until": until, "limit": limit} if users else named


def told(found: Sequence[Any], users: Sequence[str]) -> Look:
    """Return what the rows of ``statement`` tell."""
    revs: dict[str, int] = {}
    there: dict[str, User] = {}
    events: dict[str, list[tuple[int, int, Any]]] = {user: [] for user in users}
    for kind, key, text, more, value, number, place in found:
        if kind == EVENT:
            events[key].append((number, place, (text, more, value, number)))
        elif kind == USER:
            there[key] = User(key=key, attributes=json.loads(text), comment=more, rev=number)
        else:
            revs[key] = number
    histories = {}
    for user, each in events.items():
        each.sort(key=lambda event: event[:2])
        columns = [list(column) for column in zip(*(event for _, _, event in each), strict=True)]
        histories[user] = History(*(columns or ([], [], [], [])))
    return Look(revs["item"], revs["user"], histories, there)
