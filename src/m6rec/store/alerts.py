"""Alerts of the opinion monitor, and the outbox that loses none on its way to a webhook."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from m6rec.data.opinions import LAST
from m6rec.store import checks
from m6rec.store.among import among
from m6rec.store.database import Database
from m6rec.store.records import Alert, Delivery
from m6rec.store.rows import copy
from m6rec.store.schema import ALERTS, OUTBOX
from m6rec.store.writer import Writer

A, Q = ALERTS.c, OUTBOX.c
_KNOWN = sa.select(A.key).where(among(A.key, "keys"))
_DUE = (
    sa.select(ALERTS, Q.sink, Q.attempts)
    .join(OUTBOX, Q.alert == A.key)
    .where(Q.delivered.is_(None), Q.due <= sa.bindparam("now"))
    .order_by(Q.due, A.time, A.key, Q.sink)
    .limit(sa.bindparam("n"))
)
_ONE = (Q.alert == sa.bindparam("of"), Q.sink == sa.bindparam("to"))
_LEASE = sa.update(OUTBOX).where(*_ONE).values(due=sa.bindparam("until"), attempts=Q.attempts + 1)
_DONE = sa.update(OUTBOX).where(*_ONE).values(delivered=sa.bindparam("at"), error="")
_FAILED = sa.update(OUTBOX).where(*_ONE).values(due=sa.bindparam("at"), error=sa.bindparam("why"))


class Alerts:
    """``store.alerts``. Times here are unix seconds; see ``Store``."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._rows = database.rows
        self._write = writer.write

    def add(self, alerts: Iterable[Alert], sinks: Sequence[str] = ()) -> int:
        """Add alerts, each to be delivered to every sink; one whose key is there already changes
        nothing. Returns how many are new."""
        rows = {alert.key: _row(alert) for alert in alerts}
        named = [checks.key(sink, "sink") for sink in dict.fromkeys(sinks)]
        return int(self._write(_add, (list(rows.values()), named)))

    def find(
        self,
        *,
        entity: str | None = None,
        since: int = 0,
        until: int = LAST,
        open_only: bool = False,
        n: int = 1000,
    ) -> list[Alert]:
        """Return alerts, the newest first; those not acknowledged, if ``open_only``."""
        wanted = sa.select(ALERTS).where(A.time >= since, A.time <= until)
        if entity is not None:
            wanted = wanted.where(A.entity == entity)
        if open_only:
            wanted = wanted.where(A.acknowledged.is_(None))
        found = self._rows(wanted.order_by(A.time.desc(), A.key).limit(n), {})
        return [_alert(row) for row in found]

    def get(self, key: str) -> Alert | None:
        """Return an alert."""
        found = self._rows(sa.select(ALERTS).where(A.key == key), {})
        return next((_alert(row) for row in found), None)

    def acknowledge(self, key: str, user: str, time: int) -> bool:
        """Note that a person has seen an alert, the first time; False where there is none."""
        return bool(self._write(_acknowledge, (key, checks.key(user, "user"), time)))

    def claim(self, now: int, lease: int = 60, n: int = 100) -> list[Delivery]:
        """Return what is due, and let nobody else have it for ``lease`` seconds.

        Whoever claims it calls ``delivered`` or ``failed``; if they die first, it is due again
        when the lease ends. So each is delivered at least once, and the key tells twice from once.
        """
        found: list[Delivery] = self._write(_claim, (now, now + lease, n))
        return found

    def delivered(self, key: str, sink: str, time: int) -> None:
        """Note that a sink has an alert."""
        self._write(_deliver, {"of": key, "to": sink, "at": time})

    def failed(self, key: str, sink: str, due: int, error: str) -> None:
        """Note why a sink did not take an alert, and when to try again."""
        why = error.replace("\0", "")[:500]
        self._write(_fail, {"of": key, "to": sink, "at": due, "why": why})

    def waiting(self) -> list[dict[str, Any]]:
        """Return alert, sink, due, attempts and error of all that is not delivered yet."""
        columns = (Q.alert, Q.sink, Q.due, Q.attempts, Q.error)
        wanted = sa.select(*columns).where(Q.delivered.is_(None)).order_by(Q.due, Q.alert, Q.sink)
        return [dict(row._mapping) for row in self._rows(wanted, {})]


def _add(
    connection: sa.Connection, jobs: Sequence[tuple[list[checks.Row], list[str]]]
) -> list[int]:
    counts = []
    for rows, sinks in jobs:
        keys = [row["key"] for row in rows]
        known = set(connection.execute(_KNOWN, {"keys": keys}).scalars())
        new = [row for row in rows if row["key"] not in known]
        copy(connection, ALERTS, new)
        waiting = [
            {"alert": row["key"], "sink": sink, "due": row["time"], "attempts": 0,
             "delivered": None, "error": ""}
            for row in new for sink in sinks
        ]  # fmt: skip
        copy(connection, OUTBOX, waiting)
        counts.append(len(new))
    return counts


def _acknowledge(connection: sa.Connection, jobs: Sequence[tuple[str, str, int]]) -> list[bool]:
    found = []
    for key, user, time in jobs:
        there = connection.execute(_KNOWN, {"keys": [key]}).one_or_none()
        found.append(there is not None)
        first = sa.update(ALERTS).where(A.key == key, A.acknowledged.is_(None))
        connection.execute(first.values(acknowledged=time, user_key=user))
    return found


def _claim(connection: sa.Connection, jobs: Sequence[tuple[int, int, int]]) -> list[list[Delivery]]:
    taken = []
    for now, until, n in jobs:
        found = connection.execute(_DUE, {"now": now, "n": n}).all()
        if found:
            leases = [{"of": row.key, "to": row.sink, "until": until} for row in found]
            connection.execute(_LEASE, leases)
        taken.append(
            [Delivery(alert=_alert(row), sink=row.sink, attempts=row.attempts + 1) for row in found]
        )
    return taken


def _deliver(connection: sa.Connection, jobs: Sequence[dict[str, Any]]) -> list[None]:
    connection.execute(_DONE, list(jobs))
    return [None] * len(jobs)


def _fail(connection: sa.Connection, jobs: Sequence[dict[str, Any]]) -> list[None]:
    connection.execute(_FAILED, list(jobs))
    return [None] * len(jobs)


def _row(alert: Alert) -> checks.Row:
    return {
        "key": checks.key(alert.key, "alert"),
        "entity": checks.key(alert.entity, "entity"),
        "rule": checks.key(alert.rule, "rule"),
        "severity": checks.key(alert.severity, "severity"),
        "time": checks.moment(alert.time * 1_000_000) // 1_000_000,
        "value": checks.number(alert.value),
        "text": checks.text(alert.text, "text"),
        "details": checks.attributes(alert.details),
        "acknowledged": alert.acknowledged,
        "user_key": "",
    }


def _alert(row: Any) -> Alert:
    return Alert(
        key=row.key,
        entity=row.entity,
        rule=row.rule,
        severity=row.severity,
        time=row.time,
        value=row.value,
        text=row.text,
        details=json.loads(row.details),
        acknowledged=row.acknowledged,
    )
