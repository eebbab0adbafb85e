"""Times and durations as Gorse's clients write them ↔ microseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from m6rec.errors import QueryError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICRO = 1_000_000
UNSET = "0001-01-01T00:00:00Z"  # how Go writes a time that was never set
UNIX = {10: MICRO, 13: 1_000, 16: 1, 19: 1 / 1_000}  # digits of a unix time → µs in its unit
UNITS = {"ns": 1 / 1_000, "us": 1, "µs": 1, "μs": 1, "ms": 1_000,
         "s": MICRO, "m": 60 * MICRO, "h": 3_600 * MICRO}  # fmt: skip
PART = re.compile(rf"(\d{{1,18}}\.?\d{{0,18}}|\.\d{{1,18}})({'|'.join(UNITS)})")
GO = re.compile(r" (?=[+-]\d{4}( UTC)?$)")  # Go prints "… 01:02:03 +0000 UTC"


def micro(text: str | None) -> int | None:
    """Return microseconds since 1970 of an ISO 8601 or unix time; UTC where it has no zone.
    None where it is not set. Raises QueryError for what is no time."""
    text = (text or "").strip()
    if not text:
        return None
    if text.isdecimal() and len(text) in UNIX:
        return int(int(text) * UNIX[len(text)])
    try:
        moment = datetime.fromisoformat(GO.sub("", text).removesuffix(" UTC"))
    except ValueError:
        raise QueryError(
            f'time "{text[:40]}" is not understood; write it as 2026-11-24T18:30:00Z'
        ) from None
    if moment.year == 1:
        return None
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (zoned - EPOCH) // timedelta(microseconds=1)


def rfc3339(time: int | None) -> str:
    """Return microseconds since 1970 as Go writes them: in UTC, without zeros at the end."""
    if time is None:
        return UNSET
    second, rest = divmod(time, MICRO)
    moment = (EPOCH + timedelta(seconds=second)).isoformat().removesuffix("+00:00")
    return f"{moment}{f'.{rest:06}'.rstrip('0') if rest else ''}Z"


def duration(text: str) -> int:
    """Return the microseconds of a Go duration such as "1h30m"; QueryError for what is none."""
    bare = text.lstrip("+-")
    if bare in ("", "0"):
        return 0
    parts = PART.findall(bare)
    if "".join(number + unit for number, unit in parts) != bare or len(text) - len(bare) > 1:
        raise QueryError(f'duration "{text[:40]}" is not understood; write it as 1h30m0s')
    total = int(sum(float(number) * UNITS[unit] for number, unit in parts))
    return -total if text.startswith("-") else total
