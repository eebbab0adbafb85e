"""Values from outside → rows of the tables, or one sentence that says what is wrong with them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from m6rec.errors import DataError
from m6rec.store.records import Event, Given, Item, User

Row = dict[str, Any]
LONGEST = 512  # characters of a key
BYTES = 800  # of a key: a row of an index of PostgreSQL has 2704, and three keys
LARGEST = 10**9  # value of an event, either way
DEEPEST = 32  # levels of attributes, so that what could be written can be read
FIRST = -62_135_596_800_000_000  # the first µs of the year 1
LAST = 253_402_300_799_999_999  # the last µs of the year 9999


def key(value: Any, name: str) -> str:
    """Return a key that is text of 1 to 512 characters and 800 bytes at most, without NUL."""
    if not isinstance(value, str) or not value:
        raise DataError(f"{name} {value!r}: must be text that is not empty")
    if len(value) > LONGEST:
        raise DataError(f'{name} "{value[:40]}…": has {len(value)} characters, {LONGEST} at most')
    if (n := len(text(value, name).encode())) > BYTES:
        raise DataError(f'{name} "{value[:40]}…": has {n} bytes, {BYTES} at most')
    return value


def item_key(value: Any) -> str:
    """Return the key of an item, "domain/key" with neither part empty."""
    domain, slash, bare = key(value, "item").partition("/")
    if not domain or not slash or not bare:
        raise DataError(f'item "{value}": must be written "domain/key"')
    return str(value)


def text(value: Any, name: str) -> str:
    """Return text that both databases can hold: no NUL, no half of a surrogate pair."""
    if not isinstance(value, str):
        raise DataError(f"{name} {value!r}: must be text")
    if "\0" in value:
        raise DataError(f"{name} {value[:40]!r}: must be without NUL characters")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise DataError(f"{name} {value[:40]!r}: is not valid Unicode") from None
    return value


def moment(value: Any, name: str = "time", first: int = 0) -> int:
    """Return a time in µs since 1970, within the years 1970 (or that of ``first``) to 9999."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise DataError(f"{name} {value!r}: must be a whole number of µs since 1970")
    if not first <= value <= LAST:
        year = 1 if first else 1970
        raise DataError(f"{name} {value}: must lie within the years {year} to 9999 (µs since 1970)")
    return value


def number(value: Any) -> float:
    """Return a float that models can square and add up in single precision."""
    if isinstance(value, (int, float)) and -LARGEST <= value <= LARGEST:
        return float(value)
    raise DataError(f"value {str(value)[:40]}: must be a number from −10⁹ to 10⁹")


def attributes(value: Any) -> str:
    """Return a mapping as JSON."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise DataError("attributes: must be names with values")
    if _deep(value, DEEPEST):
        raise DataError(f"attributes: are nested more than {DEEPEST} levels deep")
    try:
        written = json.dumps(dict(value), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"attributes: cannot be written as JSON: {error}") from None
    return text(written, "attributes")


def _deep(value: Any, levels: int) -> bool:
    inside = value.values() if isinstance(value, Mapping) else value
    if not isinstance(inside, Iterable) or isinstance(inside, (str, bytes)):
        return False
    return not levels or any(_deep(each, levels - 1) for each in inside)


def categories(value: Any) -> str:
    """Return a list of names as JSON."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise DataError(f"categories {value!r}: must be a list of names")
    return json.dumps([key(name, "category") for name in value], ensure_ascii=False)


def digest(user: str) -> str:
    """Return what stands for the key of a deleted user, who is to leave no trace."""
    return hashlib.sha256(user.encode()).hexdigest()


def event_row(event: Event) -> Row:
    """Return the row of an event; its id is the store's to give."""
    return old_event_row(event) | {"time": moment(event.time)}


def old_event_row(event: Event) -> Row:
    """Return the row of an event that a run may have brought: -1 stands for an unknown time."""
    return {
        "user_key": key(event.user, "user"),
        "item_key": item_key(event.item),
        "type": key(event.type, "event type"),
        "value": None if event.value is None else number(event.value),
        "time": -1 if event.time == -1 else moment(event.time),
        "key": None if event.key is None else key(event.key, "idempotency key"),
        "request": None if event.request is None else key(event.request, "request"),
        "comment": text(event.comment, "comment"),
    }


def user_row(user: User) -> Row:
    """Return the row of a user, without a rev."""
    return {
        "key": key(user.key, "user"),
        "attributes": attributes(user.attributes),
        "comment": text(user.comment, "comment"),
    }


def item_row(item: Item) -> Row:
    """Return the row of an item, without a rev."""
    return {
        "key": item_key(item.key),
        "bare": item.key.partition("/")[2],
        "title": text(item.title, "title"),
        "text": text(item.text, "text"),
        "attributes": attributes(item.attributes),
        "categories": categories(item.categories),
        "hidden": flag(item.hidden, "hidden"),
        "time": None if item.time is None else moment(item.time, first=FIRST),
        "comment": text(item.comment, "comment"),
    }


def given_row(given: Given) -> Row:
    """Return the row of an item that was recommended."""
    position = given.position
    if isinstance(position, bool) or not isinstance(position, int) or not 0 <= position < 2**31:
        raise DataError(f"position {position!r}: must be a whole number from 0")
    return {
        "request": key(given.request, "request"),
        "position": position,
        "user_key": key(given.user, "user") if given.user else "",
        "item_key": item_key(given.item),
        "domain": given.item.partition("/")[0],
        "time": moment(given.time),
        "run": text(given.run, "run"),
        "explored": flag(given.explored, "explored"),
        "arm": text(given.arm, "arm"),
        "score": None if given.score is None else number(given.score),
    }


def flag(value: Any, name: str) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise DataError(f"{name} {value!r}: must be true or false")
    return value


MAKERS: Mapping[type, Callable[[Any], Row]] = {
    Event: event_row, User: user_row, Item: item_row, Given: given_row,
}  # fmt: skip


def rows(values: Iterable[Event | User | Item | Given]) -> list[Row]:
    """Return the rows of values; an error says which of several is wrong."""
    values = list(values)
    found = []
    for place, value in enumerate(values, 1):
        try:
            found.append(MAKERS[type(value)](value))
        except DataError as error:
            where = f"{type(value).__name__.lower()} {place}: " if len(values) > 1 else ""
            raise DataError(f"{where}{error}") from None
    return found


def rows_of_file(path: str | Path, first: int, values: Sequence[Any]) -> list[Row]:
    """Return the rows of values that stand in a file from row ``first`` on; an event's time may
    be unknown, as in a run."""
    found = []
    for place, value in enumerate(values, first):
        try:
            old = isinstance(value, Event)
            found.append(old_event_row(value) if old else MAKERS[type(value)](value))
        except DataError as error:
            raise DataError(f"{path}, row {place}: {error}") from None
    return found
