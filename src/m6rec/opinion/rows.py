"""Rows of JSONL and CSV files, each with its place, and what is wrong with those that are none."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from m6rec.data.delimited import sniff
from m6rec.data.readers import absent
from m6rec.data.times import unix_seconds
from m6rec.errors import DataError

csv.field_size_limit(1 << 24)  # characters of an article


@dataclass(frozen=True, slots=True)
class Problem:
    """A row that was left out: its file, its place there (from 1), and why."""

    path: str
    row: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}, row {self.row}: {self.reason}"


def records(path: Path) -> tuple[list[tuple[int, Mapping[str, Any]]], list[Problem]]:
    """Return the rows of a .jsonl, .csv or .tsv file with their line, and those that are none."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise absent(path) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    if path.suffix in (".jsonl", ".ndjson"):
        return _jsonl(path, text)
    if path.suffix in (".csv", ".tsv"):
        return _csv(path, text)
    raise DataError(f"{path}: must end in .jsonl, .csv, .tsv, .rss, .atom or .xml")


def _jsonl(path: Path, text: str) -> tuple[list[tuple[int, Mapping[str, Any]]], list[Problem]]:
    rows: list[tuple[int, Mapping[str, Any]]] = []
    problems = []
    for place, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            problems.append(Problem(str(path), place, "is not JSON"))
            continue
        if isinstance(row, dict):
            rows.append((place, row))
        else:
            problems.append(Problem(str(path), place, "is not an object"))
    return rows, problems


def _csv(path: Path, text: str) -> tuple[list[tuple[int, Mapping[str, Any]]], list[Problem]]:
    mark = "\t" if path.suffix == ".tsv" else sniff(text.splitlines()[:50])
    mark = mark if len(mark) == 1 else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark)
    rows: list[tuple[int, Mapping[str, Any]]] = []
    problems = []
    names: list[str] = []
    while True:
        place = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            problems.append(Problem(str(path), place, f"is not CSV: {error}"))
            continue
        if row is None:
            return rows, problems
        if not any(cell.strip() for cell in row):
            continue
        if not names:
            names = [name.strip() for name in row]
        elif len(row) != len(names):
            problems.append(
                Problem(str(path), place, f"has {len(row)} fields where {len(names)} are named")
            )
        else:
            rows.append((place, dict(zip(names, row, strict=True))))


def times(column: pl.Series, tz: str) -> pl.Series:
    """Return unix seconds (Int64), null where a value is no time; RFC 822 dates of feeds too."""
    name = column.name
    frame = column.to_frame()
    seconds = frame.select(unix_seconds(name, column.dtype, tz).alias(name))[name]
    if column.dtype != pl.String or not seconds.null_count():
        return seconds
    feed = pl.col(name).str.strip_chars().str.replace(r"^[A-Za-z]{3,},\s*", "")
    feed = feed.str.replace(r"\s*(GMT|UT|UTC|Z)$", " +0000")
    zoned = [
        feed.str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False).dt.epoch("s")
        for form in ("%d %b %Y %H:%M:%S %z", "%d %b %Y %H:%M %z", "%d %b %y %H:%M:%S %z")
    ]
    return seconds.fill_null(frame.select(pl.coalesce(*zoned).alias(name))[name])
