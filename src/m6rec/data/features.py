"""Attribute columns → float blocks, as the TOML declares them; fitted on train only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import polars as pl

from m6rec import config
from m6rec.arrays import Array, Floats, Mask
from m6rec.data.normalise import Kind, Normaliser
from m6rec.errors import ConfigError, DataError, suggestion

OTHER = "(other)"
GUESS_ROWS = 10_000


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """How one attribute column is used.

    kind: "categorical" = one column per value; "multi" = several values in a cell, a list or
        text with a separator; "numeric"; "text" = joins the item's text; "skip" = not used.
    separator: between the values of a "multi" cell.
    min_count: train rows below which a value counts as "(other)".
    max_categories: values kept, the most frequent first; the rest is "(other)".
    normalise: "none", "center", "zscore", "minmax", "log" (ln(1 + x), then zscore) or "quantile".
    impute: what stands for a missing number: the train mean, its median, or 0 after normalising.
    """

    kind: Literal["categorical", "multi", "numeric", "text", "skip"]
    separator: str = "|"
    min_count: int = 2
    max_categories: int = 64
    normalise: Kind = "zscore"
    impute: Literal["mean", "median", "zero"] = "mean"

    def __post_init__(self) -> None:
        if self.min_count < 1 or self.max_categories < 1:
            raise ValueError("min_count and max_categories must be at least 1")
        if not self.separator:
            raise ValueError('separator must not be empty; write separator = "|"')


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which block columns of the features are kept.

    min_variance: over the train rows. min_information: mutual information with the target on
    train, in nats.
    """

    min_variance: float = 0.0
    min_information: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Column:
    """A fitted column: its spec and what train said of it.

    categories: values with a column of their own; other: whether "(other)" has one, the last.
    normaliser, fill: of numeric columns; fill is in raw units, None = 0 after normalising.
    kept: (d,) mask of the columns that selection left, None = all.
    """

    name: str
    spec: FeatureSpec
    categories: tuple[str, ...] = ()
    other: bool = False
    normaliser: Normaliser | None = None
    fill: float | None = None
    kept: tuple[bool, ...] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each block column, such as "genres=Comedy"."""
        if self.normaliser is not None:
            every: tuple[str, ...] = (self.name,)
        else:
            values = (*self.categories, OTHER) if self.other else self.categories
            every = tuple(f"{self.name}={value}" for value in values)
        if self.kept is None:
            return every
        return tuple(name for name, kept in zip(every, self.kept, strict=True) if kept)

    def apply(self, series: pl.Series) -> Floats:
        """Return the (n, d) float32 block; a missing value is zeros (numbers: imputed)."""
        if self.normaliser is not None:
            x = numbers(series)
            if self.fill is not None:
                x = np.where(np.isnan(x), self.fill, x)
            block = np.nan_to_num(self.normaliser.apply(x)).astype(np.float32)[:, None]
        else:
            row, value = cell_values(series, self.spec)
            known = value.cast(pl.Enum(self.categories), strict=False).to_physical()
            code = known.cast(pl.Int64).fill_null(len(self.categories)).to_numpy()
            block = np.zeros((len(series), len(self.categories) + 1), np.float32)
            block[row, code] = 1.0
            block = block if self.other else block[:, :-1]
        return block if self.kept is None else block[:, np.array(self.kept, np.bool_)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """The fitted columns of a users or items table."""

    columns: tuple[Column, ...] = ()
    text_columns: tuple[str, ...] = ()
    guessed: Mapping[str, FeatureSpec] = field(default_factory=dict)

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """Block name → the name of each of its columns."""
        return {column.name: column.names for column in self.columns}

    @property
    def separators(self) -> dict[str, str]:
        """Column → what stands between several values in one text of it."""
        return {column.name: column.spec.separator for column in self.columns}

    def apply(self, frame: pl.DataFrame) -> dict[str, Floats]:
        """Return block name → (n, d) float32 for the rows of a frame.

        Raises DataError where a fitted column is missing.
        """
        self._check(frame, [column.name for column in self.columns])
        blocks = {column.name: column.apply(frame[column.name]) for column in self.columns}
        return {name: block for name, block in blocks.items() if block.shape[1]}

    def text(self, frame: pl.DataFrame) -> tuple[str, ...] | None:
        """Return the text of each row, its text columns joined; None without text columns."""
        if not self.text_columns:
            return None
        self._check(frame, self.text_columns)
        parts = [pl.col(name).cast(pl.String) for name in self.text_columns]
        joined = frame.select(pl.concat_str(parts, separator=" ", ignore_nulls=True))
        return tuple(joined.to_series().str.strip_chars().fill_null("").to_list())

    def select(self, kept: Mapping[str, Mask]) -> Features:
        """Return the features with only the block columns of these masks; see ``select.py``."""
        return replace(
            self,
            columns=tuple(
                replace(c, kept=_within(c.kept, kept[c.name])) if c.name in kept else c
                for c in self.columns
            ),
        )

    def state(self) -> dict[str, Any]:
        """Return the fitted state as plain JSON values; ``Features.restore`` reads it."""
        return {
            "columns": [_column_state(column) for column in self.columns],
            "text": list(self.text_columns),
            "guessed": {name: config.to_table(spec) for name, spec in self.guessed.items()},
        }

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Features:
        """Return the features whose ``state()`` this was."""
        return cls(
            columns=tuple(_column_restored(table) for table in state["columns"]),
            text_columns=tuple(state["text"]),
            guessed={n: config.from_table(FeatureSpec, t) for n, t in state["guessed"].items()},
        )

    @staticmethod
    def _check(frame: pl.DataFrame, names: Sequence[str]) -> None:
        for name in names:
            if name not in frame.columns:
                raise DataError(
                    f'the table has no column "{name}", which the features were fitted on'
                    f"{suggestion(name, frame.columns)}"
                )


def fit(
    frame: pl.DataFrame,
    specs: Mapping[str, FeatureSpec] | None = None,
    rows: Array | None = None,
) -> Features:
    """Fit the columns of a table on its train rows (mask or indices; None = all).

    The frame has one row per code of its vocabulary and no key column. Columns without a spec
    are guessed (``guess``); ``Features.guessed`` says how. Raises ConfigError for a spec without
    a column, DataError where a numeric column holds no number.
    """
    specs = dict(specs or {})
    for name in specs:
        if name not in frame.columns:
            raise ConfigError(
                f'features.{name}: the table has no column "{name}"'
                f"{suggestion(name, frame.columns)}"
            )
    train = frame if rows is None else frame[np.arange(len(frame))[rows]]
    guessed = {name: guess(train[name]) for name in frame.columns if name not in specs}
    specs |= guessed
    named = [(name, specs[name]) for name in frame.columns]
    fitted = [
        _fit_column(name, spec, train[name])
        for name, spec in named
        if spec.kind not in ("text", "skip")
    ]
    return Features(
        columns=tuple(column for column in fitted if column.names),
        text_columns=tuple(name for name, spec in named if spec.kind == "text"),
        guessed=guessed,
    )


def guess(series: pl.Series) -> FeatureSpec:
    """Guess how a column is best used, from its type and first values."""
    dtype, values = series.dtype, series.drop_nulls().head(GUESS_ROWS)
    if dtype == pl.String:
        values = values.str.strip_chars().replace("", None).drop_nulls()
    if len(values) == 0:
        return FeatureSpec(kind="skip")
    if isinstance(dtype, (pl.List, pl.Array)):
        return FeatureSpec(kind="multi")
    if dtype == pl.Boolean or isinstance(dtype, (pl.Categorical, pl.Enum)):
        return FeatureSpec(kind="categorical")
    distinct = values.n_unique()
    code = series.name.lower().endswith(("id", "key", "zip", "zip_code", "zipcode"))
    if dtype.is_numeric() or dtype.is_temporal():
        unlike = distinct < 2 or (code and dtype.is_integer())
        return FeatureSpec(kind="skip" if unlike else "numeric")
    if dtype != pl.String:
        return FeatureSpec(kind="skip")
    if distinct < 2 or values.str.contains(r"^https?://").mean() > 0.5:  # type: ignore[operator]
        return FeatureSpec(kind="skip")
    if values.cast(pl.Float64, strict=False).null_count() == 0:
        return FeatureSpec(kind="skip" if code else "numeric")
    for separator in ("|", ";", ","):
        share = values.str.contains(separator, literal=True).mean()
        parts = values.str.split(separator).explode(empty_as_null=True).str.strip_chars()
        if share > 0.2 and parts.n_unique() < 0.2 * len(parts) + 10:  # type: ignore[operator]
            return FeatureSpec(kind="multi", separator=separator)
    if distinct <= max(20, 0.2 * len(values)) and distinct <= 0.5 * len(values):
        return FeatureSpec(kind="categorical")
    wordy = values.str.contains(r"\s|[\u3040-\u30ff\u3400-\u9fff]").mean()
    return FeatureSpec(kind="text" if wordy > 0.3 else "skip")  # type: ignore[operator]


def _fit_column(name: str, spec: FeatureSpec, series: pl.Series) -> Column:
    if spec.kind == "numeric":
        x = numbers(series)
        known = x[~np.isnan(x)]
        if len(known) == 0:
            raise DataError(
                f'column "{name}" holds no number; write kind = "categorical" or "skip" '
                f"under [features.{name}]"
            )
        fill = {"mean": known.mean(), "median": np.median(known), "zero": None}[spec.impute]
        normaliser = Normaliser.fit(x, spec.normalise)
        return Column(
            name=name,
            spec=spec,
            normaliser=normaliser,
            fill=None if fill is None else float(fill),
        )
    value = cell_values(series, spec)[1]
    counts = value.alias("value").value_counts().sort(["count", "value"], descending=[True, False])
    kept = counts.filter(pl.col("count") >= spec.min_count).head(spec.max_categories)
    return Column(
        name=name,
        spec=spec,
        categories=tuple(kept["value"].to_list()),
        other=len(kept) < len(counts),
    )


def numbers(series: pl.Series) -> Array:
    """(n,) float64; NaN where missing or not a number. Times become days since 1970."""
    if series.dtype.is_temporal():
        series = series.cast(pl.Datetime("ms"), strict=False).dt.epoch("ms") / 86_400_000
    if series.dtype == pl.String:
        series = series.str.strip_chars()
    x = series.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
    return np.where(np.isfinite(x), x, np.nan)


def cell_values(series: pl.Series, spec: FeatureSpec) -> tuple[Array, pl.Series]:
    """The row and text of every value in a categorical or multi column, empty ones left out."""
    if spec.kind == "multi" and not isinstance(series.dtype, (pl.List, pl.Array)):
        series = series.cast(pl.String).str.split(spec.separator)
    table = pl.DataFrame({"value": series}).with_row_index("row")
    if spec.kind == "multi":
        table = table.explode("value")
    text = pl.col("value").cast(pl.String).str.strip_chars()
    table = table.with_columns(text).filter(pl.col("value").is_not_null(), pl.col("value") != "")
    return table["row"].to_numpy(), table["value"]


def _within(before: tuple[bool, ...] | None, kept: Mask) -> tuple[bool, ...]:
    if before is None:
        return tuple(bool(k) for k in kept)
    left = iter(kept.tolist())
    return tuple(was and bool(next(left)) for was in before)


def _column_state(column: Column) -> dict[str, Any]:
    table: dict[str, Any] = {"name": column.name, "spec": config.to_table(column.spec)}
    if column.normaliser is not None:
        table["normaliser"] = {n: a.tolist() for n, a in column.normaliser.state().items()}
        table["fill"] = column.fill
    else:
        table |= {"categories": list(column.categories), "other": column.other}
    if column.kept is not None:
        table["kept"] = list(column.kept)
    return table


def _column_restored(table: Mapping[str, Any]) -> Column:
    spec = config.from_table(FeatureSpec, table["spec"])
    normaliser = None
    if "normaliser" in table:
        arrays = {n: np.array(a, np.float64) for n, a in table["normaliser"].items()}
        normaliser = Normaliser.restore(spec.normalise, arrays)
    return Column(
        name=table["name"],
        spec=spec,
        categories=tuple(table.get("categories", ())),
        other=bool(table.get("other", False)),
        normaliser=normaliser,
        fill=table.get("fill"),
        kept=tuple(table["kept"]) if "kept" in table else None,
    )
