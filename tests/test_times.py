"""Times of any usual form become the same unix second."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m6rec.data.times import unix_seconds

NOON = 1_700_000_000  # 2023-11-14 22:13:20 UTC


def seconds(values: list[object], tz: str = "UTC", dtype: object = None) -> list[int | None]:
    frame = pl.DataFrame({"t": pl.Series(values, dtype=dtype)})  # type: ignore[arg-type]
    return frame.select(unix_seconds("t", frame.schema["t"], tz)).to_series().to_list()


@pytest.mark.parametrize(
    "value",
    [
        NOON,
        NOON * 1_000,
        NOON * 1_000_000,
        NOON * 1_000_000_000,
        float(NOON) + 0.5,
        str(NOON),
        f"{NOON}.0",
        f" {NOON}000 ",
        "1.7e9",
        "2023-11-14T22:13:20Z",
        "2023-11-14 22:13:20",
        "2023/11/14 22:13:20",
        "2023-11-14 22:13:20.987654",
        "2023-11-14 22:13:20 UTC",
        "2023-11-15T06:13:20+08:00",
        "2023-11-15 06:13:20.5+0800",
        datetime(2023, 11, 14, 22, 13, 20),
        datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
        datetime(2023, 11, 15, 6, 13, 20, tzinfo=timezone(timedelta(hours=8))),
    ],
)
def test_every_form(value: object) -> None:
    assert seconds([value]) == [NOON]


def test_dates_and_zones() -> None:
    midnight = NOON - (22 * 3600 + 13 * 60 + 20)
    assert seconds(["2023-11-14"]) == [midnight]
    assert seconds([date(2023, 11, 14)]) == [midnight]
    assert seconds(["2023-11-14"], "Asia/Shanghai") == [midnight - 8 * 3600]
    assert seconds([datetime(2023, 11, 14)], "Asia/Shanghai") == [midnight - 8 * 3600]
    assert seconds(["2023-11-14T00:00:00Z"], "Asia/Shanghai") == [midnight]


def test_clock_changes_and_nonsense() -> None:
    assert seconds(["2023-03-26 02:30:00"], "Europe/Berlin") == [None]  # no such local time
    assert seconds(["2023-10-29 02:30:00"], "Europe/Berlin") == [1698539400]  # the earlier one
    assert seconds(["yesterday", "", None, "2023-13-01"]) == [None] * 4


def test_days_written_as_numbers() -> None:
    first = [1740787200, 1740873600]  # 1 and 2 March 2025
    assert seconds([20250301, 20250302]) == first
    assert seconds(["20250301", "2025-03-02"]) == first
    assert seconds([20250301.0], "Asia/Shanghai") == [first[0] - 8 * 3600]
    assert seconds([20250301, 20251301, 2025, NOON]) == [first[0], None, None, NOON]
    assert seconds(["2025-03-01", "45000", ""]) == [first[0], None, None]
    assert seconds([NOON, 0, None]) == [NOON, 0, None]


def test_seconds_from_a_start_of_their_own() -> None:
    steps = [0, 5, 3_600, 20_250_301, 86_400_000]
    assert seconds(steps) == steps
    assert seconds([str(step) for step in steps]) == steps


@given(st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)))
def test_iso_text_round_trips(moment: datetime) -> None:
    expected = int(moment.replace(tzinfo=UTC, microsecond=0).timestamp())
    assert seconds([moment.isoformat()]) == [expected]
    assert seconds([moment.isoformat(" ") + "Z"]) == [expected]
