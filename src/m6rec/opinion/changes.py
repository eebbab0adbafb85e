"""Change points of a series, and drift of a stream, each with the time when it could be known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from m6rec.arrays import Array
from m6rec.errors import ConfigError
from m6rec.opinion.series import Series

COLUMNS = {
    "entity": pl.String, "time": pl.Int64, "known": pl.Int64,
    "before": pl.Float64, "after": pl.Float64,
}  # fmt: skip
DRIFTS = {"entity": pl.String, "time": pl.Int64, "before": pl.Float64, "after": pl.Float64}
SIDE = 50  # readings whose means tell of a drift
NEEDED = 'changes: needs the package {}: pip install "m6rec[opinion]"'


@dataclass(frozen=True, kw_only=True)
class Changes:
    """How change points are found.

    measure: the series that is looked at.
    penalty: what a point must explain, in units of ln(windows) times the variance of the noise.
    least: windows with a value between two points.
    delta: chance of a false drift (ADWIN).
    """

    measure: str = "opinion"
    penalty: float = 4.0
    least: int = 4
    delta: float = 0.002

    def __post_init__(self) -> None:
        if self.penalty <= 0 or self.least < 2:
            raise ValueError(
                f"penalty = {self.penalty}, least = {self.least}: must be above 0, and at least 2"
            )


def changes(series: Series, options: Changes) -> pl.DataFrame:
    """Return the change points of each entity: entity, time (start of the first window after the
    change), known (end of the first window by which the search finds it), before, after (means).

    Points are where the mean of the series changes, by PELT (Killick et al. 2012, ruptures) on
    the windows with a value. A point is only known some windows later: nothing that acts on it
    may do so before ``known``.
    """
    rows = []
    step = int(np.diff(series.ends).min()) if len(series.ends) > 1 else 0
    for entity, x in zip(series.entities, series.values[options.measure], strict=True):
        at = np.flatnonzero(~np.isnan(x))
        for point, known, before, after in points(x[at], options):
            time = int(series.ends[at[point]]) - step
            rows.append((entity, time, int(series.ends[at[known]]), before, after))
    return pl.DataFrame(rows, schema=COLUMNS, orient="row")


def points(x: Array, options: Changes) -> list[tuple[int, int, float, float]]:
    """Return of x (n,) without gaps: first place after a change, place at which that is known,
    mean before, mean after."""
    found = _pelt(x, options)
    ends = [0, *found, len(x)]
    return [
        (
            point,
            _known(x, point, options),
            float(x[ends[i] : point].mean()),
            float(x[point : ends[i + 2]].mean()),
        )
        for i, point in enumerate(found)
    ]


def drifts(readings: pl.DataFrame, options: Changes) -> pl.DataFrame:
    """Return where the sentiment of an entity's readings drifts, reading by reading: entity, time
    (of the reading at which that is known), before, after (mean sentiment of as many as 50 readings
    on either side of it, as known then)."""
    rows = []
    stream = readings.sort("time").select("entity", "time", "sentiment")
    for (entity,), part in stream.group_by("entity", maintain_order=True):
        time, x = part["time"].to_list(), part["sentiment"].to_numpy()
        last = 0
        for place in drifted(x, options.delta):
            half = min(SIDE, max((place - last) // 2, 1))
            newest, before = x[place + 1 - half : place + 1], x[last : place + 1 - half][-SIDE:]
            if len(before):
                rows.append((entity, time[place], float(before.mean()), float(newest.mean())))
            last = place
    return pl.DataFrame(rows, schema=DRIFTS, orient="row").sort("time", "entity")


def drifted(x: Sequence[float] | Array, delta: float) -> list[int]:
    """Return the places of a stream at which ADWIN (Bifet & Gavaldà 2007, river) says that its
    distribution is another one; each is known when it is said."""
    try:
        from river.drift import ADWIN
    except ImportError:
        raise ConfigError(NEEDED.format("river")) from None
    detector: Any = ADWIN(delta=delta)  # type: ignore[no-untyped-call]
    found = []
    for place, value in enumerate(x):
        detector.update(float(value))
        if detector.drift_detected:
            found.append(place)
    return found


def _pelt(x: Array, options: Changes) -> list[int]:
    try:
        import ruptures
    except ImportError:
        raise ConfigError(NEEDED.format("ruptures")) from None
    n = len(x)
    x = x - x.mean() if n else x
    if n < 2 * options.least:
        return []
    noise = np.median(np.abs(np.diff(x))) / (0.6745 * np.sqrt(2))  # steps hardly touch a median
    noise = max(float(noise), 0.1 * float(x.std()), 1e-9)
    search = ruptures.KernelCPD(kernel="linear", min_size=options.least)
    cost = options.penalty * np.log(n)
    return [int(p) for p in search.fit((x / noise)[:, None]).predict(pen=cost)[:-1]]


def _known(x: Array, point: int, options: Changes) -> int:
    """Return the first place at which a search of what there was by then finds the point."""
    for place in range(point, len(x)):
        found = _pelt(x[: place + 1], options)
        if any(abs(each - point) < options.least for each in found):
            return place
    return len(x) - 1
