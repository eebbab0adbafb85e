"""One straight page: readings and prices in; series, changes, forecast and alerts out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from m6rec.arrays import Array, Ids
from m6rec.errors import ConfigError, DataError, suggestion
from m6rec.opinion import changes as change_points
from m6rec.opinion import forecast as forecasting
from m6rec.opinion.alerts import Rule, alerts
from m6rec.opinion.changes import Changes
from m6rec.opinion.delivery import Delivering
from m6rec.opinion.events import Event, event
from m6rec.opinion.forecast import Forecaster, Forecasting
from m6rec.opinion.series import MARKET, OPINION, Series, Windows, build
from m6rec.tracking import Run

if TYPE_CHECKING:
    from m6rec.store.records import Alert as Kept

LIMITS = {"opinion": (-1, 1), "attention": (0, np.inf), "volatility": (0, np.inf)}
FORECAST = {
    "entity": pl.String, "measure": pl.String, "time": pl.Int64, "last": pl.Float64,
    "forecast": pl.Float64, "low": pl.Float64, "high": pl.Float64,
}  # fmt: skip
RULES = (
    Rule(name="opinion changed", kind="change"),
    Rule(name="much is written", kind="spike", measure="attention", severity="info"),
)


@dataclass(frozen=True, kw_only=True)
class Watching:
    """What is made of the readings.

    rules: what raises an alert; a change of opinion, and a spike of documents, if left out.
    measures: series that are forecast; those of a market only where there are prices.
    """

    windows: Windows = field(default_factory=Windows)
    changes: Changes = field(default_factory=Changes)
    forecast: Forecasting = field(default_factory=Forecasting)
    rules: tuple[Rule, ...] = RULES
    delivery: Delivering = field(default_factory=Delivering)
    measures: tuple[str, ...] = ("opinion", "attention", "return", "volatility", "volume")


@dataclass(frozen=True, eq=False)
class Report:
    """What was found.

    series: see ``series.build``. changes, drifts: see ``changes``. forecast: of the next window:
    entity, measure, time (its end), last, forecast, low, high. models: measure → what it was
    forecast with. events: alerts, the newest first, with what drove them. notes: what could not
    be done.
    """

    series: Series
    changes: pl.DataFrame
    drifts: pl.DataFrame
    forecast: pl.DataFrame
    models: Mapping[str, Forecaster]
    events: Sequence[Event]
    notes: Sequence[str]

    def records(self) -> list[Kept]:
        """Return the alerts as the store keeps them."""
        return [record(event) for event in self.events]


def watch(
    readings: pl.DataFrame,
    prices: pl.DataFrame | None = None,
    options: Watching | None = None,
    *,
    documents: pl.DataFrame | None = None,
    models: Mapping[str, Forecaster] | None = None,
    since: int = 0,
    until: int | None = None,
    run: Run | None = None,
) -> Report:
    """Watch readings and prices (see ``series.build``) as of ``until``, or of the last window.

    documents: document, title, text, for what drove an alert. models: what ``train`` fitted on
    these entities; fitted here if left out. since: alerts of windows that ended by then are left
    out. Nothing after a window has a part in its alerts.
    """
    options, run = options or Watching(), run or Run()
    series = build(readings, prices, options.windows, until)
    notes: list[str] = []
    if models is None:
        models = train(series, options, run, notes)
    tables = [next_window(series, name, model) for name, model in models.items()]
    raised = alerts(series, options.rules, since)
    known = readings.filter(pl.col("time") < int(series.ends[-1]))
    return Report(
        series,
        change_points.changes(series, options.changes),
        change_points.drifts(known, options.changes),
        pl.concat([pl.DataFrame(schema=FORECAST), *tables]),
        models,
        [event(a, series, known, documents, options.windows) for a in reversed(raised)],
        notes,
    )


def train(
    series: Series, options: Watching, run: Run, notes: list[str] | None = None
) -> dict[str, Forecaster]:
    """Return measure → a forecaster fitted on its series. A measure with too little is left out,
    and ``notes`` gets a sentence."""
    fitted: dict[str, Forecaster] = {}
    for name in options.measures:
        if name in MARKET and name not in series.values:
            continue
        if name not in series.values:
            raise ConfigError(
                f'measures: there is no "{name}"; there are {", ".join((*OPINION, *MARKET))}'
                + suggestion(name, (*OPINION, *MARKET))
            )
        x, ends = open_windows(series, name)
        try:
            fitted[name] = forecasting.fit(x, ends, options.forecast, run.child(name))
        except DataError as error:
            if notes is not None:
                notes.append(f"{name}: {error}")
    return fitted


def open_windows(series: Series, measure: str) -> tuple[Array, Ids]:
    """Return the windows in which the measure of some entity has a value (E, W'), and their ends:
    days without trade are no windows of a market."""
    x = series.values[measure]
    some = ~np.isnan(x).all(axis=0)
    return x[:, some], series.ends[some]


def next_window(series: Series, measure: str, model: Forecaster) -> pl.DataFrame:
    """Return the forecast of the window after the last, of entities with any value."""
    x, ends = open_windows(series, measure)
    found = model.forecast(x, ends)
    value, low, high = (
        np.clip(a[:, -1], *LIMITS.get(measure, (-np.inf, np.inf)))
        for a in (found.value, found.low, found.high)
    )
    step = int(np.diff(series.ends).min()) if len(series.ends) > 1 else 0
    columns = {
        "entity": list(series.entities), "measure": measure, "time": int(ends[-1]) + step,
        "last": x[:, -1], "forecast": value, "low": low, "high": high,
    }  # fmt: skip
    frame = pl.DataFrame(columns, schema=FORECAST).fill_nan(None)
    return frame.filter(pl.col("forecast").is_not_null())


def record(event: Event) -> Kept:
    """Return an alert as the store keeps it; the details say what drove it, in both languages."""
    from m6rec.store.records import Alert as Kept

    a = event.alert
    return Kept(
        key=a.key, entity=a.entity, rule=a.rule, severity=a.severity, time=a.time, value=a.value,
        text=event.text(),
        details={
            "kind": a.kind, "measure": a.measure, "expected": a.expected, "score": a.score,
            "direction": a.direction, "windows": a.windows, "text_zh": event.text("zh"),
            "documents": event.documents.to_dicts(),
            "terms": [[term, round(z, 2)] for term, z in event.terms],
            "along": [[name, round(score, 2)] for name, score in event.along],
            "suggestion": event.suggestion(), "suggestion_zh": event.suggestion("zh"),
        },
    )  # fmt: skip
