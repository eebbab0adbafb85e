"""Events, users and items → JSONL or Parquet, by the file's ending, and back; all streamed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import polars as pl
import sqlalchemy as sa

from m6rec.errors import DataError, StoreError
from m6rec.store import lists, rows
from m6rec.store.records import Event, Item, User
from m6rec.store.schema import EVENTS

Kind = Literal["event", "user", "item"]
BATCH = 5000  # rows in memory at a time
TYPES: Mapping[Kind, Any] = {"event": Event, "user": User, "item": Item}
SCHEMAS: Mapping[Kind, dict[str, Any]] = {  # attributes are JSON
    "event": {
        "user": pl.String, "item": pl.String, "type": pl.String, "value": pl.Float64,
        "time": pl.Int64, "key": pl.String, "request": pl.String, "comment": pl.String,
    },
    "user": {"key": pl.String, "attributes": pl.String, "comment": pl.String},
    "item": {
        "key": pl.String, "title": pl.String, "text": pl.String, "attributes": pl.String,
        "categories": pl.List(pl.String), "hidden": pl.Boolean, "time": pl.Int64,
        "comment": pl.String,
    },
}  # fmt: skip


Ask = Callable[[sa.Executable, Mapping[str, Any]], Sequence[Any]]
_EVENTS = (
    sa.select(EVENTS)
    .where(EVENTS.c.id > sa.bindparam("after"))
    .order_by(EVENTS.c.id)
    .limit(sa.bindparam("n"))
)


def all_events(ask: Ask, prefix: str) -> Iterator[list[Event]]:
    """Yield all events in batches, as they were added; one without a key gets prefix and id."""
    after = 0
    while found := ask(_EVENTS, {"after": after, "n": BATCH}):
        after = found[-1].id
        events = [lists.event(row) for row in found]
        yield [e if e.key is not None else replace(e, key=f"{prefix}{e.id}") for e in events]


def all_of(ask: Ask, kind: Literal["user", "item"]) -> Iterator[list[Any]]:
    """Yield all users or items in batches, by key."""
    after = ""
    while found := ask(rows.PAGE[kind], {"after": after, "end": rows.END, "n": BATCH}):
        after = found[-1].key
        yield [rows.VALUES[kind](row) for row in found]


def write(path: Path, kind: Kind, batches: Iterable[list[Any]]) -> int:
    """Write values to a file, which is there whole or not at all; returns how many."""
    _check(path)
    counted = _Counted(batches)
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        if path.suffix == ".parquet":
            _sink(part, kind, counted)
        else:
            with part.open("w", encoding="utf-8") as file:
                for batch in counted:
                    file.writelines(
                        json.dumps(_table(kind, value), ensure_ascii=False) + "\n"
                        for value in batch
                    )
        part.replace(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise StoreError(f"{path}: cannot be written: {_first_line(error)}") from None
    finally:
        part.unlink(missing_ok=True)
    return counted.n


class _Counted:
    """Batches, and how many values they held."""

    def __init__(self, batches: Iterable[list[Any]]) -> None:
        self.n = 0
        self._batches = batches

    def __iter__(self) -> Iterator[list[Any]]:
        for batch in self._batches:
            self.n += len(batch)
            yield batch


def _sink(path: Path, kind: Kind, batches: Iterable[list[Any]]) -> None:
    from polars.io.plugins import register_io_source

    schema = SCHEMAS[kind]

    def source(*_: Any) -> Iterator[pl.DataFrame]:
        for batch in batches:
            rows = [_flat(_table(kind, value)) for value in batch]
            yield pl.DataFrame(rows, schema=schema)

    register_io_source(source, schema=schema).sink_parquet(path)


def _table(kind: Kind, value: Any) -> dict[str, Any]:
    table = asdict(value)
    return {name: table[name] for name in SCHEMAS[kind]}


def _flat(table: dict[str, Any]) -> dict[str, Any]:
    if "attributes" in table:
        table["attributes"] = json.dumps(table["attributes"], ensure_ascii=False)
    return table


def read(path: Path, kind: Kind) -> Iterator[tuple[int, list[Any]]]:
    """Yield batches of values, each with the number of its first row."""
    _check(path)
    tables = _parquet(path) if path.suffix == ".parquet" else _jsonl(path)
    first, batch = 1, []
    for row, table in enumerate(tables, 1):
        batch.append(_value(path, kind, row, table))
        if len(batch) == BATCH:
            yield first, batch
            first, batch = row + 1, []
    if batch:
        yield first, batch


def _jsonl(path: Path) -> Iterator[Any]:
    try:
        with path.open(encoding="utf-8") as file:
            for row, line in enumerate(file, 1):
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError):
                    raise DataError(f"{path}, row {row}: is not JSON") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {_first_line(error)}") from None


def _parquet(path: Path) -> Iterator[Any]:
    try:
        frame = pl.scan_parquet(path)
        for batch in frame.collect_batches(chunk_size=BATCH, maintain_order=True):
            yield from batch.iter_rows(named=True)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: cannot be read: {_first_line(error)}") from None


def _value(path: Path, kind: Kind, row: int, table: Any) -> Any:
    """One value; what is null or left out is as where it was never said."""
    if not isinstance(table, dict):
        raise DataError(f"{path}, row {row}: is not an object")
    given = {name: value for name, value in table.items() if value is not None}
    if unknown := set(given) - set(SCHEMAS[kind]):
        raise DataError(
            f'{path}, row {row}: "{min(unknown)}" is not among {", ".join(SCHEMAS[kind])}'
        )
    try:
        if isinstance(given.get("attributes"), str):
            given["attributes"] = json.loads(given["attributes"])
        return TYPES[kind](**given)
    except ValueError:
        raise DataError(f"{path}, row {row}: attributes are not JSON") from None
    except TypeError:
        lacking = "user, item, type and time" if kind == "event" else "a key"
        raise DataError(f"{path}, row {row}: needs {lacking}") from None


def _check(path: Path) -> None:
    if path.suffix not in (".jsonl", ".parquet"):
        raise DataError(f"{path}: must end in .jsonl or .parquet")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
