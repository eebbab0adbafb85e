"""The opinion monitor: forecast of the next window by MASE, and detection of shocks.

    python benchmarks/opinion_watch.py forecast stocknet|made [--readings FILE] [--seed 0]
    python benchmarks/opinion_watch.py events [--readings FILE]
    python benchmarks/opinion_watch.py shocks [--worlds 4]

forecast: windows of a day, one step ahead, rolling origin: fitted on the first 60, 70, 80 and 90 %
of the windows, each time tested on the next tenth with parameters fixed and values known day by
day. MASE: mean absolute error over that of the naive forecast on the first 60 %, mean over the
entities with at least 100 values there; 95 % intervals by bootstrap over entities; ``Δ``: fused
less the best of naive, moving average and Holt-Winters (by test), paired. Moving average: length
chosen on train. Holt-Winters: additive trend and season (a week), its three constants chosen for
each entity by a grid on train. stocknet: posts read by the lexicon alone, copies counted once,
entity from the folder; days without trade are no windows of the market series. made: the
generator of ``opinion/shocks.py`` without shocks, 24 entities in 4 sectors, 500 windows, 60
documents a day, in which a leader moves its sector one window ahead; and the same with no leader.

events: stocknet; the size of the return, over its mean for that stock, on the last day of trade
before the window of an alert, on that of the alert (or the first after it) and on the next; 1 = as
on any day. Intervals by bootstrap over stocks.

shocks: on that generator, detection within 8 windows. Each detector's limit gives one false alarm
per entity and year on worlds without shocks (other seeds); then recall, delay and false alarms on
worlds with shocks. An alarm up to 20 windows after a shock of its entity is not false.
"""

from __future__ import annotations

import argparse
import json
import tarfile
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from itertools import product
from pathlib import Path

import datasets
import numpy as np
import polars as pl

from m6rec.opinion import forecast as forecasting
from m6rec.opinion.alerts import ALONE, Rule, Signal, alarms, alerts, signal
from m6rec.opinion.copies import Copies
from m6rec.opinion.cusum import cusum, limit
from m6rec.opinion.forecast import Forecasting
from m6rec.opinion.reading import opinions
from m6rec.opinion.sentiment import Reader, Sentiment
from m6rec.opinion.series import Series, build, carried
from m6rec.opinion.shocks import World, make
from m6rec.opinion.watch import open_windows
from m6rec.significance import bootstrap_ci
from m6rec.tracking import Run

Array = np.ndarray
ORIGINS = (0.6, 0.7, 0.8, 0.9)
LEAST = 100  # values of an entity on the first part
MEASURES = ("opinion", "attention", "return", "volatility", "volume")
SINCE, COOLDOWN, HORIZON, AFTER = 60, 5, 8, 20
BUDGET = 1 / 365  # false alarms per entity and window


def stocknet(cached: Path | None) -> Series:
    """Return the series of 88 stocks, 2014 and 2015."""
    if cached is not None and cached.exists():
        readings = pl.read_parquet(cached)
    else:
        readings = read_posts()
        if cached is not None:
            readings.write_parquet(cached)
    prices = []
    for file in sorted(datasets.path("stocknet/price").glob("*.csv")):
        table = pl.read_csv(file, null_values=["null"], schema_overrides={"Volume": pl.Float64})
        table = table.drop_nulls()
        close = table["Date"].str.to_date().cast(pl.Datetime).dt.epoch("s") + 20 * 3600
        prices.append(
            pl.DataFrame({"entity": [file.stem] * len(table), "time": close,
                          "close": table["Adj Close"], "volume": table["Volume"]})
        )  # fmt: skip
    return build(readings, pl.concat(prices))


def read_posts() -> pl.DataFrame:
    """Return the readings of the posts, straight from the archive."""
    rows = []
    with tarfile.open(datasets.path("stocknet/tweet_preprocessed.tar.gz")) as tar:
        for member in tar:
            file = tar.extractfile(member)
            if file is None:
                continue
            for line in file:
                post = json.loads(line)
                time = datetime.strptime(post["created_at"], "%a %b %d %H:%M:%S %z %Y")
                stock = member.name.split("/")[-2]
                rows.append((stock, int(time.timestamp()), " ".join(post["text"])))
    posts = pl.DataFrame(rows, schema=["entity", "time", "text"], orient="row").sort("time")
    parts = []
    reader = Reader(Sentiment(), {})
    for (stock,), part in posts.group_by("entity", maintain_order=True):
        texts = part["text"].to_list()
        first = Copies().first(texts, part["time"].to_numpy())
        count = np.bincount(first, minlength=len(texts))
        own = np.flatnonzero(count)
        p = opinions([texts[i] for i in own], reader)
        parts.append(
            pl.DataFrame({
                "document": [f"{stock}-{i}" for i in own], "entity": [stock] * len(own),
                "time": part["time"].to_numpy()[own], "source": ["post"] * len(own),
                "sentiment": p[:, 2] - p[:, 0], "confidence": p.max(axis=1), "spread": count[own],
            })
        )  # fmt: skip
    return pl.concat(parts)


def forecasts(series: Series, name: str, season: int, seed: int) -> None:
    x, ends = open_windows(series, name)
    w = x.shape[1]
    starts = [int(w * share) for share in ORIGINS]
    naive_error = np.abs(x[:, 1:] - carried(x)[:, :-1])[:, : starts[0] - 1]
    enough = (~np.isnan(x[:, : starts[0]])).sum(axis=1) >= LEAST
    scale = np.where(enough, np.nanmean(naive_error, axis=1), np.nan)
    scale[scale == 0] = np.nan
    errors: dict[str, list[Array]] = {}
    told, inside = [], []
    for start, end in zip(starts, [*starts[1:], w], strict=True):
        model = forecasting.fit(
            x[:, :start], ends[:start], Forecasting(season=7), Run(seed=seed, threads=1)
        )
        made = model.forecast(x[:, :end], ends[:end])
        found = {
            "naive": carried(x[:, :end]),
            "moving average": averages(x[:, :end], start),
            "Holt-Winters": holt_winters(x[:, :end], start, season),
            "base": made.base,
            "CF alone": made.base + made.across,
            "GRU alone": made.base + made.gru,
            "fused": made.value,
        }
        truth = x[:, start:end]
        for method, value in found.items():
            errors.setdefault(method, []).append(np.abs(truth - value[:, start - 1 : end - 1]))
        bands = (made.low[:, start - 1 : end - 1], made.high[:, start - 1 : end - 1])
        held = (truth >= bands[0]) & (truth <= bands[1])
        inside.append(held[~np.isnan(truth) & ~np.isnan(bands[0])])
        told.append(f"{model.lam:.2f}")
    mase = {m: np.nanmean(np.concatenate(e, axis=1), axis=1) / scale for m, e in errors.items()}
    keep = ~np.isnan(mase["fused"])
    print(f"\n{name}: {keep.sum()} entities, {w} windows; λ {', '.join(told)} by origin; "
          f"bands of 80 % hold {np.concatenate(inside).mean():.1%}")  # fmt: skip
    for method, value in mase.items():
        print(f"  {method:<15} {interval(value[keep])}")
    best = min(("naive", "moving average", "Holt-Winters"), key=lambda m: mase[m][keep].mean())
    print(f"  Δ fused − {best}: {interval((mase['fused'] - mase[best])[keep])}", flush=True)


def events(series: Series) -> None:
    x, ends = open_windows(series, "volatility")
    size = x / np.nanmean(x, axis=1, keepdims=True)
    rules = (
        Rule(name="opinion changed", kind="change"),
        Rule(name="much is written", kind="spike", measure="attention"),
        Rule(name="opinion and price part", kind="divergence"),
    )
    for rule in rules:
        found = alerts(series, [rule])
        stock = np.array([series.entities.index(a.entity) for a in found])
        day = np.searchsorted(ends, [a.time for a in found])
        inside = (day > 0) & (day + 1 < len(ends))
        told = []
        for lag in (-1, 0, 1):
            values = size[stock[inside], day[inside] + lag]
            low, high = bootstrap_ci(values, np.random.default_rng(0), cluster=stock[inside])
            told.append(f"{np.nanmean(values):.2f} [{low:.2f}, {high:.2f}]")
        print(f"{rule.name:<24} {len(found)} alerts; day before {told[0]}, day {told[1]}, "
              f"next {told[2]}")  # fmt: skip


def interval(values: Array) -> str:
    low, high = bootstrap_ci(values, np.random.default_rng(0))
    return f"{values.mean():.3f} [{low:.3f}, {high:.3f}]"


def averages(x: Array, start: int) -> Array:
    """Mean of the newest n values; n from 2 to 56 by its error on train."""
    tries = []
    for n in (2, 4, 7, 14, 28, 56):
        out = np.full(x.shape, np.nan)
        for row, values in zip(out, x, strict=True):
            at = np.flatnonzero(~np.isnan(values))
            if not len(at):
                continue
            total = np.cumsum(np.r_[np.zeros(n), values[at]])
            count = np.minimum(np.arange(1, len(at) + 1), n)
            row[at] = (total[n:] - total[:-n]) / count
        out = carried(out)
        error = np.nanmean(np.abs(x[:, 1:start] - out[:, : start - 1]))
        tries.append((error, out))
    return min(tries, key=lambda each: each[0])[1]


def holt_winters(x: Array, start: int, season: int) -> Array:
    """Additive; the constants of each entity by its error on train."""
    best = np.full(len(x), np.inf)
    chosen = np.full(x.shape, np.nan)
    for alpha, beta, gamma in product(
        (0.01, 0.03, 0.1, 0.2, 0.4, 0.7, 1.0), (0, 0.02, 0.1), (0, 0.05, 0.2)
    ):
        level = np.nanmean(x[:, : max(2 * season, 10)], axis=1)
        level = np.where(np.isnan(level), np.nanmean(x[:, :start]), level)
        trend, pattern = np.zeros(len(x)), np.zeros((len(x), season))
        out = np.empty(x.shape)
        for t in range(x.shape[1]):
            here = pattern[:, t % season]
            seen = ~np.isnan(x[:, t])
            moved = alpha * (x[:, t] - here) + (1 - alpha) * (level + trend)
            new = np.where(seen, moved, level + trend)
            trend = np.where(seen, beta * (new - level) + (1 - beta) * trend, trend)
            fit = gamma * (x[:, t] - new) + (1 - gamma) * here
            pattern[:, t % season] = np.where(seen, fit, here)
            level = new
            out[:, t] = level + trend + pattern[:, (t + 1) % season]
        error = np.nanmean(np.abs(x[:, 1:start] - out[:, : start - 1]), axis=1)
        better = error < best
        chosen[better], best[better] = out[better], error[better]
    return chosen


Detector = Callable[[Series, float], Signal]


def change(span: int) -> Detector:
    def detect(series: Series, _: float) -> Signal:
        return signal(series, Rule(name="change", kind="change", span=span))

    return detect


def weighted_cusum(series: Series, at: float) -> Signal:
    """CUSUM of (x − mean before) √g, with the weights that the rule of a change gives windows."""
    x, n = series.values["opinion"], series.values["evidence"]
    seen = ~np.isnan(x)
    g = np.where(seen, n / (ALONE + n), 0)
    total, weight = np.cumsum(g * np.nan_to_num(x), axis=1), np.cumsum(g, axis=1)
    before = np.pad(total / weight, ((0, 0), (1, 0)))[:, :-1]
    return cusum((x - before) * np.sqrt(g / g[:, :SINCE].mean()), at)


def page_hinkley(series: Series, at: float) -> Signal:
    """river's, two-sided, on values standardised by all before them."""
    from river.drift import PageHinkley

    x = series.values["opinion"]
    score, way = np.full(x.shape, np.nan), np.ones(x.shape, int)
    expected = np.full(x.shape, np.nan)
    for e, row in enumerate(x):
        detector = PageHinkley(min_instances=10, delta=0.5, threshold=at, alpha=1.0)
        seen = np.flatnonzero(~np.isnan(row))
        for place, w in enumerate(seen):
            past = row[seen[:place]]
            if place < 10:
                continue
            z = (row[w] - past.mean()) / (past.std(ddof=1) + 1e-9)
            detector.update(float(z))
            score[e, w] = at if detector.drift_detected else 0
            way[e, w] = 1 if row[seen[max(0, place - 3) : place + 1]].mean() > past.mean() else -1
    return Signal(score, x, expected, way, np.ones(x.shape, int))


DETECTORS: dict[str, Detector] = {
    "change (span 8)": change(8),
    "change (span 4)": change(4),
    "CUSUM, weighted": weighted_cusum,
    "CUSUM": lambda series, at: cusum(series.values["opinion"], at),
    "Page-Hinkley": page_hinkley,
}


def worlds(first: int, n: int, **options: float) -> Iterator[tuple[Series, pl.DataFrame]]:
    for seed in range(first, first + n):
        made = make(World(entities=24, sectors=4, windows=400, seed=seed, **options))
        yield build(made.readings, made.prices), made.shocks


def shocks(n: int) -> None:
    for documents, size, burst in ((8, 0.5, 3), (20, 0.3, 3), (20, 0.5, 3), (20, 0.5, 1)):
        print(f"\n{documents} documents a window, {burst} times as many in the first 3 of a shock "
              f"of {size}; {n} worlds of 60 shocks")  # fmt: skip
        calm = [series for series, _ in worlds(5000, n, documents=documents, shocks=0)]
        shaken = list(worlds(6000, n, documents=documents, shocks=60, size=size,
                             burst=burst))  # fmt: skip
        for name, detect in DETECTORS.items():
            at = limit(partial(on_all, detect, calm), BUDGET, COOLDOWN, SINCE)
            found, delay, false = [], [], 0
            for series, known in shaken:
                seen = detect(series, at)
                e, w = alarms(seen, at, COOLDOWN, SINCE)
                explained = np.zeros(len(e), bool)
                for entity, time, direction in known.rows():
                    first = np.searchsorted(series.ends, time, side="right")
                    own = (e == series.entities.index(entity)) & (w >= first)
                    right = own & (w <= first + HORIZON) & (seen.direction[e, w] == direction)
                    explained |= own & (w <= first + AFTER)
                    found.append(right.any())
                    if right.any():
                        delay.append((w[right] - first).min())
                false += int((~explained).sum())
            years = sum(len(s.entities) * (len(s.ends) - SINCE) for s, _ in shaken) / 365
            print(f"  {name:<16} limit {at:5.2f}  recall {interval(np.array(found, float))}  delay "
                  f"{interval(np.array(delay, float))}  false per entity-year {false / years:.2f}",
                  flush=True)  # fmt: skip


def on_all(detect: Detector, series: list[Series], at: float) -> Signal:
    seen = [detect(each, at) for each in series]
    names = Signal.__dataclass_fields__
    return Signal(*(np.concatenate([getattr(s, name) for s in seen]) for name in names))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("forecast", "events", "shocks"))
    parser.add_argument("on", nargs="?", choices=("stocknet", "made"), default="stocknet")
    parser.add_argument("--readings", type=Path, help="parquet that keeps what was read")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worlds", type=int, default=4)
    given = parser.parse_args()
    np.seterr(invalid="ignore")
    if given.what == "shocks":
        shocks(given.worlds)
    elif given.what == "events":
        events(stocknet(given.readings))
    elif given.on == "stocknet":
        series = stocknet(given.readings)
        for measure in MEASURES:
            forecasts(series, measure, 7 if measure in ("opinion", "attention") else 5, given.seed)
    else:
        for lead in (0.5, 0.0):
            world = World(entities=24, sectors=4, windows=500, documents=60, shocks=0, lead=lead,
                          seed=given.seed + 4)  # fmt: skip
            made = make(world)
            print(f"\nmade, lead {lead}")
            forecasts(build(made.readings, made.prices), "opinion", 7, given.seed)
