"""Alerts: rules over the series, each judged by what was known at the end of a window."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import polars as pl

from m6rec.arrays import Array, Ids
from m6rec.errors import ConfigError, suggestion
from m6rec.opinion.series import Series

Severity = Literal["info", "warning", "critical"]
LEAST = 10  # windows with a value that a baseline needs
ALONE = 10.0  # readings that are as noisy together as opinion is from window to window
FLOOR = {"attention": 0.25, "opinion": 0.01}  # least noise of a window, in units of the measure
DEFAULT_SCORE = {"change": 4.0, "spike": 3.0, "divergence": 2.5}


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule, ``[[opinion.rules]]``.

    name: of the rule; its alerts carry it.
    kind: "threshold": the measure is at or above ``above``, or at or below ``below``. "change":
        the mean of the newest windows differs from that of the windows before. "spike": the
        newest window is far above those before. "divergence": opinion and price move apart.
    measure: the series that is looked at; a divergence looks at opinion and return.
    above, below: limits of a threshold.
    evidence: how many equal readings an opinion must be worth to be held to a threshold.
    score: standard errors from which the other kinds raise an alert; 4, 3 and 2.5 if left out.
    span: the most windows that count as the newest; a change is looked for in the newest 1, 2,
        4 … of them.
    back: windows before those, with which they are compared.
    season: windows of a repeating pattern, 7 for days of a week, that a spike is freed from by
        what was usual at that place of it; 1 = none.
    severity: "info", "warning" or "critical".
    cooldown: windows after an alert in which the rule is silent for that entity.
    entities: those that it is about; all if left out.
    """

    name: str
    kind: Literal["threshold", "change", "spike", "divergence"]
    measure: str = "opinion"
    above: float | None = None
    below: float | None = None
    evidence: float = 2.0
    score: float | None = None
    span: int = 8
    back: int = 80
    season: int = 7
    severity: Severity = "warning"
    cooldown: int = 5
    entities: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind == "threshold" and self.above is None and self.below is None:
            raise ValueError(f'rule "{self.name}": a threshold needs above or below')
        for name, least in (("span", 1), ("back", LEAST), ("season", 1), ("cooldown", 0)):
            if getattr(self, name) < least:
                raise ValueError(f'rule "{self.name}": {name} must be at least {least}')
        if self.score is not None and self.score <= 0:
            raise ValueError(f'rule "{self.name}": score = {self.score}: must be above 0')

    @property
    def limit(self) -> float:
        """The score from which there is an alert; that of a threshold is how far beyond it is."""
        return self.score or DEFAULT_SCORE.get(self.kind, 0.0)


@dataclass(frozen=True, kw_only=True)
class Alert:
    """key: the same for the same rule, entity and window, so that it is raised once. time: end of
    the window in unix seconds, when it could be known. value, expected: of the measure. score: how
    far apart, see ``Rule``. direction: 1 up, -1 down. windows: how many newest ones it is about.
    """

    key: str
    time: int
    entity: str
    rule: str
    kind: str
    severity: str
    measure: str
    value: float
    expected: float
    score: float
    direction: int
    windows: int


@dataclass(frozen=True, eq=False)
class Signal:
    """(E, W) each: what a rule sees at the end of each window; score NaN = cannot tell."""

    score: Array
    value: Array
    expected: Array
    direction: Array
    windows: Array


def alerts(series: Series, rules: Sequence[Rule], since: int = 0) -> list[Alert]:
    """Return the alerts of windows that end after ``since``, the oldest first. An alert depends on
    nothing that came after its window; those before ``since`` count for the cool-down."""
    found = [alert for rule in rules for alert in raised(series, signal(series, rule), rule)]
    return sorted((a for a in found if a.time > since), key=lambda a: (a.time, a.entity, a.rule))


SCHEMA = {
    "key": pl.String, "time": pl.Int64, "entity": pl.String, "rule": pl.String, "kind": pl.String,
    "severity": pl.String, "measure": pl.String, "value": pl.Float64, "expected": pl.Float64,
    "score": pl.Float64, "direction": pl.Int64, "windows": pl.Int64,
}  # fmt: skip


def frame(found: Sequence[Alert]) -> pl.DataFrame:
    """Return alerts as a frame, one column for each field."""
    return pl.DataFrame([asdict(alert) for alert in found], schema=SCHEMA)


def signal(series: Series, rule: Rule) -> Signal:
    """Return what a rule sees at the end of each window."""
    if rule.kind == "divergence":
        said, paid = (shift(series, name, rule.span, rule.back) for name in ("opinion", "return"))
        apart = said.direction * paid.direction < 0
        score = np.where(apart, np.minimum(said.score, paid.score), 0)
        score[np.isnan(said.score) | np.isnan(paid.score)] = np.nan
        return Signal(score, said.value, said.expected, said.direction, said.windows)
    x = _measure(series, rule.measure)
    if rule.kind == "threshold":
        above = np.inf if rule.above is None else rule.above
        below = -np.inf if rule.below is None else rule.below
        high = x >= above
        limit = np.where(high, above, below)
        score = np.where(high, x - above, np.where(x <= below, below - x, -1.0))
        score[np.isnan(x)] = np.nan
        if rule.measure == "opinion":
            score[series.values["evidence"] < rule.evidence] = np.nan
        limit[score < 0] = np.nan
        return Signal(score, x, limit, np.where(high, 1, -1), np.ones(x.shape, int))
    if rule.kind == "spike":
        one = shift(series, rule.measure, 1, rule.back, rule.season)
        score = np.where(one.direction > 0, one.score, 0 * one.score)
        return Signal(score, one.value, one.expected, one.direction, one.windows)
    spans = [2**i for i in range(rule.span.bit_length()) if 2**i <= rule.span]
    tries = [shift(series, rule.measure, span, rule.back) for span in spans]
    scores = np.stack([each.score for each in tries])
    best = np.where(np.isnan(scores), -1, scores).argmax(axis=0)[None]

    def picked(name: str) -> Array:
        stacked = np.stack([getattr(each, name) for each in tries])
        chosen: Array = np.take_along_axis(stacked, best, axis=0)[0]
        return chosen

    return Signal(*(picked(name) for name in Signal.__dataclass_fields__))


def alarms(signal: Signal, limit: float, cooldown: int, since: int = 0) -> tuple[Ids, Ids]:
    """Return (entity, window) of the alarms from window ``since`` on: scores at or above the
    limit, no two of an entity within ``cooldown`` windows."""
    with np.errstate(invalid="ignore"):
        e, w = np.nonzero(signal.score >= limit)
    keep = np.zeros(len(e), bool)
    last: dict[int, int] = {}
    for i, (entity, window) in enumerate(zip(e.tolist(), w.tolist(), strict=True)):
        if window >= since and window - last.get(entity, -cooldown - 1) > cooldown:
            keep[i], last[entity] = True, window
    return e[keep], w[keep]


def raised(series: Series, seen: Signal, rule: Rule) -> list[Alert]:
    """Return the alerts of a rule that sees this, by entity and time."""
    found: list[Alert] = []
    for e, w in zip(*alarms(seen, rule.limit, rule.cooldown), strict=True):
        entity, time = series.entities[e], int(series.ends[w])
        if rule.entities and entity not in rule.entities:
            continue
        name = f"{rule.name}\n{entity}\n{time}"
        found.append(
            Alert(
                key=hashlib.sha256(name.encode()).hexdigest()[:16],
                time=time,
                entity=entity,
                rule=rule.name,
                kind=rule.kind,
                severity=rule.severity,
                measure="opinion" if rule.kind == "divergence" else rule.measure,
                value=float(seen.value[e, w]),
                expected=float(seen.expected[e, w]),
                score=float(seen.score[e, w]),
                direction=int(seen.direction[e, w]),
                windows=int(seen.windows[e, w]),
            )
        )
    return found


def shift(series: Series, measure: str, span: int, back: int, season: int = 1) -> Signal:
    """Compare the newest ``span`` windows with the ``back`` before them: Welch's t with weights.

    A window of n equal readings weighs g = n / (10 + n), other measures weigh 1: its variance is
    v / g. score = |m − μ| / √(v (1/Σg newest + 1/Σg before)). season: above 1, the windows are
    compared less what was usual at their place of the season before; that is added again in what
    is told.
    """
    x = _measure(series, measure)
    usual = _usual(x, season, back) if season > 1 else np.zeros(x.shape)
    x = x - usual
    seen = ~np.isnan(x)
    g = seen.astype(float)
    if measure == "opinion":
        n = series.values["evidence"]
        g = np.where(seen, n / (ALONE + n), 0)
    y = np.where(seen, x, 0)
    newest = [_sum(a, span, 0) for a in (g, g * y)]
    before = [_sum(a, back, span) for a in (g, g * y, g * y * y, seen.astype(float))]
    with np.errstate(invalid="ignore", divide="ignore"):
        m, mu = newest[1] / newest[0], before[1] / before[0]
        v = (before[2] - before[0] * mu**2) / (before[3] - 1)
        v = np.maximum(v, FLOOR.get(measure, 1e-6) ** 2)
        score = np.abs(m - mu) / np.sqrt(v * (1 / newest[0] + 1 / before[0]))
    score[(before[3] < LEAST) | ~seen] = np.nan
    return Signal(score, m + usual, mu + usual, np.sign(m - mu), np.full(x.shape, span))


def _usual(x: Array, season: int, back: int) -> Array:
    """Return the mean at the same place of the seasons of the ``back`` windows before; NaN without
    any."""
    total, count = np.zeros(x.shape), np.zeros(x.shape)
    for lag in range(season, max(back, season) + 1, season):
        before = np.pad(x, ((0, 0), (lag, 0)), constant_values=np.nan)[:, : x.shape[1]]
        total += np.nan_to_num(before)
        count += ~np.isnan(before)
    usual: Array = np.divide(total, count, out=np.full(x.shape, np.nan), where=count > 0)
    return usual


def _sum(x: Array, n: int, skip: int) -> Array:
    """Return at each window the sum of the n windows that end ``skip`` before it, it included."""
    total = np.cumsum(np.pad(x, ((0, 0), (n + skip, 0))), axis=1)
    w = x.shape[1]
    found: Array = total[:, n : n + w] - total[:, :w]
    return found


def _measure(series: Series, name: str) -> Array:
    if name not in series.values:
        known = ", ".join(series.values)
        raise ConfigError(
            f'rules: there is no measure "{name}"; there are {known}'
            + suggestion(name, series.values)
            + ("" if "close" in series.values else "; those of a market need prices")
        )
    return series.values[name]
