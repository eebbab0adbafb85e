"""Collaborative filtering across entities: what others did lately says what one does next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from m6rec.arrays import Array, Ids, State
from m6rec.models.nearest import nearest_rated

LEAST = 20  # windows that an entity must have
LARGEST = 4.0  # deviations are cut there, in mean deviations
BLOCK = 64  # entities solved at a time


@dataclass(frozen=True, eq=False)
class Across:
    """Neighbours on the rating matrix of entities × windows, some windows apart.

    The rating of an entity in a window is its deviation there, r. Neighbours of entity e are all
    entities f, e among them, l windows before: those k with the greatest |s_ef|,
    s = Σ x y / √(Σ x² Σ y²) over the windows that both have, if it is clearly not by chance
    (|s| √n above ``sure``). Forecast: r̂_e = Σ w_ef r_f with weights for all neighbours at once,
    by least squares with a ridge (jointly derived interpolation weights, Bell & Koren 2007);
    w = s would count twice what two neighbours both say. A gap counts as no deviation.

    near: (E, k + lags) columns of the deviations now (E of them), one window before (E more) …;
    -1 = none. Those of e itself come last. weight: (E, k + lags).
    """

    lags: int
    near: Ids
    weight: Array

    @classmethod
    def fit(cls, r: Array, lags: int, k: int, sure: float, reg: float) -> Across:
        """Fit on the deviations r (E, W), NaN at gaps."""
        before, after = _lagged(r[:, :-1], lags), r[:, 1:]  # (W - 1, lags E), (E, W - 1)
        near = _nearest(before, after, k, sure)
        own = np.arange(len(r))[:, None] + len(r) * np.arange(lags)
        near = np.where((near[:, :, None] == own[:, None]).any(axis=2), -1, near)
        near = np.concatenate([near, own], axis=1)
        inputs, wanted = _cut(before), _cut(after)
        seen = ~np.isnan(after)
        near[seen.sum(axis=1) < LEAST] = -1
        weight = np.zeros(near.shape)
        for first in range(0, len(r), BLOCK):
            rows = slice(first, first + BLOCK)
            x = np.where(near[rows] >= 0, inputs[:, near[rows]], 0)  # (W - 1, block, k + lags)
            x = x.transpose(1, 0, 2) * seen[rows, :, None]
            gram = x.transpose(0, 2, 1) @ x
            ridge = reg * seen[rows].sum(axis=1)[:, None] + 1e-6
            gram += np.eye(near.shape[1]) * ridge[:, :, None]
            moment = x.transpose(0, 2, 1) @ wanted[rows, :, None]
            weight[rows] = np.linalg.solve(gram, moment)[:, :, 0]
        return cls(lags, near, np.where(near >= 0, weight, 0))

    def forecast(self, r: Array) -> Array:
        """Return (E, W) the deviation forecast at each window for the next."""
        inputs = _cut(_lagged(r, self.lags))
        found = np.zeros(r.shape)
        for at, weight in zip(self.near.T, self.weight.T, strict=True):
            found += (np.where(at >= 0, inputs[:, at], 0) * weight).T
        return found

    def sources(self, e: int, entities: tuple[str, ...]) -> list[tuple[str, int, float]]:
        """Return the neighbours of an entity: which, how many windows before the one that is
        forecast, and weight, the greatest first."""
        order = np.argsort(-np.abs(self.weight[e]), kind="stable")
        found = []
        for column in order[self.near[e, order] >= 0]:
            lag, entity = divmod(int(self.near[e, column]), len(entities))
            found.append((entities[entity], lag + 1, float(self.weight[e, column])))
        return found

    def state(self) -> State:
        return {"near": self.near, "weight": self.weight}


def _nearest(before: Array, after: Array, k: int, sure: float) -> Ids:
    """Return (E, k) the columns most similar to each row of after, by |s|; -1 = no more."""
    columns = _sparse(np.concatenate([before, -before], axis=1))
    near = nearest_rated(_sparse(after), columns, k, shrink=0.0)
    out = np.full((len(after), k), -1)
    row = np.repeat(np.arange(len(after)), np.diff(near.indptr))
    place = np.arange(len(row)) - near.indptr[row]
    column = near.indices % before.shape[1]
    both = (~np.isnan(after[row]) & ~np.isnan(before[:, column].T)).sum(axis=1)
    out[row, place] = np.where(near.data * np.sqrt(both) > sure, column, -1)
    return out


def _lagged(r: Array, lags: int) -> Array:
    """Return (W, lags E): each entity now, then each one window before …"""
    w = r.shape[1]
    padded = np.pad(r, ((0, 0), (lags - 1, 0)), constant_values=np.nan)
    blocks = [padded[:, lags - 1 - lag : lags - 1 - lag + w].T for lag in range(lags)]
    return np.concatenate(blocks, axis=1)


def _cut(r: Array) -> Array:
    found: Array = np.clip(np.nan_to_num(r), -LARGEST, LARGEST)
    return found


def _sparse(values: Array) -> csr_array:
    """Return the entries that are not NaN; zeros stay, as ratings that are there."""
    row, column = np.nonzero(~np.isnan(values))
    indptr = np.r_[0, np.cumsum(np.bincount(row, minlength=len(values)))]
    parts = (_cut(values[row, column]).astype(np.float32), column.astype(np.int32), indptr)
    return csr_array(parts, shape=values.shape)
