"""What a request in Python may hold; whatever else is given is refused in one sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any

import numpy as np

from m6rec.arrays import Scores
from m6rec.errors import QueryError


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
