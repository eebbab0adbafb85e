"""Numbers with a decimal comma and dates such as 17.02.2025: read, and told from samples."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl

COMMA = r"^[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?$"  # 1.234,50
FORMS = tuple(
    f"{day}{clock}"
    for day in ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%d.%m.%y")
    for clock in (" %H:%M:%S", " %H:%M", "")
)


def pointed(text: pl.Expr, decimal: str) -> pl.Expr:
    """Return text of numbers with a decimal point; "1.234,5" is 1234.5 where ``decimal`` is ","."""
    if decimal == ".":
        return text
    whole = text.str.replace_all(".", "", literal=True)
    text = pl.when(text.str.contains(COMMA)).then(whole).otherwise(text)
    return text.str.replace(",", ".", literal=True)


def moments(text: pl.Expr, form: str) -> pl.Expr:
    """Return datetimes of text in a strftime form, in UTC where it has an offset; null where it
    does not fit."""
    zone = "UTC" if "z" in form.lower() else None
    return text.str.to_datetime(form, time_unit="us", time_zone=zone, strict=False)


def is_form(form: str) -> bool:
    """Whether a strftime form says a whole date."""
    moment = datetime(1987, 12, 31, 23, 58, 59, tzinfo=UTC)
    day = pl.Series([moment], dtype=pl.Datetime("us", "UTC"))
    try:
        text = day.dt.strftime(form).to_frame("text")
        found = text.select(moments(pl.col("text"), form)).to_series()[0]
    except pl.exceptions.PolarsError:
        return False
    return found is not None and (found.year, found.month, found.day) == (1987, 12, 31)


def commas(values: pl.Series) -> bool:
    """Whether most texts are numbers with a decimal comma; "1,234" alone does not say so."""
    given = _given(values)
    fits = given.str.contains(COMMA)
    sure = given.str.contains(r",(\d\d?|\d{4,})$")
    return len(given) > 0 and fits.sum() > len(given) / 2 and bool((fits & sure).any())


def forms(values: pl.Series) -> list[str]:
    """Return the forms of dates in which most texts are written; several where all fit alike."""
    given = _given(values).alias("text").to_frame()
    text = pl.col("text")
    fits = {form: moments(text, form).dt.year() >= 1900 for form in FORMS}  # 25 is no year
    reads = {form: int(given.select(fit.sum()).item()) for form, fit in fits.items()}
    most = max(reads.values())
    return [form for form, n in reads.items() if n == most] if most > len(given) / 2 else []


def _given(values: pl.Series) -> pl.Series:
    if values.dtype != pl.String:
        return pl.Series([], dtype=pl.String)
    return values.str.strip_chars().replace("", None).drop_nulls()
