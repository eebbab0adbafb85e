"""Interaction tables → typed event columns with integer key codes; bad rows are reported."""

from __future__ import annotations

import time as clock
from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from m6rec.data.columns import resolve
from m6rec.data.delimited import ROW
from m6rec.data.drops import SAMPLES, Drop, Drops
from m6rec.data.notation import commas, forms, pointed
from m6rec.data.readers import first_line
from m6rec.data.schema import DataConfig, Table
from m6rec.data.times import SMALL, unix_seconds
from m6rec.errors import DataError, written

DEFAULT_EVENT = "event"
DAY = 86_400
PARTS = ("user", "item", "event", "domain")
_UNPARSED = -(2**62)  # a time that could not be read


class Codes:
    """Raw keys ↔ codes, shared by all tables of one load; codes follow no order."""

    def __init__(self) -> None:
        self.types = {part: pl.Categorical(pl.Categories.random()) for part in PARTS}
        # polars forgets the keys of a Categories that no series uses
        self._alive = [pl.Series([], dtype=dtype) for dtype in self.types.values()]

    def names(self, part: str) -> pl.Series:
        """Return the raw keys of a part, by code."""
        series: pl.Series = self.types[part].categories.to_series().cast(pl.String)
        return series

    def expr(self, part: str, text: pl.Expr) -> pl.Expr:
        """Return the UInt32 codes of a string expression, new keys added; null stays null."""
        return text.cast(self.types[part]).to_physical().alias(part)

    def trim(self, part: str, column: pl.Series) -> pl.Series:
        """Return codes with the blanks around their keys taken off; an empty key is null.

        Works on the distinct keys, so that the rows need not be trimmed one by one.
        """
        names = self.names(part)
        trimmed = names.str.strip_chars()
        if (trimmed == names).all() and not (trimmed == "").any():
            return column
        same = self.encode(part, trimmed.replace("", None))
        return same.gather(column).alias(part)

    def encode(self, part: str, keys: pl.Series) -> pl.Series:
        """Return the UInt32 codes of string keys, new ones added; null stays null."""
        return keys.cast(self.types[part]).to_physical()


def key(column: str, dtype: pl.DataType) -> pl.Expr:
    """Return an expression of a column as trimmed string keys; empty ones are null."""
    text = _text(column, dtype).str.strip_chars()
    return pl.when(text != "").then(text)


def _text(column: str, dtype: pl.DataType) -> pl.Expr:
    """A column as text; 12.0 is "12", as pandas makes floats of numbers with gaps."""
    value = pl.col(column)
    if dtype.is_float():
        whole = value.cast(pl.Int64, strict=False)
        other = pl.when(value.is_not_nan()).then(value.cast(pl.String))
        return pl.when(whole == value).then(whole.cast(pl.String)).otherwise(other)
    return value.cast(pl.String)


def single_domain(config: DataConfig, table: Table) -> str:
    """Return the domain of a table that names none; raises DataError where that is unclear."""
    if len(config.domains) > 1:
        raise DataError(
            f'{table.name}: which domain are its rows in? Say domain = "…" '
            f"({', '.join(config.domains)}) beside its path, or columns.domain"
        )
    return next(iter(config.domains), "items")


def load(
    table: Table,
    frame: pl.LazyFrame,
    config: DataConfig,
    codes: Codes,
    item_domain: pl.DataFrame | None,
    drops: Drops,
) -> pl.DataFrame:
    """Return the good rows of a table: user, item, event, domain (UInt32), value?, time (Int64).

    item_domain: (item, domain) codes for logs that do not name the domain, or None. Values
    are absent where there is no such column, null where a cell is empty; times are -1 where
    unknown. Raises DataError where no row is usable.
    """
    good, untimed = good_rows(table, frame, config, codes, item_domain, drops)
    if not good.height:
        raise unusable(table, config, drops)
    note_untimed(table.name, untimed, drops)
    return good.drop(ROW)


def unusable(table: Table, config: DataConfig, drops: Drops) -> DataError:
    """Return the error of a table without a usable row: a row of each reason, and what to do."""
    found = [drop for drop in drops.entries if drop.table == table.name]
    rows = [row for drop in found if drop.step != "malformed" for row in drop.samples]
    names = [name for name in rows[0] if name != "row"] if rows else []
    parts = (
        resolve(names, table.columns, config.columns, "interactions", table.name) if rows else {}
    )
    said = "; ".join(_example(drop, parts) for drop in found)
    mend = " and ".join(_remedies(rows, parts, table))
    return DataError(
        f"{table.name}: no usable row"
        + (f" ({said})" if said else "")
        + (f"; say {mend} beside its path" if mend else "")
    )


def _example(drop: Drop, parts: dict[str, str]) -> str:
    """The first row of a reason, with the value that it is about."""
    row = drop.samples[0] if drop.samples else {}
    part, _, rest = drop.reason.partition(" ")
    if parts.get(part, "") in row:
        return f"row {row['row']}: {part} {written(row[parts[part]])} {rest}"
    return f"row {row.get('row', '?')}: {drop.reason}"


def _remedies(
    rows: Sequence[Mapping[str, object]], parts: dict[str, str], table: Table
) -> Iterator[str]:
    """The options that read the values and times of these rows."""
    texts = {
        part: pl.Series([str(row[parts[part]]) for row in rows if row[parts[part]] is not None])
        for part in ("value", "time")
        if part in parts
    }
    if "value" in texts and table.decimal == "." and commas(texts["value"]):
        yield 'decimal = ","'
    if "time" in texts and not table.time_format and (fits := forms(texts["time"])):
        yield "time_format = " + " or ".join(f'"{form}"' for form in fits)


def note_untimed(name: str, rows: int, drops: Drops) -> None:
    """Note that rows of a table that has times have none."""
    if rows:
        drops.note(f"{name}: {rows} rows have no time and count as the oldest")


def good_rows(
    table: Table,
    frame: pl.LazyFrame,
    config: DataConfig,
    codes: Codes,
    item_domain: pl.DataFrame | None,
    drops: Drops,
) -> tuple[pl.DataFrame, int]:
    """Return the good rows of a table, or of some rows of it, as of ``load`` and with their
    ``ROW``; and how many have no time, though there is a column of times."""
    schema = frame.collect_schema()
    columns = resolve(
        [name for name in schema if name != ROW],
        table.columns,
        config.columns,
        "interactions",
        table.name,
    )
    if table.event:
        columns.pop("event", None)
    if table.domain:
        columns.pop("domain", None)
    raw = _select(frame, schema, columns, table, config.tz, codes)
    drops.read[table.name] = drops.read.get(table.name, 0) + raw.height
    if "time" in columns and raw["time"].is_between(1, SMALL).sum() > raw.height / 2:
        drops.note(
            f"{table.name}: most times are before 1973: small numbers count as seconds from a "
            'start of their own; write years and days as dates, such as "2024-05-31"'
        )
    if "event" not in columns:
        raw = raw.with_columns(_constant("event", table.event or DEFAULT_EVENT, codes))
    if "domain" not in columns:
        if not table.domain and item_domain is not None:
            raw = raw.join(item_domain, on="item", how="left", maintain_order="left")
        else:
            name = table.domain or single_domain(config, table)
            raw = raw.with_columns(_constant("domain", name, codes))
    good = _check(raw, table, frame, config, codes, drops)
    if "time" in good.columns:
        return good, int((good["time"] == -1).sum())
    return good.with_columns(time=pl.lit(-1, pl.Int64)), 0


def _constant(part: str, name: str, codes: Codes) -> pl.Expr:
    return pl.lit(codes.encode(part, pl.Series([name]))[0], pl.UInt32).alias(part)


def _select(
    frame: pl.LazyFrame,
    schema: pl.Schema,
    columns: dict[str, str],
    table: Table,
    tz: str,
    codes: Codes,
) -> pl.DataFrame:
    """Parse and encode in one streaming pass; a value that is no number becomes NaN."""
    parsed = [pl.col(ROW)]
    for part in PARTS:
        if part in columns:
            parsed.append(codes.expr(part, _text(columns[part], schema[columns[part]])))
    if "value" in columns:
        raw = pointed(key(columns["value"], schema[columns["value"]]), table.decimal)
        if schema[columns["value"]].is_numeric():
            raw = pl.col(columns["value"])
        number = raw.cast(pl.Float32, strict=False)
        parsed.append(
            pl.when(raw.is_not_null() & number.is_null())
            .then(float("nan"))
            .otherwise(number)
            .cast(pl.Float32)
            .alias("value")
        )
    if "time" in columns:
        second = unix_seconds(columns["time"], schema[columns["time"]], tz, table.time_format)
        given = key(columns["time"], pl.String()).is_not_null()
        if schema[columns["time"]] != pl.String:
            given = pl.col(columns["time"]).is_not_null()
        parsed.append(pl.when(given).then(second.fill_null(_UNPARSED)).otherwise(-1).alias("time"))
    try:
        coded: pl.DataFrame = frame.select(parsed).collect(engine="streaming")
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{table.name}: cannot be read: {first_line(error)}") from None
    return coded.with_columns(codes.trim(part, coded[part]) for part in PARTS if part in columns)


def _check(
    raw: pl.DataFrame,
    table: Table,
    source: pl.LazyFrame,
    config: DataConfig,
    codes: Codes,
    drops: Drops,
) -> pl.DataFrame:
    """Drop and report rows with missing keys or impossible values and times."""
    clean, name = config.clean, table.name
    tests: list[tuple[str, str, pl.Expr]] = [
        ("missing", "no user", pl.col("user").is_null()),
        ("missing", "no item", pl.col("item").is_null()),
        ("missing", "no domain", pl.col("domain").is_null()),
        ("missing", "no event type", pl.col("event").is_null()),
    ]
    if config.events:
        declared = codes.encode("event", pl.Series([*config.events, DEFAULT_EVENT]))
        unknown = ~pl.col("event").is_in(declared.implode())
        tests.append(("missing", "event type not declared in [data.events]", unknown))
    explicit = codes.encode("domain", _explicit(codes.names("domain"), config))
    rated = pl.col("domain").is_in(explicit.implode())
    if "value" in raw.columns:
        value = pl.col("value")
        tests += [
            ("missing", "no rating", rated & value.is_null()),
            ("impossible", "value is not a finite number", ~value.is_finite()),
            ("impossible", "value is not above 0 (implicit feedback)", ~rated & (value <= 0)),
        ]
        if clean.min_value is not None:
            tests.append(
                ("impossible", f"value below {clean.min_value:g}", value < clean.min_value)
            )
        if clean.max_value is not None:
            tests.append(
                ("impossible", f"value above {clean.max_value:g}", value > clean.max_value)
            )
    elif raw.select(rated.any()).item():
        raise DataError(
            f"{name}: holds rows of an explicit domain but no rating; "
            'say columns.value = "…", or feedback = "implicit"'
        )
    if "time" in raw.columns:
        time = pl.col("time")
        first, last = _limit(clean.min_time, config.tz, 0), _limit(clean.max_time, config.tz, None)
        future = int(clock.time()) + DAY
        tests += [
            ("impossible", "time is not a date or unix time", time == _UNPARSED),
            ("impossible", "time before 1970", time < -1),
            ("impossible", "time in the future", time > future),
        ]
        if clean.min_time:
            tests.append(("impossible", f"before {clean.min_time}", (time >= 0) & (time < first)))
        if last is not None:
            tests.append(("impossible", f"after {clean.max_time}", time > last))
    reason = pl.coalesce(
        *(pl.when(test).then(pl.lit(i, pl.Int8)) for i, (_, _, test) in enumerate(tests))
    )
    bad = raw.select(ROW, reason.alias("reason")).filter(pl.col("reason").is_not_null())
    if bad.height:
        _report(bad, tests, name, source, drops)
        raw = raw.filter(reason.is_null())
    return raw


def _explicit(domains: pl.Series, config: DataConfig) -> pl.Series:
    options = {name: config.domains.get(name) for name in domains}
    feedback = {name: (o and o.feedback) or config.feedback for name, o in options.items()}
    return domains.filter(pl.Series([feedback[name] == "explicit" for name in domains]))


def _limit(date: str | None, tz: str, default: int | None) -> int | None:
    if date is None:
        return default
    second = pl.DataFrame({"t": [date]}).select(unix_seconds("t", pl.String(), tz)).item()
    if second is None:
        raise DataError(f'clean: "{date}" is not an ISO date; write it as "2024-05-31"')
    return int(second)


def _report(
    bad: pl.DataFrame,
    tests: list[tuple[str, str, pl.Expr]],
    name: str,
    source: pl.LazyFrame,
    drops: Drops,
) -> None:
    for code, group in bad.group_by("reason", maintain_order=True):
        step, reason, _ = tests[int(code[0])]
        few = group[ROW].head(SAMPLES)
        rows = source.filter(pl.col(ROW).is_in(few.implode())).head(SAMPLES).collect()
        samples = [{"row": r.pop(ROW), **r} for r in rows.iter_rows(named=True)]
        drops.bad(step, name, reason, group.height, samples)
