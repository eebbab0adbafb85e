"""A run's items, users and events → an empty store, at once."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import polars as pl
import sqlalchemy as sa

from m6rec.arrays import Array
from m6rec.errors import DataError
from m6rec.store.checks import BYTES, LONGEST
from m6rec.store.rows import copy_tuples
from m6rec.store.schema import EVENTS, ITEMS, USERS

if TYPE_CHECKING:  # they bring half of scipy
    from m6rec.data.dataset import Dataset
    from m6rec.data.prepare import Prepared

BATCH = 20_000  # rows of one statement
SECOND = 1_000_000  # µs
ANY = sa.select(  # whether there are users, items, events
    *(sa.exists(sa.select(sa.literal(1)).select_from(each)) for each in (USERS, ITEMS, EVENTS))
)
NOT_ATTRIBUTES = ("key", "domain", "title", "hidden")


class Fitted(Protocol):
    """What is read of an ``artifacts.Fitted``."""

    @property
    def prepared(self) -> Prepared: ...


def import_runs(connection: sa.Connection, jobs: Sequence[Fitted]) -> list[bool]:
    """Insert everything that the first run knows, with rev 0, if there is nothing yet."""
    done = []
    for run in jobs:
        done.append(not any(connection.execute(ANY).one()))
        if done[-1]:
            _import(connection, run)
    return done


def _import(connection: sa.Connection, run: Fitted) -> None:
    prepared = run.prepared
    for what, keys in (("user", prepared.users["key"]), ("item", prepared.items["key"])):
        _check(what, keys)
    indexes = sorted(EVENTS.indexes, key=lambda index: str(index.name))
    for index in indexes:
        index.drop(connection)
    for table, batches in (
        (USERS, _users(prepared)),
        (ITEMS, _items(prepared)),
        (EVENTS, _events(prepared.dataset)),
    ):
        for names, rows in batches:
            copy_tuples(connection, table, names, rows)
    for index in indexes:  # sorting once is quicker than a million insertions
        index.create(connection)
    if connection.dialect.name == "postgresql":  # its plans are poor until it has counted
        for table in (USERS, ITEMS, EVENTS):
            connection.exec_driver_sql(f'ANALYZE "{table.name}"')


def _check(what: str, keys: pl.Series) -> None:
    """Refuse keys that the store could not be given one by one."""
    long = keys.filter(keys.str.len_chars() > LONGEST)
    bad = keys.filter((keys.str.len_chars() == 0) | keys.str.contains("\0", literal=True))
    wide = keys.filter(keys.str.len_bytes() > BYTES)
    for found, problem in (
        (long, f"has more than {LONGEST} characters"),
        (wide, f"has more than {BYTES} bytes"),
        (bad, "is empty or holds a NUL character"),
    ):
        if len(found):
            raise DataError(f"{what} {found[0][:40]!r}: its key {problem}")


Batches = Iterator[tuple[tuple[str, ...], list[Any]]]


def _users(prepared: Prepared) -> Batches:
    names = ("key", "attributes", "comment", "rev")
    for part in prepared.users.iter_slices(BATCH):
        written = _written(part)
        yield names, [(key, text, "", 0) for key, text in zip(part["key"], written, strict=True)]


def _items(prepared: Prepared) -> Batches:
    names = ("key", "bare", "title", "text", "attributes", "categories", "hidden", "comment", "rev")
    texts = prepared.dataset.item_text or ("",) * prepared.items.height
    start = 0
    for part in prepared.items.iter_slices(BATCH):
        title = part["title"] if "title" in part.columns else pl.Series([""] * part.height)
        columns = (
            part["key"].to_list(),
            part["key"].str.splitn("/", 2).struct.field("field_1").to_list(),
            [_clean(each) for each in title],
            [
                _clean(each).removeprefix(_clean(of)).strip()
                for each, of in zip(texts[start : start + part.height], title, strict=True)
            ],  # a run's texts begin with the title
            _written(part),
            ["[]"] * part.height,
            part["hidden"].to_list(),
            [""] * part.height,
            [0] * part.height,
        )
        start += part.height
        yield names, list(zip(*columns, strict=True))


def _events(data: Dataset) -> Batches:
    names = ("user_key", "item_key", "type", "value", "time", "comment")
    values, moments = _values(data), np.where(data.time >= 0, data.time * SECOND, -1)
    types = [event.name for event in data.events]
    for start in range(0, len(data), BATCH):
        part = slice(start, start + BATCH)
        columns = (
            data.users.decode(data.user[part]),
            data.items.decode(data.item[part]),
            [types[code] for code in data.event[part]],
            [None if math.isnan(value) else value for value in values[part].tolist()],
            moments[part].tolist(),
            [""] * len(data.user[part]),
        )
        yield names, list(zip(*columns, strict=True))


def _values(data: Dataset) -> Array:
    """(N,) float64 ratings, or how many plain events of its type an event is; NaN for one."""
    weights = [e.weight if e.sign == "positive" else -e.weight for e in data.events]
    of_type = np.array(weights, np.float32)[data.event]
    rated = data.explicit[data.item]
    value = np.where(rated, data.weight, data.weight / of_type)
    # As short as float32 is written: 3.3 is not to become 3.2999999523162842.
    distinct, at = np.unique(value, return_inverse=True)
    short = np.array([float(str(each)) for each in distinct])[at]
    return np.where(rated | (value != 1), short, np.nan)


def _written(frame: pl.DataFrame) -> list[str]:
    """The attributes of each row as JSON, without those that it lacks."""
    rows = frame.drop(NOT_ATTRIBUTES, strict=False)
    if not rows.width:
        return ["{}"] * frame.height
    return [
        _clean(json.dumps({k: _plain(v) for k, v in row.items() if v is not None},
                          ensure_ascii=False))
        for row in rows.iter_rows(named=True)
    ]  # fmt: skip


def _plain(value: Any) -> Any:
    """A cell as JSON has it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (list, tuple, pl.Series)):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, (date, datetime, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)


def _clean(text: str | None) -> str:
    """PostgreSQL holds no NUL."""
    return (text or "").replace("\0", "")
