"""From readings and prices to one series per entity: what was said and paid in each window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from m6rec.arrays import Array, Ids
from m6rec.errors import DataError

HOUR = 3600
OPINION = ("opinion", "evidence", "documents", "attention")
MARKET = ("close", "return", "volatility", "volume")
READINGS = ("entity", "time", "source", "sentiment", "confidence", "spread")
PRICES = ("entity", "time", "close", "volume")
MOST = 20_000  # windows; more is a wrong unit of time


@dataclass(frozen=True, kw_only=True)
class Windows:
    """How readings become series.

    hours: length of a window; windows are aligned to 1970-01-01 00:00 UTC.
    half_life: hours after which a reading counts half, seen from the end of its window.
    sources: source → how much a reading of it counts; 1 for the others, 0 = not at all.
    """

    hours: float = 24.0
    half_life: float = 24.0
    sources: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("hours", "half_life"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} = {getattr(self, name)}: must be above 0")
        for source, weight in self.sources.items():
            if weight < 0:
                raise ValueError(f"sources.{source} = {weight}: must be 0 or more")


@dataclass(frozen=True, eq=False)
class Series:
    """entities: (E,) names. ends: (W,) unix seconds at which each window ends. values: measure →
    (E, W) float64, NaN where nothing was said or traded; see ``build`` for the measures."""

    entities: tuple[str, ...]
    ends: Ids
    values: Mapping[str, Array]

    def until(self, w: int) -> Series:
        """Return the first w windows."""
        return Series(self.entities, self.ends[:w], {n: v[:, :w] for n, v in self.values.items()})

    def frame(self) -> pl.DataFrame:
        """Return one row for each entity and window: entity, time (its end), the measures; null
        where there is nothing."""
        e, w = len(self.entities), len(self.ends)
        columns = {name: pl.Series(v.ravel()).fill_nan(None) for name, v in self.values.items()}
        entity = pl.Series(self.entities, dtype=pl.String).gather(np.repeat(np.arange(e), w))
        return pl.DataFrame({"entity": entity, "time": np.tile(self.ends, e), **columns})


def build(
    readings: pl.DataFrame,
    prices: pl.DataFrame | None = None,
    options: Windows | None = None,
    until: int | None = None,
) -> Series:
    """Return the series from the first window with a reading to the last, or to the last that
    ends by ``until`` (unix seconds); without readings, those of the prices.

    A reading weighs source × confidence × (1 + ln spread) × 0.5^(age / half_life), its age being
    that at the end of its window. Windows share no reading, so they are separate observations.

    opinion: Σ w s / Σ w, in [-1, 1]. evidence: (Σ w)² / Σ w², how many equal readings would say
    as much. documents: how many there are, 0 if none. attention: ln(1 + documents). close: the
    last price. return: ln of it over the last one known before. volatility: |return|. volume: ln
    of the sum. Only where prices are given are there the last four. Raises DataError for frames
    without the columns, and for times in a wrong unit.
    """
    options = options or Windows()
    _needs(readings, READINGS, "readings")
    seconds = round(options.hours * HOUR)
    market = prices if prices is not None and len(prices) else None
    if market is not None:
        _needs(market, PRICES, "prices")
    spanned = readings if len(readings) else market
    if spanned is None:
        raise DataError("opinion: no readings; name documents that mention a listed entity")
    times = spanned["time"].to_numpy()
    first, last = int(times.min()) // seconds, int(times.max()) // seconds
    if until is not None:
        last = min(last, until // seconds - 1)
    if last < first:
        raise DataError("opinion: no window has ended by then; the first reading is later")
    if last - first >= MOST:
        raise DataError(
            f"opinion: {last - first + 1:,} windows of {options.hours:g} hours, of which there may "
            f"be {MOST:,}; times must be unix seconds"
        )
    ends = np.arange(first + 1, last + 2, dtype=np.int64) * seconds
    names = set(readings["entity"].to_list())
    if market is not None:
        names |= set(market["entity"].to_list())
    entities = tuple(sorted(names))
    shape = (len(entities), len(ends))

    def cells(frame: pl.DataFrame) -> tuple[pl.DataFrame, Ids]:
        """Return the rows inside the windows, oldest first, and the cell of each."""
        window = frame["time"].to_numpy() // seconds - first
        frame = frame.filter(pl.Series((window >= 0) & (window < shape[1]))).sort("time")
        code = np.searchsorted(np.array(entities), frame["entity"].to_numpy().astype(str))
        return frame, code * shape[1] + frame["time"].to_numpy() // seconds - first

    values = _said(*cells(readings), shape, ends, options)
    if market is not None:
        values |= _paid(*cells(market), shape)
    return Series(entities, ends, values)


def weights(readings: pl.DataFrame, ends: Ids, options: Windows) -> Array:
    """Return what each reading weighs (N,) in the window that ends at its ``ends`` (N,)."""
    known = options.sources
    source = readings["source"].replace_strict(known, default=1.0, return_dtype=pl.Float64)
    age = (ends - readings["time"].to_numpy()) / HOUR
    spread = 1 + np.log(np.maximum(readings["spread"].to_numpy(), 1))
    weight: Array = source.to_numpy() * readings["confidence"].to_numpy() * spread
    weight *= 0.5 ** (age / options.half_life)
    return weight


def _said(
    readings: pl.DataFrame, cell: Ids, shape: tuple[int, int], ends: Ids, options: Windows
) -> dict[str, Array]:
    size = shape[0] * shape[1]
    w = weights(readings, ends[cell % shape[1]], options)
    total, square, count = (np.bincount(cell, v, size) for v in (w, w * w, w > 0))
    with np.errstate(invalid="ignore", divide="ignore"):
        opinion = np.bincount(cell, w * readings["sentiment"].to_numpy(), size) / total
        found = (opinion, total**2 / square, count, np.log1p(count))
    return {name: v.reshape(shape) for name, v in zip(OPINION, found, strict=True)}


def _paid(prices: pl.DataFrame, cell: Ids, shape: tuple[int, int]) -> dict[str, Array]:
    size = shape[0] * shape[1]
    close = np.full(size, np.nan)
    close[cell] = prices["close"].to_numpy()  # the last one of a cell stays
    close[~(close > 0)] = np.nan  # no price has a log
    close = close.reshape(shape)
    volume = np.bincount(cell, prices["volume"].to_numpy(), size).reshape(shape)
    with np.errstate(divide="ignore"):
        log = np.log(np.where(volume > 0, volume, np.nan))
    change = np.full(shape, np.nan)
    change[:, 1:] = np.log(close[:, 1:]) - np.log(carried(close)[:, :-1])
    found = (close, change, np.abs(change), log)
    return dict(zip(MARKET, found, strict=True))


def carried(values: Array) -> Array:
    """Return (E, W) with each gap filled by the last value before it; NaN before the first."""
    at = np.where(np.isnan(values), -1, np.arange(values.shape[1]))
    at = np.maximum.accumulate(at, axis=1)
    last: Array = np.take_along_axis(values, np.maximum(at, 0), axis=1)
    return np.where(at >= 0, last, np.nan)


def _needs(frame: pl.DataFrame, columns: tuple[str, ...], what: str) -> None:
    if missing := [name for name in columns if name not in frame.columns]:
        raise DataError(f"opinion: {what} have no column {missing[0]}; they need {columns}")
