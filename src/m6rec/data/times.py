"""Times of any usual form → unix seconds, UTC."""

from __future__ import annotations

import polars as pl

_ZONED = ("%Y-%m-%dT%H:%M:%S%.f%:z", "%Y-%m-%dT%H:%M%:z")
_NAIVE = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M")


def unix_seconds(column: str, dtype: pl.DataType, tz: str) -> pl.Expr:
    """Return an Int64 expression of unix seconds; null where the value is no time.

    Numbers are seconds, ms, µs or ns by their size. Text is a number, an ISO date or an ISO
    date and time with or without an offset. What has no zone is in ``tz``.
    """
    value = pl.col(column)
    if dtype.is_numeric():
        return _from_number(value)
    if dtype == pl.Date:
        return _in_zone(value.cast(pl.Datetime("us")), tz)
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone is not None:
            return value.dt.epoch("s")
        return _in_zone(value.cast(pl.Datetime("us")), tz)
    text = value.cast(pl.String).str.strip_chars()
    number = _from_number(text.cast(pl.Float64, strict=False))
    plain = _from_plain(pl.when(number.is_null()).then(text), tz)
    rest = pl.when(number.is_null() & plain.is_null()).then(text)  # so that few rows are slow
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


def _from_number(value: pl.Expr) -> pl.Expr:
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
