"""How sure a mean or a difference is: bootstrap over users, paired tests, Holm's correction."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from m6rec.arrays import Array, Ids

LEAST = 20  # clusters, such as users, from which an interval or a p-value says anything


class Paired(NamedTuple):
    """difference: mean of a less mean of b. low, high: its 95 % interval. p: two-sided.

    All but the difference are NaN with fewer than ``LEAST`` clusters.
    """

    difference: float
    low: float
    high: float
    p: float


def bootstrap_ci(
    values: Array,
    rng: np.random.Generator,
    *,
    cluster: Ids | None = None,
    weight: Array | None = None,
    n: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Return the percentile interval of the (weighted) mean of ``values`` (R,); NaN is left out.

    cluster: (R,) rows of equal code, such as those of one user, are drawn together. The
    interval is NaN with fewer than ``LEAST`` of them.
    """
    total, count = _clusters(values[None], cluster, weight)
    if (count > 0).sum() < LEAST:
        return float("nan"), float("nan")
    means = _means(total, count, rng, n)[:, 0]
    low, high = np.nanquantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired(
    a: Array,
    b: Array,
    rng: np.random.Generator,
    *,
    cluster: Ids | None = None,
    weight: Array | None = None,
    root: bool = False,
    n: int = 2000,
) -> Paired:
    """Compare two arrays of values (R,) of the same rows by a paired bootstrap over clusters.

    Rows where either is NaN are left out. root: compare square roots of the means (RMSE from
    squared errors). p is the share of draws whose difference lies at least as far from the
    observed one as that lies from 0.
    """
    both = np.where(np.isnan(a) | np.isnan(b), np.nan, np.stack([a, b]))
    total, count = _clusters(both, cluster, weight)
    if not count.sum():
        return Paired(*[float("nan")] * 4)
    shape = np.sqrt if root else np.asarray
    observed = np.diff(shape(total.sum(axis=0) / count.sum(axis=0))[::-1])[0]
    if (count[:, 0] > 0).sum() < LEAST:
        return Paired(float(observed), *[float("nan")] * 3)
    drawn = shape(_means(total, count, rng, n))
    return _judged(float(observed), drawn[:, 0] - drawn[:, 1])


def apart(
    a: Array,
    b: Array,
    rng: np.random.Generator,
    *,
    weight_a: Array | None = None,
    weight_b: Array | None = None,
    n: int = 2000,
) -> Paired:
    """Compare the (weighted) means of two groups of different users, one value (A,), (B,) each, by
    a bootstrap within each group."""
    groups = [_clusters(v[None], None, w) for v, w in ((a, weight_a), (b, weight_b))]
    means = [t.sum() / c.sum() if c.sum() else float("nan") for t, c in groups]
    observed = float(means[0] - means[1])
    if min(int((count > 0).sum()) for _, count in groups) < LEAST:
        return Paired(observed, *[float("nan")] * 3)
    first, second = (_means(total, count, rng, n)[:, 0] for total, count in groups)
    return _judged(observed, first - second)


def holm(p: Array) -> Array:
    """Return p-values (m,) corrected for m tests (Holm 1979); NaN stays and does not count."""
    p = np.asarray(p, np.float64)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known])]
    corrected = p.copy()
    factor = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factor))
    return corrected


def _judged(observed: float, drawn: Array) -> Paired:
    """Judge a difference by those drawn (n,), of which NaN is left out."""
    drawn = drawn[~np.isnan(drawn)]
    beyond = int((np.abs(drawn - observed) >= abs(observed)).sum())
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Paired(observed, float(low), float(high), (1 + beyond) / (1 + len(drawn)))


def _clusters(values: Array, cluster: Ids | None, weight: Array | None) -> tuple[Array, Array]:
    """Sum values (M, R) and weights over clusters: (C, M) each."""
    n_rows = values.shape[1]
    code = np.arange(n_rows) if cluster is None else np.unique(cluster, return_inverse=True)[1]
    weights = np.where(np.isnan(values), 0.0, 1.0 if weight is None else weight)
    filled = np.where(weights > 0, values, 0.0) * weights
    size = int(code.max(initial=-1)) + 1
    total = np.stack([np.bincount(code, row, size) for row in filled], axis=1)
    return total, np.stack([np.bincount(code, row, size) for row in weights], axis=1)


def _means(total: Array, count: Array, rng: np.random.Generator, n: int) -> Array:
    """(n, M) means over n draws of as many clusters with replacement."""
    size, both = len(total), np.hstack([total, count])
    sums = np.stack(
        [np.bincount(rng.integers(0, size, size), minlength=size) @ both for _ in range(n)]
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        means: Array = sums[:, : total.shape[1]] / sums[:, total.shape[1] :]
    return means
