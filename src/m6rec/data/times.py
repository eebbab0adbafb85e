"""Times of any usual form → unix seconds, UTC."""

from __future__ import annotations

import polars as pl

from m6rec.data.notation import moments

_ZONED = ("%Y-%m-%dT%H:%M:%S%.f%:z", "%Y-%m-%dT%H:%M%:z")
_NAIVE = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M")
SMALL = 10**8  # seconds: in 1973, before any log
_FIRST, _LAST = 19000101, 21001231  # days written as numbers


def unix_seconds(column: str, dtype: pl.DataType, tz: str, form: str = "") -> pl.Expr:
    """Return an Int64 expression of unix seconds; null where the value is no time.

    Numbers are seconds, ms, µs or ns by their size, or days such as 20250301. Other numbers from
    1 to 10^8 are no times, unless most of the column are such: then it counts seconds from a
    start of its own. Text is a number, an ISO date or an ISO date and time with or without an
    offset. What has no zone is in ``tz``. form: of all texts and numbers (strftime) instead.
    """
    value = pl.col(column)
    if form and not dtype.is_temporal():
        moment = moments(value.cast(pl.String).str.strip_chars(), form)
        return moment.dt.epoch("s") if "%z" in form or "%:z" in form else _in_zone(moment, tz)
    if dtype.is_numeric():
        return _from_number(value, value.is_not_null(), tz)
    if dtype == pl.Date:
        return _in_zone(value.cast(pl.Datetime("us")), tz)
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone is not None:
            return value.dt.epoch("s")
        return _in_zone(value.cast(pl.Datetime("us")), tz)
    text = value.cast(pl.String).str.strip_chars()
    value = text.cast(pl.Float64, strict=False)
    number = _from_number(value, text != "", tz)
    plain = _from_plain(pl.when(value.is_null()).then(text), tz)
    rest = pl.when(value.is_null() & plain.is_null()).then(text)  # so that few rows are slow
    return pl.coalesce(number, plain, _from_iso(rest, tz))


def _from_plain(text: pl.Expr, tz: str) -> pl.Expr:
    """The forms that most files use: a date and time to the second, perhaps with T and Z."""
    bare = text.str.strip_suffix("Z").str.replace("T", " ", literal=True)
    moment = bare.str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=False)
    local = _in_zone(moment, tz)
    return pl.when(text.str.ends_with("Z")).then(moment.dt.epoch("s")).otherwise(local)


def _from_iso(text: pl.Expr, tz: str) -> pl.Expr:
    iso = (
        text.str.replace(r"^(\d{4})[-/](\d\d?)[-/](\d\d?)", "${1}-${2}-${3}")
        .str.replace(r"^([\d-]+)\s+", "${1}T")
        .str.replace(r"\s*(Z|UTC)$", "+00:00")
        .str.replace(r"(:\d\d[.\d]*)\s*([+-]\d\d):?(\d\d)$", "${1}${2}:${3}")
    )
    zoned = [
        iso.str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False).dt.epoch("s")
        for form in _ZONED
    ]
    date = _in_zone(iso.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")), tz)
    return pl.coalesce(*(_naive(iso, form, tz) for form in _NAIVE), *zoned, date)


def _naive(text: pl.Expr, form: str, tz: str) -> pl.Expr:
    return _in_zone(text.str.to_datetime(form, time_unit="us", strict=False), tz)


def _from_number(value: pl.Expr, given: pl.Expr, tz: str) -> pl.Expr:
    """given: whether a row says anything, be it a number or not."""
    digits = pl.when(value.is_between(_FIRST, _LAST)).then(value).cast(pl.Int64).cast(pl.String)
    day = digits.str.to_date("%Y%m%d", strict=False)
    small = value.is_between(0, SMALL) & day.is_null()
    counted = small.sum() > given.sum() / 2  # from a start of its own
    moment = _in_zone(day.cast(pl.Datetime("us")), tz)
    return (
        pl.when(~counted & day.is_not_null())
        .then(moment)
        .when(counted | ~small | (value == 0))
        .then(_by_size(value))
    )


def _by_size(value: pl.Expr) -> pl.Expr:
    size = value.abs()
    second = (
        pl.when(size < 1e11)
        .then(value)
        .when(size < 1e14)
        .then(value / 1e3)
        .when(size < 1e17)
        .then(value / 1e6)
        .otherwise(value / 1e9)
    )
    return second.floor().cast(pl.Int64, strict=False)


def _in_zone(value: pl.Expr, tz: str) -> pl.Expr:
    if tz == "UTC":
        return value.dt.epoch("s")
    local = value.dt.replace_time_zone(tz, ambiguous="earliest", non_existent="null")
    return local.dt.epoch("s")
