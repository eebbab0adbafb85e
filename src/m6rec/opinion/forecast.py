"""The forecast of the next window: collaborative filtering and a GRU, with λ learned."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np

from m6rec.arrays import Array, Ids, State, nest, unnest
from m6rec.errors import DataError, RunError
from m6rec.opinion.across import Across
from m6rec.opinion.base import ALPHAS, Base
from m6rec.tracking import Run

LEAST = 20  # windows that a forecast needs
GRID = np.linspace(0, 1, 21)
DAMPING = 0.01  # a part must lower the error of the holdout by this share to be heard


@dataclass(frozen=True, kw_only=True)
class Forecasting:
    """How the next window is forecast; the same for opinion and market series.

    season: windows of a repeating pattern, 7 for days of a week; whether there is one is learned.
    lags: windows back that neighbours are looked for.
    k: the most neighbours of an entity.
    sure: standard errors that a similarity must be away from 0.
    reg: ridge of the neighbours' weights, in shares of the windows.
    hidden: size of the GRU's state.
    epochs: the most passes of the GRU; how many is learned.
    lr: learning rate of the GRU.
    holdout: share of the windows, the newest ones, by which all that is learned is chosen.
    lam: share of the neighbours in the forecast, the rest is the GRU's; None = learned.
    coverage: how often the bands are to hold the value.
    """

    season: int = 7
    lags: int = 3
    k: int = 20
    sure: float = 3.0
    reg: float = 0.1
    hidden: int = 16
    epochs: int = 40
    lr: float = 5e-3
    holdout: float = 0.25
    lam: float | None = None
    coverage: float = 0.8

    def __post_init__(self) -> None:
        for name in ("season", "lags", "k", "hidden", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: must be at least 1")
        for name in ("holdout", "coverage"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: must be between 0 and 1")
        if self.lam is not None and not 0 <= self.lam <= 1:
            raise ValueError(f"lam = {self.lam}: must be from 0 to 1")


@dataclass(frozen=True, eq=False)
class Forecast:
    """(E, W) each: what was forecast at each window for the next one, the bands, and what the two
    parts add to the base before λ."""

    value: Array
    low: Array
    high: Array
    base: Array
    across: Array
    gru: Array


@dataclass(frozen=True, eq=False)
class Forecaster:
    """Fitted: forecast = base + scale · (λ a · neighbours + (1 − λ) g · GRU).

    lam: λ. gain: (a, g), by which the holdout puts each part on the scale of what it forecasts; 0
    = it does not help. band: half-width of the bands in units of the base's scale. error: mean
    absolute errors on the holdout, in that unit, of base, neighbours, GRU and fused.
    """

    options: Forecasting
    season: int
    base: Base
    across: Across
    network: State
    lam: float
    gain: tuple[float, float]
    band: float
    error: tuple[float, float, float, float]

    def forecast(self, x: Array, ends: Ids) -> Forecast:
        """Forecast at each window of x (E, W) for the next one, from what came up to it."""
        place, after = _places(ends, self.season)
        base, z = self.base.of(x, place, after)
        scale = self.base.scale[:, None]
        across = self.gain[0] * self.across.forecast(z)
        gru = self.gain[1] * _gru(self.network, z, place, after, self.season)
        value = base + scale * (self.lam * across + (1 - self.lam) * gru)
        half = scale * self.band
        return Forecast(value, value - half, value + half, base, scale * across, scale * gru)

    def state(self) -> State:
        """Return the arrays that ``restore`` needs."""
        learned = [self.season, self.base.alpha, self.lam, *self.gain, self.band, *self.error]
        arrays = {"pattern": self.base.pattern, "scale": self.base.scale}
        parts = nest("across", self.across.state()) | nest("gru", self.network)
        return {"learned": np.array(learned, float), **arrays, **parts}

    @classmethod
    def restore(cls, options: Forecasting, state: State) -> Forecaster:
        season, alpha, lam, a, g, band, *error = (float(v) for v in state["learned"])
        base = Base(alpha, state["pattern"], state["scale"])
        across = Across(options.lags, **unnest("across", state))
        network, one, two, three, four = unnest("gru", state), *error
        return cls(
            options, int(season), base, across, network, lam, (a, g), band,
            (one, two, three, four),
        )  # fmt: skip


def fit(x: Array, ends: Ids, options: Forecasting, run: Run) -> Forecaster:
    """Fit on x (E, W), NaN at gaps, with the ends of its windows (W,) in unix seconds.

    All that is chosen (level, season, epochs, gains, λ, bands) is chosen by the newest windows of
    x with everything fitted on those before; then all is fitted again on x. Without torch, λ is 1.
    """
    w = x.shape[1]
    if w < LEAST or np.isnan(x).all():
        raise DataError(f"forecast: {w} windows; it needs {LEAST} and a value in some")
    cut = w - max(round(w * options.holdout), 5)
    season, base, across = _chosen(x, ends, cut, options)
    place, after = _places(ends, season)
    _, z = base.of(x, place, after)
    wanted = z[:, cut:]  # of windows cut …, forecast one before
    beside = across.forecast(z)[:, cut - 1 : -1]
    network: State = {}
    epochs = 0
    alone = options.lam == 1 or find_spec("torch") is None
    if not alone:
        network, epochs = _train(z, place, after, season, options, run.child("gru"), cut)
    after_gru = _gru(network, z, place, after, season)[:, cut - 1 : -1]
    gain = (_gain(wanted, beside), _gain(wanted, after_gru))
    parts = (gain[0] * beside, gain[1] * after_gru)
    lam = 1.0 if alone else options.lam
    if lam is None:
        errors = [_mae(wanted, v * parts[0] + (1 - v) * parts[1]) for v in GRID[::-1]]
        lam = float(GRID[::-1][int(np.argmin(errors))])
    fused = lam * parts[0] + (1 - lam) * parts[1]
    band = _quantile(np.abs(wanted - fused), options.coverage)
    error = (
        _mae(wanted, np.zeros_like(fused)), _mae(wanted, parts[0]), _mae(wanted, parts[1]),
        _mae(wanted, fused),
    )  # fmt: skip
    base = Base.fit(x, place, base.alpha, season)
    _, z = base.of(x, place, after)
    across = _across(z, options)
    if gain[1] == 0:
        network = {}
    elif lam < 1:
        again = replace(options, epochs=epochs)
        network, _ = _train(z, place, after, season, again, run.child("gru"), None)
    return Forecaster(options, season, base, across, network, lam, gain, band, error)


def _chosen(x: Array, ends: Ids, cut: int, options: Forecasting) -> tuple[int, Base, Across]:
    """Return season, base and neighbours, fitted up to ``cut``, with the least error after it of
    base and neighbours together."""
    best: tuple[float, int, Base, Across] | None = None
    unit = np.ones((len(x), 1))
    for season in dict.fromkeys((1, options.season)):
        place, after = _places(ends, season)
        for alpha in ALPHAS:
            base = Base.fit(x[:, :cut], place[:cut], alpha, season)
            unit = base.scale[:, None] if best is None else unit  # one unit for all candidates
            _, z = base.of(x, place, after)
            across = _across(z[:, :cut], options)
            part, wanted = across.forecast(z)[:, cut - 1 : -1], z[:, cut:]
            left = wanted - _gain(wanted, part) * part
            error = _mae(left * base.scale[:, None] / unit, 0.0)
            if best is None or error < best[0] - 1e-12:
                best = (error, season, base, across)
    assert best is not None
    return best[1], best[2], best[3]


def _across(z: Array, options: Forecasting) -> Across:
    return Across.fit(z, options.lags, options.k, options.sure, options.reg)


def _train(
    z: Array, place: Ids, after: int, season: int, options: Forecasting, run: Run, cut: int | None
) -> tuple[State, int]:
    from m6rec.models import recurrent
    from m6rec.training.loop import Training

    wanted = np.full(z.shape, np.nan)
    wanted[:, :-1] = z[:, 1:]
    training = Training(epochs=options.epochs, lr=options.lr, batch=128, warmup=10, patience=6)
    inputs = _inputs(z, place, after, season)
    judged = None if cut is None else cut - 1
    return recurrent.fit(inputs, wanted, training, options.hidden, run, judged)


def _gru(network: State, z: Array, place: Ids, after: int, season: int) -> Array:
    if not network:
        return np.zeros(z.shape)
    if find_spec("torch") is None:
        raise RunError('the forecaster has a GRU: pip install "m6rec[deep]", or fit it again')
    from m6rec.models import recurrent

    return recurrent.forecast(network, _inputs(z, place, after, season))


def _inputs(z: Array, place: Ids, after: int, season: int) -> Array:
    """Return (E, W, 4): the deviation (0 at gaps), whether there is one, where in the season the
    next window is."""
    seen = ~np.isnan(z)
    angle = 2 * np.pi * np.r_[place[1:], after] / season
    turn = np.stack([np.sin(angle), np.cos(angle)], axis=1)  # (W, 2)
    own = np.stack([np.clip(np.where(seen, z, 0), -5, 5), seen], axis=2)
    return np.concatenate([own, np.broadcast_to(turn, (*z.shape, 2))], axis=2)


def _places(ends: Ids, season: int) -> tuple[Ids, int]:
    """Return the place of each window in the season, and of the one after the last: what came
    after that place the last time, as windows without trade may be left out."""
    step = int(np.diff(ends).min()) if len(ends) > 1 else 1
    place: Ids = (ends // step) % season
    before = np.flatnonzero(place[:-1] == place[-1])
    return place, int(place[before[-1] + 1] if len(before) else (place[-1] + 1) % season)


def _gain(wanted: Array, part: Array) -> float:
    """Return the factor from 0 to 1 with the least error, 0 unless it is clearly less."""
    errors = [_mae(wanted, gain * part) for gain in GRID]
    best = int(np.argmin(errors))
    return float(GRID[best]) if errors[best] < errors[0] * (1 - DAMPING) else 0.0


def _mae(wanted: Array, found: Array | float) -> float:
    """Return the mean absolute error over the entries that are there."""
    error = np.abs(wanted - found)
    seen = ~np.isnan(error)
    return float(error[seen].mean()) if seen.any() else 0.0


def _quantile(residual: Array, coverage: float) -> float:
    """Return the residual that a new one stays below with this chance (split conformal)."""
    values = np.sort(residual[~np.isnan(residual)])
    rank = int(np.ceil((len(values) + 1) * coverage)) - 1
    return float(values[min(rank, len(values) - 1)]) if len(values) else 0.0
