"""Item, user and link tables → one frame each, with keys, texts and raw attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from m6rec.data.columns import missing, resolve, texts
from m6rec.data.delimited import ROW
from m6rec.data.derived import DERIVED
from m6rec.data.drops import SAMPLES, Drops
from m6rec.data.events import key
from m6rec.data.features import FeatureSpec
from m6rec.data.notation import moments, pointed
from m6rec.data.readers import first_line
from m6rec.data.schema import DataConfig, DomainFrom, Role, Table
from m6rec.errors import DataError

TRUE = ("true", "1", "yes", "y", "t")
RESERVED = (  # of the frames made here, and the derived block
    "key", "domain", "user", "item", "title", "text", "hidden", DERIVED
)  # fmt: skip
Loaded = tuple[Table, pl.LazyFrame]


def load_items(tables: Sequence[Loaded], config: DataConfig, drops: Drops) -> pl.DataFrame:
    """Return item (raw key), domain (null = not said), title, text, hidden, raw attributes.

    text: all text columns joined; title: the first of them.
    """
    frames = []
    for table, lazy in tables:
        frame, columns = _read(table, lazy, config, "items", drops)
        names = [name for name in frame.columns if name != ROW]
        asked = table.columns.text or config.columns.text
        free = [name for name in names if asked or name not in config.features.items]
        words = texts(free, table.columns, config.columns, table.name)
        joined = [_joined(frame, name) for name in words]
        text = pl.concat_str(joined, separator=" ", ignore_nulls=True) if words else pl.lit("")
        hidden = pl.lit(False)
        if "hidden" in columns:
            flag = pl.col(columns["hidden"]).cast(pl.String).str.to_lowercase()
            hidden = flag.is_in(TRUE).fill_null(False)
        domain = _domain(table, frame, columns.get("domain"), config)
        if table.domain == "" and config.domain_from is not None:
            domain = _from_groups(table, frame, config.domain_from)
        made = frame.select(
            _key(frame, columns["item"]).alias("item"),
            domain.alias("domain"),
            (joined[0] if words else pl.lit(None, pl.String)).alias("title"),
            text.fill_null("").alias("text"),
            hidden.alias("hidden"),
        )
        taken = {*columns.values(), *words}
        frames.append(
            pl.concat(
                [made, _attributes(frame, taken, table, config.features.items)], how="horizontal"
            )
        )
    if not frames:
        schema = dict.fromkeys(("item", "domain", "title", "text"), pl.String)
        return pl.DataFrame(schema={**schema, "hidden": pl.Boolean})
    items = pl.concat(frames, how="diagonal_relaxed")
    if config.domain_from is not None:
        lost = items.filter(pl.col("domain").is_null())
        name = ", ".join(table.name for table, _ in tables)
        reason = f"no {config.domain_from.column} in a group of domain_from"
        samples = lost.select("item").head(SAMPLES).to_dicts()
        drops.add("domain", name, reason, lost.height, samples)
        items = items.filter(pl.col("domain").is_not_null())
    return _last(items, ["item", "domain"], "items", drops)


def load_users(tables: Sequence[Loaded], config: DataConfig, drops: Drops) -> pl.DataFrame:
    """Return user (raw key), domain (null = shared) and the raw attributes."""
    frames = []
    for table, lazy in tables:
        frame, columns = _read(table, lazy, config, "users", drops)
        domain = _domain(table, frame, columns.get("domain"), config)
        made = frame.select(_key(frame, columns["user"]).alias("user"), domain.alias("domain"))
        rest = _attributes(frame, set(columns.values()), table, config.features.users)
        frames.append(pl.concat([made, rest], how="horizontal"))
    if not frames:
        return pl.DataFrame(schema={"user": pl.String, "domain": pl.String})
    return _last(pl.concat(frames, how="diagonal_relaxed"), ["user", "domain"], "users", drops)


def load_links(tables: Sequence[Loaded], config: DataConfig, drops: Drops) -> pl.DataFrame:
    """Return distinct (domain, user) → person."""
    frames = [pl.DataFrame(schema=dict.fromkeys(("domain", "user", "person"), pl.String))]
    for table, lazy in tables:
        frame, columns = _read(table, lazy, config, "links", drops)
        parts = [_key(frame, columns[p]).alias(p) for p in ("domain", "user", "person")]
        frames.append(frame.select(parts).drop_nulls())
    return _last(pl.concat(frames), ["domain", "user"], "links", drops)


def _read(
    table: Table, lazy: pl.LazyFrame, config: DataConfig, role: Role, drops: Drops
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Collect a table, report and drop rows without a key."""
    try:
        frame = lazy.collect()
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{table.name}: cannot be read: {first_line(error)}") from None
    names = [name for name in frame.columns if name != ROW]
    columns = resolve(names, table.columns, config.columns, role, table.name)
    drops.read[table.name] = drops.read.get(table.name, 0) + frame.height
    part = "item" if role == "items" else "user"
    empty = frame.select(_key(frame, columns[part]).is_null()).to_series()
    if empty.any():
        rows = frame.filter(empty).head(SAMPLES).iter_rows(named=True)
        samples = [{"row": row.pop(ROW), **row} for row in rows]
        drops.bad("missing", table.name, f"no {part}", int(empty.sum()), samples)
        frame = frame.filter(~empty)
    if not frame.height:
        raise DataError(f"{table.name}: no usable row")
    return frame, columns


def _key(frame: pl.DataFrame, column: str) -> pl.Expr:
    return key(column, frame.schema[column])


def _joined(frame: pl.DataFrame, column: str) -> pl.Expr:
    """A column as text; the words of a list are joined."""
    value = pl.col(column)
    if isinstance(frame.schema[column], pl.List):
        value = value.cast(pl.List(pl.String)).list.join(" ")
    text = value.cast(pl.String).str.strip_chars()
    return pl.when(text != "").then(text)


def _domain(table: Table, frame: pl.DataFrame, column: str | None, config: DataConfig) -> pl.Expr:
    if table.domain:
        return pl.lit(table.domain)
    if column is not None:
        return _key(frame, column)
    return pl.lit(None, pl.String)


def _from_groups(table: Table, frame: pl.DataFrame, rule: DomainFrom) -> pl.Expr:
    """The first declared group that holds one of the item's values."""
    if rule.column not in frame.columns:
        names = [name for name in frame.columns if name != ROW]
        raise missing(table.name, "domain_from", rule.column, names)
    value = pl.col(rule.column)
    if not isinstance(frame.schema[rule.column], pl.List):
        value = value.cast(pl.String).str.split("|")
    chosen = [
        pl.when(value.list.eval(pl.element().is_in(list(group))).list.any()).then(pl.lit(name))
        for name, group in rule.groups.items()
    ]
    return pl.coalesce(*chosen, pl.lit(rule.other or None, pl.String))


def _attributes(
    frame: pl.DataFrame, taken: set[str], table: Table, specs: Mapping[str, FeatureSpec]
) -> pl.DataFrame:
    """The other columns; text that is all numbers, or is said to be, becomes numbers."""
    rest = frame.drop(ROW, *taken)
    rest = rest.rename({name: f"{name}_" for name in rest.columns if name in RESERVED})
    numeric = {name for name, spec in specs.items() if spec.kind == "numeric"}
    return rest.with_columns(
        typed(column, table, column.name in numeric) for column in rest if column.dtype == pl.String
    )


def typed(text: pl.Series, table: Table, numeric: bool = False) -> pl.Series:
    """Return text that is all numbers as numbers, that is all times in the table's form as times.

    A code with leading zeros stays text. numeric: it is numbers; what is none is missing.
    """
    name = text.name
    filled = text.str.strip_chars().replace("", None)
    if table.time_format and not numeric:
        moment = filled.to_frame().select(moments(pl.col(name), table.time_format)).to_series()
        if moment.null_count() == filled.null_count() < len(text):
            return moment
    filled = filled.to_frame().select(pointed(pl.col(name), table.decimal).alias(name)).to_series()
    number = filled.cast(pl.Float64, strict=False)
    if numeric and number.null_count() < len(number):
        return number
    if number.null_count() > filled.null_count() or number.null_count() == len(number):
        return text
    if filled.str.contains(r"^0\d").any():
        return text
    whole = filled.cast(pl.Int64, strict=False)
    return whole if whole.null_count() == number.null_count() else number


def _last(frame: pl.DataFrame, keys: list[str], name: str, drops: Drops) -> pl.DataFrame:
    kept = frame.unique(keys, keep="last", maintain_order=True)
    if lost := frame.height - kept.height:
        again = frame.filter(frame.select(keys).is_duplicated())
        samples = again.select(keys).unique(maintain_order=True).head(SAMPLES).to_dicts()
        reason = f"{' and '.join(keys)} given more than once; the last row counts"
        drops.add("duplicates", name, reason, lost, samples)
    return kept
