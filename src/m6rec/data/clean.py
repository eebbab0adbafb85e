"""Cleaning of encoded events: duplicates, bots, sessions and the k-core, each reported.

Events are frames of user, item, domain, event (integer codes), value (optional) and time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from m6rec.arrays import Array, Mask
from m6rec.data.copies import copied
from m6rec.data.delimited import ROW
from m6rec.data.drops import SAMPLES, Drops
from m6rec.data.schema import Clean

DAY = 86_400
Names = Callable[[str, int], str]  # (part, code) → key, for samples
TABLE = "events"


@dataclass(frozen=True)
class Sort:
    """What events are, as a whole. timed, rated, ranked: some have a time; are of domains of
    ratings; are of others."""

    timed: bool
    rated: bool
    ranked: bool


@dataclass(frozen=True, eq=False)
class Cleaner:
    """Applies the steps of a ``Clean`` in order; each returns the rows that remain.

    explicit: (n_domains,) domains of ratings. names: decodes keys for samples. whole: of all
    events, where only those of some users are given; by default they are all. Samples name
    the ``ROW`` of events that have one.
    """

    clean: Clean
    explicit: Mask
    names: Names
    drops: Drops
    whole: Sort | None = None

    def apply(self, events: pl.DataFrame) -> pl.DataFrame:
        """Return the events that pass every step."""
        return self.k_core(self.apart(events))

    def apart(self, events: pl.DataFrame) -> pl.DataFrame:
        """Return the events that pass the steps that look at one user at a time."""
        for step in (self.duplicates, self.bots, self.sessions):
            events = step(events)
        return events

    def duplicates(self, events: pl.DataFrame) -> pl.DataFrame:
        """Merge repeated events of one user, item and type; ``Clean.duplicates`` says how."""
        how = self.clean.duplicates
        if how == "all":
            return events
        exact = ["user", "item", "event", "time"]
        rated = events["domain"].is_in(np.flatnonzero(self.explicit))
        if how == "auto":
            whole = self.whole or Sort(_timed(events), bool(rated.any()), not rated.all())
            if not whole.rated:
                reason = "the same event at the same time"
                return self._last(events, exact, reason) if whole.timed else events
            if not whole.ranked:
                return self._last(events, ["user", "item"], "rated again; the last one counts")
            apart = pl.col("time") if whole.timed else pl.int_range(pl.len(), dtype=pl.Int64)
            either = pl.when(rated).then(pl.lit(-1, pl.Int64))
            marked = events.with_columns(
                kind=either.otherwise(pl.col("event")), same=either.otherwise(apart)
            )
            reason = "rated again, or the same event at the same time"
            return self._last(marked, ["user", "item", "kind", "same"], reason).drop("kind", "same")
        cell = ["user", "item", "event"]
        if how == "sum" and "value" not in events.columns:
            events = events.with_columns(value=pl.lit(1.0, pl.Float32))
        if how == "last" or "value" not in events.columns:
            return self._last(events, cell, "repeated; the last one counts")
        value = pl.col("value").fill_null(1.0)  # an event without a value counts once
        merged = events.group_by(cell).agg(value.sum() if how == "sum" else value.max())
        kept = self._last(events.drop("value"), cell, f"repeated; the {how} counts")
        return kept.join(merged, on=cell, maintain_order="left").select(events.columns)

    def _last(self, events: pl.DataFrame, cell: list[str], reason: str) -> pl.DataFrame:
        """Keep the newest event of each cell; among equal times, the last row."""
        older = repeated(events, cell)
        if not older.any():
            return events
        self._report("duplicates", reason, events.filter(older))
        return events.filter(~pl.Series(older))

    def bots(self, events: pl.DataFrame) -> pl.DataFrame:
        """Drop users with more events than a person has, and near copies of each other."""
        user = events["user"].to_numpy()
        if self.clean.max_events is not None:
            many = np.bincount(user) > self.clean.max_events
            events = self._keep(
                events, ~many[user], "bots", f"user with more than {self.clean.max_events} events"
            )
        if self.clean.max_per_day is not None:
            day = (pl.col("time") // DAY).alias("day")
            busy = (
                events.lazy()
                .filter(pl.col("time") >= 0)
                .group_by("user", day)
                .len()
                .filter(pl.col("len") > self.clean.max_per_day)
                .collect()
            )["user"].unique()
            reason = f"user with more than {self.clean.max_per_day} events on one day"
            keep = ~events["user"].is_in(busy.implode()).to_numpy()
            events = self._keep(events, keep, "bots", reason)
        if self.clean.near_copies is not None:
            user = events["user"].to_numpy()
            same = copied(user, events["item"].to_numpy(), self.clean.near_copies)
            reason = "user whose items are nearly those of others"
            events = self._keep(events, ~same[user], "bots", reason)
        return events

    def sessions(self, events: pl.DataFrame) -> pl.DataFrame:
        """Drop short sessions and the oldest events of overlong ones; needs times."""
        short, long = self.clean.min_session, self.clean.max_session
        if short <= 1 and long is None:
            return events
        if not (self.whole.timed if self.whole else _timed(events)):
            self.drops.note("sessions need times; none were cut")
            return events
        session, order = sessions(events, self.clean.session_gap * 60)
        size = np.bincount(session)[session]
        keep = size >= short
        events = self._keep(events, keep, "sessions", f"session of fewer than {short} events")
        if long is not None:
            session, order = sessions(events, self.clean.session_gap * 60)
            last = np.cumsum(np.bincount(session))[session]
            place = np.empty(len(session), np.int64)
            place[order] = np.arange(len(session))
            reason = f"older than the newest {long} events of a session"
            events = self._keep(events, last - place <= long, "sessions", reason)
        return events

    def k_core(self, events: pl.DataFrame) -> pl.DataFrame:
        """Drop users and items with too few events in a domain, until none is left."""
        least_user, least_item = self.clean.core_users, self.clean.core_items
        if (least_user <= 1 and least_item <= 1) or not events.height:
            return events
        domain = events["domain"].to_numpy().astype(np.int64)
        user = events["user"].to_numpy()
        user = domain * (int(user.max()) + 1) + user
        item = events["item"].to_numpy()
        keep = np.ones(events.height, np.bool_)
        while True:
            rows = np.flatnonzero(keep)
            enough = np.bincount(user[rows])[user[rows]] >= least_user
            enough &= np.bincount(item[rows])[item[rows]] >= least_item
            if enough.all():
                break
            keep[rows[~enough]] = False
        reason = f"user with fewer than {least_user} or item with fewer than {least_item} events"
        return self._keep(events, keep, "k-core", reason)

    def _keep(self, events: pl.DataFrame, keep: Array, step: str, reason: str) -> pl.DataFrame:
        if keep.all():
            return events
        mask = pl.Series(keep)
        self._report(step, reason, events.filter(~mask))
        return events.filter(mask)

    def _report(self, step: str, reason: str, gone: pl.DataFrame) -> None:
        samples: list[dict[str, Any]] = []
        for row in gone.head(SAMPLES).iter_rows(named=True):
            keys = {part: self.names(part, row[part]) for part in ("user", "item")}
            more: dict[str, Any] = {name: row[name] for name in (ROW, "value") if name in row}
            if row.get("time", -1) >= 0:
                more["time"] = f"{datetime.fromtimestamp(row['time'], UTC):%Y-%m-%dT%H:%M:%SZ}"
            samples.append(keys | more)
        self.drops.add(step, TABLE, reason, gone.height, samples)


def _timed(events: pl.DataFrame) -> bool:
    return bool((events["time"] >= 0).any())


def repeated(events: pl.DataFrame, cell: list[str]) -> Mask:
    """(N,) whether a newer event of the same cell exists; of equal times the last row is newer."""
    gone = np.zeros(events.height, np.bool_)
    hashes = events.select(cell).hash_rows()  # most rows are alone: only the others are grouped
    in_order = np.sort(hashes.to_numpy())
    several = np.unique(in_order[1:][in_order[1:] == in_order[:-1]])
    if not len(several):
        return gone
    rows = np.flatnonzero(hashes.is_in(pl.Series(several).implode()).to_numpy())
    groups = events[rows].lazy().select({*cell, "time"}).with_columns(row=pl.Series(rows))
    if "time" not in cell:
        groups = groups.sort("time", "row")
    kept = groups.group_by(cell).agg(pl.col("row").last()).collect()["row"].to_numpy()
    gone[rows] = True
    gone[kept] = False
    return gone


def sessions(events: pl.DataFrame, gap: float) -> tuple[Array, Array]:
    """Return (N,) the session number of each row, and the rows in (user, time) order.

    A session ends after ``gap`` seconds without an event of its user.
    """
    user, time = events["user"].to_numpy(), events["time"].to_numpy()
    order = np.lexsort((time, user))
    first = np.ones(len(order), np.bool_)
    first[1:] = (np.diff(user[order].astype(np.int64)) != 0) | (np.diff(time[order]) > gap)
    session = np.empty(len(order), np.int64)
    session[order] = np.cumsum(first) - 1
    return session, order
