"""Made-up opinions with planted shocks, for tests, the demo and the backtest: what happened is
known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl

from m6rec.arrays import Array
from m6rec.opinion.series import HOUR


@dataclass(frozen=True, kw_only=True)
class World:
    """A stated generator.

    Opinion of entity e in window t: m_e + 0.5 · F_st + x_et (+ shock), inside ±1; F_s, of its
    sector, and x follow AR(1) with 0.6 and noise of ``noise`` / 2 and ``noise``. In each sector the
    first entity leads: x of the others gets ``lead`` times its x of the window before. Documents:
    Poisson, of mean ``documents`` times a log-normal of the entity, on days 6 and 7 of the week
    less by half; each says the opinion plus noise of 0.35, with a confidence from 0.5 to 1.
    Log-prices: noise of 1 % a window, plus 1 % times x. A shock adds ±``size`` to the opinion for
    ``length`` windows, falling by a tenth each, brings ``burst`` times the documents in the first
    three, and moves the price by 3 % in its direction.

    entities, sectors, windows, start (unix seconds of the first window), hours (of a window);
    shocks: how many in all, none in the first ``quiet`` windows, and ``apart`` windows between
    two of the same entity.
    """

    entities: int = 12
    sectors: int = 3
    windows: int = 300
    start: int = 1_704_067_200
    hours: int = 24
    documents: float = 8.0
    noise: float = 0.08
    lead: float = 0.5
    shocks: int = 12
    size: float = 0.5
    length: int = 8
    burst: float = 3.0
    quiet: int = 60
    apart: int = 40
    seed: int = 0


class Made(NamedTuple):
    """readings, prices: as ``series.build`` takes them. shocks: entity, time (start of the first
    window with it), direction (1 or -1). opinion: (E, W) the truth without the noise of readings.
    """

    readings: pl.DataFrame
    prices: pl.DataFrame
    shocks: pl.DataFrame
    opinion: Array


def make(world: World) -> Made:
    """Make a world; the same seed gives the same one."""
    rng = np.random.default_rng(world.seed)
    e, w, step = world.entities, world.windows, world.hours * HOUR
    names = np.array([f"E{i:02d}" for i in range(e)])
    sector = np.arange(e) % world.sectors
    own = _opinions(world, rng, sector)
    mean = rng.normal(0.05, 0.1, e)
    shock, planted = _shocks(world, rng)
    opinion = np.clip(mean[:, None] + own + shock, -1, 1)

    rate = world.documents * rng.lognormal(0, 0.4, e)[:, None] * np.ones((e, w))
    day = (world.start // 86_400 + np.arange(w) * world.hours // 24 + 3) % 7  # 0 = Monday
    rate[:, day >= 5] *= 0.5
    for entity, window, _ in planted:
        rate[entity, window : window + 3] *= world.burst
    count = rng.poisson(rate).ravel()
    cell = np.repeat(np.arange(e * w), count)
    n = len(cell)
    said = np.clip(opinion.ravel()[cell] + rng.normal(0, 0.35, n), -1, 1)
    times = world.start + (cell % w) * step + rng.integers(0, step, n)
    readings = pl.DataFrame(
        {
            "document": [f"d{i}" for i in range(n)],
            "entity": names[cell // w],
            "time": times,
            "source": rng.choice(np.array(["wire", "news", "forum"]), n),
            "sentiment": said,
            "confidence": rng.uniform(0.5, 1, n),
            "spread": 1 + rng.poisson(0.3, n),
        }
    )
    change = rng.normal(0, 0.01, (e, w)) + 0.01 * own
    for entity, window, direction in planted:
        change[entity, window] += 0.03 * direction
    price = 100 * np.exp(np.cumsum(change, axis=1))
    volume = np.exp(rng.normal(13, 0.3, (e, w)) + 3 * np.abs(change) / 0.03 * 0.2)
    prices = pl.DataFrame(
        {
            "entity": np.repeat(names, w),
            "time": np.tile(world.start + np.arange(w) * step + step * 2 // 3, e),
            "close": price.ravel(),
            "volume": volume.ravel(),
        }
    )
    shocks = pl.DataFrame(
        [(str(names[i]), world.start + t * step, d) for i, t, d in planted],
        schema={"entity": pl.String, "time": pl.Int64, "direction": pl.Int64},
        orient="row",
    )
    return Made(readings.sort("time"), prices, shocks.sort("time"), opinion)


def _opinions(world: World, rng: np.random.Generator, sector: Array) -> Array:
    """Return (E, W): sector and own parts, the followers with what their leader was before."""
    e, w = world.entities, world.windows
    common, own = np.zeros((world.sectors, w)), np.zeros((e, w))
    first = np.arange(e) < world.sectors  # the leaders
    for t in range(1, w):
        common[:, t] = 0.6 * common[:, t - 1] + rng.normal(0, world.noise / 2, world.sectors)
        led = np.where(first, 0, world.lead * own[sector, t - 1])
        own[:, t] = 0.6 * own[:, t - 1] * np.where(first, 1, 0.5) + led
        own[:, t] += rng.normal(0, world.noise, e)
    return own + 0.5 * common[sector]


def _shocks(world: World, rng: np.random.Generator) -> tuple[Array, list[tuple[int, int, int]]]:
    """Return what shocks add (E, W), and them: entity, window, direction."""
    added = np.zeros((world.entities, world.windows))
    planted: list[tuple[int, int, int]] = []
    places = [(e, t) for e in range(world.entities)
              for t in range(world.quiet, world.windows - world.length)]  # fmt: skip
    rng.shuffle(places)
    for entity, window in places:
        if len(planted) == world.shocks:
            break
        if any(e == entity and abs(t - window) < world.apart for e, t, _ in planted):
            continue
        direction = int(rng.choice([-1, 1]))
        fade = world.size * direction * 0.9 ** np.arange(world.length)
        added[entity, window : window + world.length] += fade
        planted.append((entity, window, direction))
    return added, planted
