"""News, posts and reports from JSONL, CSV, RSS and Atom files → one frame; bad rows by row."""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from m6rec.data.opinions import DOCUMENT, LAST
from m6rec.errors import DataError
from m6rec.opinion.feeds import read_feed
from m6rec.opinion.language import languages
from m6rec.opinion.rows import Problem, records, times

LONGEST = 100_000  # characters of a text that are kept
FEEDS = (".rss", ".atom", ".xml")
NAMES: Mapping[str, tuple[str, ...]] = {
    "document": ("document", "id", "guid", "key"),
    "time": ("time", "date", "published", "created_at", "timestamp", "pubdate"),
    "source": ("source", "feed", "site", "publisher"),
    "title": ("title", "headline"),
    "text": ("text", "body", "content", "summary", "description"),
    "url": ("url", "link"),
}
TAG = re.compile(r"<[^<>]{1,2000}>")


def read_documents(
    path: str | Path, *, tz: str = "UTC", source: str = ""
) -> tuple[pl.DataFrame, list[Problem]]:
    """Return documents (document, time, source, title, text, language, url) of a file, and the
    rows that are none.

    Columns may be named as usual: id, date, headline, body, link … A document without an id is
    known by the hash of its source, title, text and time. source: of rows that name none, else
    the file's name. Raises DataError where no column is a time, or none a title or text.
    """
    path = Path(path)
    if path.suffix.lower() in FEEDS:
        rows, problems = read_feed(path)
    else:
        rows, problems = records(path)
        _known(path, {str(name).strip().lower() for _, row in rows for name in row})
    return documents_of(rows, problems, where=str(path), tz=tz, source=source or path.stem)


def documents_of(
    rows: Iterable[tuple[int, Mapping[str, Any]]],
    problems: Sequence[Problem] = (),
    *,
    where: str,
    tz: str = "UTC",
    source: str = "api",
) -> tuple[pl.DataFrame, list[Problem]]:
    """Return documents of rows with their places; see ``read_documents``."""
    found: list[dict[str, Any]] = []
    for place, row in rows:
        lowered = {str(name).strip().lower(): value for name, value in row.items()}
        picked: dict[str, Any] = {
            name: next((lowered[o] for o in others if lowered.get(o) not in (None, "")), None)
            for name, others in NAMES.items()
        }
        picked = {
            name: None if value is None else _plain(value, markup=name in ("title", "text"))
            for name, value in picked.items()
        }
        found.append(picked | {"place": place})
    schema = {**dict.fromkeys(NAMES, pl.String), "place": pl.Int64}
    frame = pl.DataFrame(found, schema=schema).with_columns(
        pl.col("source").fill_null(source),
        *(pl.col(name).fill_null("") for name in ("title", "text", "url")),
    )
    frame = frame.with_columns(time=times(frame["time"], tz))
    listed = list(problems)
    for bad, reason in (
        ((pl.col("title") == "") & (pl.col("text") == ""), "has neither title nor text"),
        (pl.col("time").is_null(), "has no time that can be read"),
        (~pl.col("time").is_between(0, LAST), "has a time before 1970 or after 9999"),
        (pl.col("document").str.len_chars() > 512, "has an id of more than 512 characters"),
        (pl.col("source").str.len_chars() > 512, "has a source of more than 512 characters"),
    ):
        wrong = bad.fill_null(False)
        listed += [Problem(where, place, reason) for place in frame.filter(wrong)["place"]]
        frame = frame.filter(~wrong)
    given = frame["document"].to_list()
    keys = [key or _key(row) for key, row in zip(given, frame.rows(named=True), strict=True)]
    both = (frame["title"] + "\n" + frame["text"]).to_list()
    frame = frame.with_columns(
        document=pl.Series(keys, dtype=pl.String),
        language=pl.Series(languages(both), dtype=pl.String),
    )
    again = ~pl.col("document").is_first_distinct()
    listed += [
        Problem(where, place, f'has the id of a row before it, "{key}"')
        for place, key in frame.filter(again).select("place", "document").rows()
    ]
    frame = frame.filter(~again)
    frame = frame.select(pl.col(name).cast(kind) for name, kind in DOCUMENT.items())
    return frame, sorted(listed, key=lambda problem: problem.row)


def _known(path: Path, names: set[str]) -> None:
    """Refuse a table without a column of times, or of words."""
    for parts in (("time",), ("title", "text")):
        usual = [other for part in parts for other in NAMES[part]]
        if names and not names & set(usual):
            raise DataError(
                f"{path}: no column is a {' or '.join(parts)} (columns: "
                f"{', '.join(sorted(names))}); call one {', '.join(usual[:-1])} or {usual[-1]}"
            )


def _plain(value: Any, markup: bool) -> str:
    """Text without NUL, at most as long as is kept; without tags, if it may hold markup."""
    if isinstance(value, (list, tuple)):  # tokens of a post
        value = " ".join(map(str, value))
    text = str(value)
    if markup and ("<" in text or "&" in text):
        text = html.unescape(TAG.sub(" ", text))
    text = text.encode("utf-8", "ignore").decode().replace("\0", "")
    return text.strip()[:LONGEST]


def _key(row: Mapping[str, Any]) -> str:
    said = "\0".join(str(row[name]) for name in ("source", "title", "text", "time"))
    return hashlib.sha256(said.encode()).hexdigest()[:24]
