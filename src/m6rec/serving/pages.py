"""The token of a next page: it holds what was shown, so that any worker goes on without repeats."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable

import numpy as np

from m6rec.arrays import Array
from m6rec.errors import QueryError

MOST = 5_000  # items that one sequence of pages shows


def fingerprints(keys: Iterable[str]) -> Array:
    """Return (n,) uint32, one for each key; two keys in four billion share one."""
    return np.fromiter((zlib.crc32(key.encode()) for key in keys), np.uint32)


def token(shown: Array) -> str:
    """Return the token of these fingerprints, about 5 characters an item; "" past MOST items."""
    if len(shown) > MOST:
        return ""
    return base64.urlsafe_b64encode(shown.astype("<u4").tobytes()).decode().rstrip("=")


def shown(token: str) -> Array:
    """Return the fingerprints (n,) of a token; QueryError where it is none of ours."""
    if not token:
        return np.zeros(0, np.uint32)
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True)
        return np.frombuffer(raw, "<u4")
    except ValueError:
        raise QueryError(
            f'page "{token[:40]}" is not a page token; send the one that the last answer gave'
        ) from None
