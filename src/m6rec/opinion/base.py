"""The base of a forecast: a level and a weekly pattern; the parts forecast deviations from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from m6rec.arrays import Array, Ids

ALPHAS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)  # 0: mean of all; 1: the last value
PRIOR = 4.0  # windows of no pattern that each place of the season is averaged with


@dataclass(frozen=True, eq=False)
class Base:
    """alpha: how far the level moves to each value. pattern: (E, S) what each place of the season
    adds. scale: (E,) mean size of the deviations of train, above 0."""

    alpha: float
    pattern: Array
    scale: Array

    @classmethod
    def fit(cls, x: Array, place: Ids, alpha: float, season: int) -> Base:
        """Fit on x (E, W) with the windows' places in the season (W,)."""
        pattern = profile(x, place, season)
        deviation = x - pattern[:, place]
        deviation[:, 1:] -= levels(deviation, alpha)[:, :-1]
        deviation[:, 0] = np.nan
        seen = ~np.isnan(deviation)
        total = np.where(seen, np.abs(deviation), 0).sum(axis=1)
        whole = total.sum() / max(seen.sum(), 1)
        scale = (total + whole) / (seen.sum(axis=1) + 1)  # one window as in all series
        return cls(alpha, pattern, np.maximum(scale, 1e-9))

    def of(self, x: Array, place: Ids, after: int) -> tuple[Array, Array]:
        """Return (E, W) what it forecasts at each window for the next one, and the deviations
        from that, in units of ``scale``. after: place in the season of the window after the last.
        """
        calm = x - self.pattern[:, place]
        level = levels(calm, self.alpha)
        deviation = np.full(x.shape, np.nan)
        deviation[:, 1:] = (calm[:, 1:] - level[:, :-1]) / self.scale[:, None]
        return level + self.pattern[:, np.r_[place[1:], after]], deviation


def levels(x: Array, alpha: float) -> Array:
    """Return (E, W) the exponentially weighted mean of x up to each window; gaps leave it as it
    is, and it is NaN before the first value."""
    out = np.full(x.shape, np.nan)
    total, weight = np.zeros(len(x)), np.zeros(len(x))
    step = alpha or 1.0
    for t in range(x.shape[1]):
        seen = ~np.isnan(x[:, t])
        keep = np.where(seen, 1 - alpha, 1.0)
        total = keep * total + step * np.where(seen, x[:, t], 0)
        weight = keep * weight + step * seen
        np.divide(total, weight, out=out[:, t], where=weight > 0)
    return out


def profile(x: Array, place: Ids, season: int) -> Array:
    """Return (E, S) the mean of x at each place of the season, less the entity's mean."""
    seen = ~np.isnan(x)
    total = np.where(seen, x, 0)
    mean = total.sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
    left = np.where(seen, x - mean[:, None], 0)
    at = (place[:, None] == np.arange(season)).astype(float)  # (W, S)
    pattern = (left @ at) / (seen @ at + PRIOR)
    centred: Array = pattern - pattern.mean(axis=1, keepdims=True)
    return centred
