"""Alerts beside labelled shocks: what was found, how late, and how many alarms were false."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import polars as pl

from m6rec.errors import DataError
from m6rec.opinion.alerts import Alert, Rule, Signal, alerts, raised
from m6rec.opinion.cusum import cusum, limit
from m6rec.opinion.series import Series, build
from m6rec.opinion.shocks import World, make

YEAR = 365.25 * 86_400
WARMUP = 60  # windows in which nothing is judged
CALM = World(entities=24, sectors=4, windows=400, shocks=0, seed=1_000)  # where limits are set


@dataclass(frozen=True)
class Backtest:
    """shocks, alerts: how many. found: shocks with an alert in time. true: alerts that belong to a
    shock. precision, recall: NaN of none. delay: windows from a shock to its first alert, mean and
    median; 0 = at the end of the first window with it. false_per_year: of one entity."""

    shocks: int
    alerts: int
    found: int
    true: int
    precision: float
    recall: float
    delay_mean: float
    delay_median: float
    false_per_year: float


def backtest(
    series: Series, raised: Sequence[Alert], shocks: pl.DataFrame, horizon: int, since: int = 0
) -> Backtest:
    """Compare alerts with shocks: entity, time (unix s), and direction (1, -1; 0 or no column =
    any).

    An alert belongs to a shock of its entity and direction if it is raised in the window of the
    shock or one of the ``horizon`` after it. Alerts and shocks before ``since`` do not count. An
    alert in the horizon with the other direction is neither true nor false if the shock was found:
    the way back from a shock is a change too.
    """
    if missing := {"entity", "time"} - set(shocks.columns):
        raise DataError(f"shocks: no column {min(missing)}; they need entity and time")
    step = int(np.diff(series.ends).min()) if len(series.ends) > 1 else 1
    known = shocks.filter(pl.col("time") >= since, pl.col("entity").is_in(series.entities))
    counted = [alert for alert in raised if alert.time > since]
    directions = known["direction"].to_list() if "direction" in known.columns else [0] * len(known)
    delays: list[float] = []
    true: set[int] = set()
    neither: set[int] = set()
    for entity, time, direction in zip(known["entity"], known["time"], directions, strict=True):
        first = (time // step + 1) * step
        near = [
            (i, (alert.time - first) // step)
            for i, alert in enumerate(counted)
            if alert.entity == entity and 0 <= alert.time - first <= horizon * step
        ]
        right = [(i, d) for i, d in near if direction in (0, counted[i].direction)]
        true |= {i for i, _ in right}
        if right:
            delays.append(min(d for _, d in right))
            neither |= {i for i, _ in near}
    false = len(counted) - len(true | neither)
    judged = len(counted) - len(neither - true)
    span = float(series.ends[-1] - max(since, int(series.ends[0]) - step))
    years = span / YEAR * len(series.entities)
    return Backtest(
        shocks=len(known), alerts=len(counted), found=len(delays), true=len(true),
        precision=len(true) / judged if judged else np.nan,
        recall=len(delays) / len(known) if len(known) else np.nan,
        delay_mean=float(np.mean(delays)) if delays else np.nan,
        delay_median=float(np.median(delays)) if delays else np.nan,
        false_per_year=false / years if years else np.nan,
    )  # fmt: skip


def compare(
    series: Series, rules: Sequence[Rule], shocks: pl.DataFrame, horizon: int
) -> pl.DataFrame:
    """Return one row for each rule, and for CUSUM on opinion with as many false alarms as the
    first rule of a change on series without shocks."""
    since = int(series.ends[min(WARMUP, len(series.ends) - 1)])
    either = shocks.drop("direction", strict=False)  # a spike is up, whatever the shock
    rows = [
        {"rule": rule.name, "limit": None if rule.kind == "threshold" else rule.limit}
        | asdict(
            backtest(
                series,
                alerts(series, [rule]),
                either if rule.kind == "spike" else shocks,
                horizon,
                since,
            )
        )
        for rule in rules
        if rule.kind != "divergence" or "return" in series.values
    ]
    change = next((r for r in rules if r.kind == "change" and r.measure == "opinion"), None)
    if change is not None:
        found = at_equal_alarms(change)
        seen = cusum(series.values["opinion"], found)
        yard = Rule(name="CUSUM", kind="change", score=found, cooldown=change.cooldown)
        result = backtest(series, raised(series, seen, yard), shocks, horizon, since)
        rows.append({"rule": yard.name, "limit": found} | asdict(result))
    return pl.DataFrame(rows, schema_overrides={"limit": pl.Float64})


def at_equal_alarms(rule: Rule) -> float:
    """Return the limit at which CUSUM raises as many alarms as a rule on made-up calm series."""
    made = make(CALM)
    series = build(made.readings, made.prices)
    count = len(alerts(series, [rule], int(series.ends[WARMUP])))
    size = len(series.entities) * (len(series.ends) - WARMUP)

    def detect(at: float) -> Signal:
        return cusum(series.values["opinion"], at)

    return limit(detect, max(count, 1) / size, rule.cooldown, WARMUP)
