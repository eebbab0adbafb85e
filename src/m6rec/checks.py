"""What a request may hold; whatever else is given is refused in one sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any

import numpy as np
import polars as pl

from m6rec.arrays import Scores
from m6rec.data.arrivals import fitting, typed
from m6rec.data.attributes import attributes
from m6rec.errors import DataError, QueryError, suggestion, written

UNFIT = (DataError, TypeError, ValueError, OverflowError, pl.exceptions.PolarsError)


def users(given: Any) -> list[str | None]:
    """Return the key of a user, or those of several, as a list."""
    several = isinstance(given, Iterable) and not isinstance(given, str)
    keys = list(given) if several else [given]
    if not keys:
        raise QueryError("no user is given; name one, or several in a list")
    for key in keys:
        if not (key is None or isinstance(key, str)):
            raise QueryError(f"user {key!r}: must be a key, which is a string")
    return keys


def names(given: Any) -> list[str]:
    """Return keys or titles of items, such as those of a history, as a list."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise QueryError(f"items {given!r}: must be a list of keys or titles")
    found = list(given)
    for name in found:
        if not isinstance(name, str):
            raise QueryError(f"item {name!r}: must be a key or title, which is a string")
    return found


def weights(history: Mapping[str, Any]) -> Scores:
    """Return the weights (n,) of a history of item → weight."""
    for item, weight in history.items():
        if not (isinstance(weight, (int, float, np.number)) and np.isfinite(weight)):
            raise QueryError(f'history of "{item}": {weight!r} must be a number')
    return np.array(list(history.values()), np.float32)


def count(name: str, given: Any, most: int) -> int:
    """Return a whole number of at least 0, and no more than there are."""
    if not isinstance(given, Integral) or given < 0:
        raise QueryError(f"{name} = {given!r}: must be a whole number, 0 or more")
    return min(int(given), most)


def user_attributes(users: pl.DataFrame, given: Mapping[str, Any], extra: bool = False) -> None:
    """Refuse a value that the column of its name cannot hold and, without ``extra``, a name that
    is no column. users: the raw attributes of a run, with their key."""
    kinds = users.drop("key").schema
    for name in given if not extra else ():
        if name not in kinds:
            raise QueryError(
                f'attribute "{name}" is unknown{suggestion(name, kinds)} '
                f"(known: {', '.join(kinds) or 'none'})"
            )
    for name, kind in kinds.items():
        if (value := given.get(name)) is None:
            continue
        try:
            read = typed(name, [value], kind)[0]
        except UNFIT:
            read = None
        if read is None:
            raise _refused(name, value, kind)


def item_attributes(items: pl.DataFrame, given: Mapping[str, Any]) -> None:
    """Refuse a value that the column of its name cannot hold. items: the rows of a run."""
    columns = attributes(items)
    for name, kind in columns.schema.items():
        if (value := given.get(name)) is None:
            continue
        try:
            row = pl.DataFrame({name: [value]}, strict=False)
            read = fitting(row, columns.select(name), {}).schema[name]
        except UNFIT:
            read = None
        if read != kind:  # an object is cast field by field
            raise _refused(name, value, kind)


def _refused(name: str, value: Any, kind: pl.DataType) -> QueryError:
    words = {pl.String: "text", pl.Boolean: "true or false", pl.List: "a list"}
    wanted = "a number" if kind.is_numeric() else words.get(kind.base_type(), f"of type {kind}")
    return QueryError(f"attribute {name} = {written(value)}: must be {wanted}")
