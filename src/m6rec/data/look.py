"""Look at the first rows of a file: how it is read, what it is, which column plays which part."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from m6rec.data import columns, delimited, notation, readers
from m6rec.data.drops import Drops
from m6rec.data.preset import Preset
from m6rec.data.schema import Columns, Role, Table
from m6rec.errors import DataError

ROWS = 10_000  # looked at in each file
SQLITE = b"SQLite format 3\x00"  # how such a file begins
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")  # no text has these
PEOPLE = "social"  # what a domain of people is called
_OF_USERS = {"user", "users", "log", "events", "interactions"}  # words that name no domain
ROLE_WORDS: dict[Role, str] = {
    "items": r"item|product|movie|film|book|article|song|track|artist|video|catalog|meta",
    "users": r"user|customer|member|people|person|account",
    "links": r"link|identit|mapping",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Seen:
    """One file: how it is read, what it is, its columns by part, its first rows.

    people: whether its items are people. lacking: parts that it needs, of which no column looks
    like one."""

    table: Table
    role: Role
    parts: dict[str, str]
    frame: pl.DataFrame
    stem: str
    people: bool = False
    lacking: tuple[str, ...] = ()


def look(file: Path, base: Path, preset: Preset | None = None) -> Seen:
    """Read the first rows of a file and guess what it is."""
    if file.is_dir():
        raise DataError(f"{file}: is a folder; name the files in it")
    if not file.is_file():
        raise DataError(f"{file}: no such file; name a file of interactions, items or users")
    path = os.path.relpath(file, base)
    with file.open("rb") as content:
        database = content.read(16) == SQLITE
    if database:
        raise DataError(f'{path}: is a database; say sql = "sqlite:///{path}" and a query')
    table = _readable(path, base)
    drops = Drops()
    try:
        frame = readers.read(table, base, drops).head(ROWS).drop(delimited.ROW).collect()
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: cannot be read: {readers.first_line(error)}") from None
    if not frame.height:
        none = "no row that fits it" if drops.entries else "no rows"
        raise DataError(f"{path}: has a header ({', '.join(frame.columns)}), but {none}")
    names, nothing = frame.columns, Columns()
    table = _spelt(table, frame)
    stem = re.sub(r"\W+", "_", file.name.split(".")[0])
    if preset and (found := _by_preset(preset, table, frame, stem)):
        return found
    for role in _likely(file, names):
        try:
            parts = columns.resolve(names, nothing, nothing, role, path)
        except DataError:
            continue
        named = [parts[p] for p in ("item" if role == "items" else "user", "domain") if p in parts]
        once = frame.select(named).n_unique() > frame.height / 2  # else they are a log's
        if role in ("interactions", "links") or once:
            return Seen(table, role, parts, frame, stem)
    parts = columns.guessed(names, "interactions")
    lacking = tuple(part for part in columns.NEEDED["interactions"] if part not in parts)
    return Seen(table, "interactions", parts, frame, stem, lacking=lacking)


def _spelt(table: Table, frame: pl.DataFrame) -> Table:
    """The table with its decimal mark and its form of times, where its texts show them."""
    texts = [column for column in frame if column.dtype == pl.String]
    time = columns.guessed(frame.columns, "interactions").get("time")
    shown = [notation.forms(text) for text in texts if time in (text.name, None)]
    sure = {fits[0] for fits in shown if len(fits) == 1}
    return replace(
        table,
        decimal="," if any(notation.commas(text) for text in texts) else ".",
        time_format=sure.pop() if len(sure) == 1 else "",
    )


def _by_preset(preset: Preset, table: Table, frame: pl.DataFrame, stem: str) -> Seen | None:
    """A log as the preset knows its columns: of other people, or with its value column; the
    columns, and the type of a log that names none, are said in the table."""
    names = frame.columns
    person, value = preset.person_column(names), preset.value_column(names)
    own = Columns(item=person, value=value)
    try:
        parts = columns.resolve(names, own, Columns(), "interactions", table.path)
    except DataError:
        return None
    event = ""
    if "event" not in parts and (person or not preset.people):
        event = preset.kind(person or "") or preset.event
    table = replace(table, event=event, columns=own)
    stem = PEOPLE if person else "_".join(w for w in stem.split("_") if w not in _OF_USERS) or stem
    return Seen(table, "interactions", parts, frame, stem, person is not None)


def _readable(path: str, base: Path) -> Table:
    """The table of a path, in UTF-8, else GB or Latin; lines of keys of unequal length are
    sequences. Raises DataError for what is no text."""
    table = Table(path=path)
    if readers.format_of(table) != "csv":
        return table
    for encoding in ("utf-8", "gb18030", "latin-1"):
        table = Table(path=path, encoding=encoding)
        try:
            lines = [line for line in delimited.head(table, base / path) if line.strip()][:200]
        except DataError:
            if encoding == "latin-1":
                raise
            continue
        break
    if any(CONTROL.search(line) for line in lines):
        raise DataError(f"{path}: is no text; name a CSV, JSONL or Parquet file")
    words = [line.split() for line in lines]
    widths = {len(line) for line in words}
    coded = [any(map(str.isdigit, word)) for line in words for word in line]
    marks = any(mark in lines[0] for mark in delimited.DELIMITERS if mark != " ")
    if not marks and len(widths) > 1 and sum(coded) > len(coded) / 2:  # prose is no keys
        return Table(path=path, encoding=table.encoding, format="sequence")
    return table


def _likely(file: Path, names: Sequence[str]) -> list[Role]:
    """Roles in the order in which they should be tried."""
    word = file.name.lower()
    simple = {columns.simple(name) for name in names}
    if simple & set(columns.GUESSES["person"]) and "domain" in simple:
        return ["links"]
    named: list[Role] = [role for role, words in ROLE_WORDS.items() if re.search(words, word)]
    user = simple & set(columns.GUESSES["user"])
    item = simple & set(columns.GUESSES["item"])
    if user and item:
        return ["interactions"]
    if item or user:
        return ["items"] if item else ["users"]
    return [role for role in named if role != "links"]
