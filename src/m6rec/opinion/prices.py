"""Prices and volumes from CSV and JSONL files → one frame; bad rows by file and row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from m6rec.data.opinions import PRICE
from m6rec.opinion.rows import Problem, records, times

NAMES: Mapping[str, tuple[str, ...]] = {
    "entity": ("entity", "symbol", "ticker", "code", "name"),
    "time": ("time", "date", "datetime", "timestamp", "day"),
    "close": ("close", "adj close", "adj_close", "price", "last"),
    "volume": ("volume", "vol"),
}


def read_prices(
    path: str | Path, *, tz: str = "UTC", entity: str = ""
) -> tuple[pl.DataFrame, list[Problem]]:
    """Return prices (entity, time, close, volume) of a file, and the rows that are none.

    Columns may be named as usual: symbol, date, adj close, vol … entity: of all rows of a file
    that has no such column. A missing volume is 0.
    """
    rows, problems = records(Path(path))
    found: list[dict[str, Any]] = []
    places: list[int] = []
    for place, row in rows:
        lowered = {str(name).strip().lower(): value for name, value in row.items()}
        picked = {
            name: next((lowered[o] for o in others if lowered.get(o) not in (None, "")), None)
            for name, others in NAMES.items()
        }
        found.append(picked | {"entity": picked["entity"] or entity or None})
        places.append(place)
    return _checked(Path(path), found, places, tz, problems)


def _checked(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    places: Sequence[int],
    tz: str,
    problems: list[Problem],
) -> tuple[pl.DataFrame, list[Problem]]:
    frame = pl.DataFrame(
        {name: [None if r[name] is None else str(r[name]).strip() for r in rows] for name in NAMES},
        schema=dict.fromkeys(NAMES, pl.String),
    ).with_columns(place=pl.Series(places, dtype=pl.Int64))
    number = {
        name: pl.col(name).str.replace_all(",", "", literal=True).cast(pl.Float64, strict=False)
        for name in ("close", "volume")
    }
    frame = frame.with_columns(
        time=times(frame["time"], tz),
        close=number["close"],
        volume=pl.when(pl.col("volume").is_null()).then(0.0).otherwise(number["volume"]),
    )
    checks = (
        ("entity", pl.col("entity").is_null(), "no entity"),
        ("time", pl.col("time").is_null(), "no time that can be read"),
        ("close", ~pl.col("close").is_finite().fill_null(False), "no close that is a number"),
        ("volume", ~pl.col("volume").is_finite().fill_null(False), "a volume that is no number"),
    )
    for _, bad, reason in checks:
        for place in frame.filter(bad)["place"]:
            problems.append(Problem(path=str(path), row=place, reason=f"has {reason}"))
        frame = frame.filter(~bad)
    return frame.select(pl.col(name).cast(kind) for name, kind in PRICE.items()), problems
