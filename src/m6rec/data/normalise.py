"""Normalisation of numbers, overall or within groups (a user's or an item's ratings)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self, cast, get_args

import numpy as np
import numpy.typing as npt

from m6rec.arrays import Array, Ids, State
from m6rec.errors import ConfigError, suggestion

Kind = Literal["none", "center", "zscore", "minmax", "log", "quantile"]
By = Literal["global", "user", "item"]
KNOTS = 33  # quantiles kept of each group
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Normaliser:
    """A fitted, invertible map of numbers, one per group and a last one over everything.

    kind: "center" subtracts the mean; "zscore" also divides by the deviation; "minmax" maps to
        [0, 1]; "log" is sign(x)·ln(1 + |x|), then zscore; "quantile" maps to the share of values
        below (ties: the middle of their range), in [0, 1]; "none" leaves the values.
    center, scale: (G + 1,). knots: (G + 1, KNOTS) quantiles, (G + 1, 0) for other kinds.

    Values of group -1, or of a group that had no values, use the last row. A group whose values
    are all equal takes the overall scale, so that one odd rating does not blow up. NaN stays NaN.
    """

    kind: Kind
    center: Doubles
    scale: Doubles
    knots: Doubles

    @classmethod
    def fit(
        cls, values: Array, kind: Kind, group: Ids | None = None, n_groups: int = 0,
        overall: Array | None = None,
    ) -> Normaliser:  # fmt: skip
        """Fit on values (N,) with group codes (N,) in 0 … n_groups-1 (-1 and NaN are left out).

        overall: the values that the last row is of; by default all of them.
        """
        if kind not in get_args(Kind):
            raise ConfigError(
                f'normalise = "{kind}": must be one of {", ".join(get_args(Kind))}'
                f"{suggestion(kind, get_args(Kind))}"
            )
        x = _log(np.asarray(values, np.float64), kind)
        known = np.isfinite(x)
        every = x[known] if overall is None else _log(np.asarray(overall, np.float64), kind)
        code = np.full(len(x), -1) if group is None else np.asarray(group)
        inside = known & (code >= 0)
        center, scale = np.zeros(n_groups + 1), np.ones(n_groups + 1)
        knots = np.zeros((n_groups + 1, 0))
        if kind == "quantile":
            knots = _quantiles(x[inside], code[inside], every, n_groups)
        elif kind == "minmax":
            low, high = _range(x[inside], code[inside], every, n_groups)
            center, scale = low, _usable(high - low)
        elif kind != "none":
            center, deviation = _moments(x[inside], code[inside], every, n_groups)
            scale = scale if kind == "center" else _usable(deviation)
        return cls(kind=kind, center=center, scale=scale, knots=knots)

    def apply(self, values: Array, group: Ids | None = None) -> Doubles:
        """Return the normalised values (N,)."""
        x, row = _log(np.asarray(values, np.float64), self.kind), self._row(len(values), group)
        if self.kind == "quantile":
            return _share_below(x, row, self.knots)
        return (x - self.center[row]) / self.scale[row]

    def inverse(self, values: Array, group: Ids | None = None) -> Doubles:
        """Return the original values (N,) of normalised ones."""
        y, row = np.asarray(values, np.float64), self._row(len(values), group)
        if self.kind == "quantile":
            place = np.clip(np.nan_to_num(y), 0, 1) * (KNOTS - 1)
            low = np.minimum(place.astype(np.int64), KNOTS - 2)
            part = place - low
            found = self.knots[row, low] * (1 - part) + self.knots[row, low + 1] * part
            return np.where(np.isnan(y), np.nan, found)
        x = y * self.scale[row] + self.center[row]
        return cast(Doubles, np.sign(x) * np.expm1(np.abs(x))) if self.kind == "log" else x

    def state(self) -> State:
        """Return the fitted arrays."""
        return {"center": self.center, "scale": self.scale, "knots": self.knots}

    @classmethod
    def restore(cls, kind: Kind, state: State) -> Self:
        """Return the normaliser of that kind whose ``state()`` this was."""
        return cls(kind=kind, center=state["center"], scale=state["scale"], knots=state["knots"])

    def _row(self, n: int, group: Ids | None) -> Ids:
        code = np.full(n, -1) if group is None else np.asarray(group)
        last = len(self.center) - 1
        return np.where((code < 0) | (code > last), last, code)


def _log(x: Doubles, kind: Kind) -> Doubles:
    return cast(Doubles, np.sign(x) * np.log1p(np.abs(x))) if kind == "log" else x


def _usable(scale: Doubles) -> Doubles:
    whole = scale[-1] if scale[-1] > 1e-12 else 1.0
    return np.where(scale > 1e-12, scale, whole)


def _moments(x: Doubles, code: Ids, every: Doubles, n: int) -> tuple[Doubles, Doubles]:
    """(G + 1,) mean and standard deviation; empty groups take the overall figures."""
    count = np.bincount(code, minlength=n)
    mean = np.bincount(code, x, n) / np.maximum(count, 1)
    spread = np.sqrt(np.bincount(code, (x - mean[code]) ** 2, n) / np.maximum(count, 1))
    whole = (every.mean(), every.std()) if len(every) else (0.0, 1.0)
    return (
        np.r_[np.where(count > 0, mean, whole[0]), whole[0]],
        np.r_[np.where(count > 0, spread, whole[1]), whole[1]],
    )


def _range(x: Doubles, code: Ids, every: Doubles, n: int) -> tuple[Doubles, Doubles]:
    low, high = np.full(n + 1, np.inf), np.full(n + 1, -np.inf)
    np.minimum.at(low, code, x)
    np.maximum.at(high, code, x)
    low[-1], high[-1] = (every.min(), every.max()) if len(every) else (0.0, 1.0)
    empty = ~np.isfinite(low)
    return np.where(empty, low[-1], low), np.where(empty, high[-1], high)


def _quantiles(x: Doubles, code: Ids, every: Doubles, n: int) -> Doubles:
    """(G + 1, KNOTS) evenly spaced quantiles, linear between the sorted values of a group."""
    order = np.lexsort((x, code))
    x = np.r_[x[order], np.sort(every) if len(every) else np.zeros(1)]
    count = np.r_[np.bincount(code, minlength=n), max(1, len(every))]
    start = np.r_[0, np.cumsum(count)[:-1]]
    empty = count == 0
    start, count = np.where(empty, start[-1], start), np.where(empty, count[-1], count)
    place = (count[:, None] - 1) * np.linspace(0, 1, KNOTS)
    low = place.astype(np.int64)
    high = np.minimum(low + 1, count[:, None] - 1)
    at = start[:, None]
    return cast(Doubles, x[at + low] + (place - low) * (x[at + high] - x[at + low]))


def _share_below(x: Doubles, row: Ids, knots: Doubles, block: int = 65_536) -> Doubles:
    """(N,) place of each value among the knots of its row, in [0, 1]; ties take the middle."""
    result = np.full(len(x), np.nan)
    for start in range(0, len(x), block):
        part = slice(start, start + block)
        k, v = knots[row[part]], np.nan_to_num(x[part])
        below, upto = (k < v[:, None]).sum(axis=1), (k <= v[:, None]).sum(axis=1)
        here = np.arange(len(v))
        left, right = k[here, np.maximum(below - 1, 0)], k[here, np.minimum(below, KNOTS - 1)]
        gap = right - left
        inside = below - 1 + np.where(gap > 0, (v - left) / np.where(gap > 0, gap, 1), 0)
        place = np.where(upto > below, (below + upto - 1) / 2, inside)
        result[part] = np.clip(place, 0, KNOTS - 1) / (KNOTS - 1)
    result[~np.isfinite(x)] = np.nan
    return result
