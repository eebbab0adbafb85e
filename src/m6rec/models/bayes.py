"""Ratings as a factorisation whose strengths are learned: variational Bayes, one domain.

  r_ui ~ N(μ + b_u + b_i + u·v_i, 1/τ),   (b_u, u) ~ N(B f_u, Λ⁻¹),   (v_i, b_i) ~ N(W φ_i, Ψ⁻¹)

with diagonal posteriors of the items and exact ones of the users (Lim & Teh 2007; Raiko, Ilin &
Karhunen 2007). τ, Λ and Ψ are set to what the posteriors say after every sweep, so that there is
no regularisation to be tuned. f and φ hold, besides attributes, who rated what (Koren 2008):
that somebody saw a film says something of them, whatever the rating.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numba
import numpy as np
from numba import prange
from scipy.sparse import csr_array

from m6rec.arrays import Array, Floats, Ids, State, nest, unnest
from m6rec.checkpoint import NOWHERE, Saved
from m6rec.compiled import compiled, plain
from m6rec.models.graph import right_basis
from m6rec.models.kernels import transposed
from m6rec.models.ridge import ridge
from m6rec.pool import HERE, Pool, cut

POWER = 4  # sweeps of the randomised basis
EARLY = 2  # sweeps before strengths are learned
CHANGING = ("mean", "variance", "prior", "precision", "guess", "spread")  # in a sweep


@dataclass(frozen=True, kw_only=True)
class Bayes:
    """How the ratings of explicit domains are factorised.

    dim: latent size. sweeps: alternations. presence: size of the vectors that say who rated
    what; 0 leaves them out.
    """

    dim: int = 16
    sweeps: int = 20
    presence: int = 32

    def __post_init__(self) -> None:
        if self.dim < 1 or self.sweeps < 1 or self.presence < 0:
            raise ValueError("dim and sweeps must be at least 1, presence at least 0")


@dataclass(frozen=True, slots=True, eq=False)
class Partners:
    """What one side is solved against.

    mean, variance: (n, k) posteriors of the vectors. precision: (1 + k,) the noise's τ, then
    that of the side that is solved.
    """

    mean: Floats
    variance: Floats
    precision: Floats


def presence_basis(
    ratings: csr_array, dim: int, rng: np.random.Generator, pool: Pool = HERE
) -> Floats:
    """Return (n_items, dim): items by who rated them, zero for those that nobody did.

    Right singular vectors of D_u^-½ R̄ D_i^-½, R̄ being 1 where there is a rating, of mean
    square 1 so that one shrinkage suits any size.
    """
    of_user, of_item = np.diff(ratings.indptr), np.bincount(ratings.indices)
    root = np.sqrt(np.repeat(of_user, of_user) * of_item[ratings.indices])
    rows = csr_array(
        ((1 / root).astype(np.float32), ratings.indices, ratings.indptr), shape=ratings.shape
    )
    basis, _ = right_basis(rows, min(dim, *ratings.shape), POWER, rng, pool)
    basis *= np.sqrt(np.float32(ratings.shape[1]))
    return np.pad(basis, ((0, 0), (0, dim - basis.shape[1])))


def presence(start: Ids, item: Ids, basis: Floats) -> Floats:
    """Return (R, q): Σ_j basis_j / √n over the n items of each history row."""
    count = np.diff(start)
    weight = (1 / np.sqrt(np.repeat(count, count))).astype(np.float32)
    rows = csr_array((weight, item, start), shape=(len(count), len(basis)))
    found: Floats = (rows @ basis).astype(np.float32)
    return found


def posterior(
    start: Ids, index: Ids, value: Array, partners: Partners, prior: Floats
) -> tuple[Floats, Floats, Floats]:
    """Return mean (R, k), variance (R, k) and expected squared error (R,) of every row.

    start (R + 1,), index (N,): CSR structure over the partners; value (N,): what x·y is to
    meet. The error is Σ E(value − x·y)² of each row, under both posteriors.
    """
    rows, k = prior.shape
    count = np.diff(start).astype(np.float64)
    cost = np.r_[0, np.cumsum(count + k)]
    n = numba.get_num_threads()
    bounds = np.searchsorted(cost, np.linspace(0, cost[-1], n + 1)).astype(np.int64)
    bounds[0], bounds[-1] = 0, rows
    mean, variance = np.empty((rows, k), np.float32), np.empty((rows, k), np.float32)
    error = np.empty(rows, np.float32)
    _posterior(
        plain(start, np.int64),
        plain(index, np.int32),
        plain(value, np.float32),
        plain(partners.mean, np.float32),
        plain(partners.variance, np.float32),
        plain(partners.precision, np.float32),
        plain(prior, np.float32),
        bounds,
        mean,
        variance,
        error,
    )
    return mean, variance, error


@compiled(parallel=True, fastmath=True)
def _posterior(
    start: Any,
    index: Any,
    value: Any,
    factors: Any,
    spread: Any,
    precision: Any,
    prior: Any,
    bounds: Any,
    mean: Any,
    variance: Any,
    error: Any,
) -> None:
    k = factors.shape[1]
    noise = np.float64(precision[0])
    for thread in prange(len(bounds) - 1):
        gram = np.empty((k, k))  # E Σ yyᵀ, lower triangle
        a = np.empty((k, k))
        b = np.empty(k)
        x = np.empty(k)
        column = np.empty(k)
        for r in range(bounds[thread], bounds[thread + 1]):
            gram[:] = 0
            b[:] = 0
            square = 0.0
            for at in range(start[r], start[r + 1]):
                y, s, v = factors[index[at]], spread[index[at]], np.float64(value[at])
                square += v * v
                for i in range(k):
                    b[i] += v * y[i]
                    gram[i, i] += s[i]
                    row, yi = gram[i], np.float64(y[i])
                    for j in range(i + 1):
                        row[j] += yi * y[j]
            for i in range(k):
                for j in range(i + 1):
                    a[i, j] = noise * gram[i, j]
                a[i, i] += precision[1 + i]
                x[i] = noise * b[i] + precision[1 + i] * prior[r, i]
            for j in range(k):  # a = LLᵀ
                for i in range(j, k):
                    rest = a[i, j]
                    for p in range(j):
                        rest -= a[i, p] * a[j, p]
                    a[i, j] = np.sqrt(rest) if i == j else rest / a[j, j]
            for i in range(k):
                rest = x[i]
                for p in range(i):
                    rest -= a[i, p] * x[p]
                x[i] = rest / a[i, i]
            for i in range(k - 1, -1, -1):
                rest = x[i]
                for p in range(i + 1, k):
                    rest -= a[p, i] * x[p]
                x[i] = rest / a[i, i]
            for j in range(k):  # diagonal of (LLᵀ)⁻¹: squares of the columns of L⁻¹
                total = 0.0
                for i in range(j, k):
                    rest = 1.0 if i == j else 0.0
                    for p in range(j, i):
                        rest -= a[i, p] * column[p]
                    column[i] = rest / a[i, i]
                    total += column[i] * column[i]
                mean[r, j] = x[j]
                variance[r, j] = total
            left = square
            for i in range(k):
                left += variance[r, i] * gram[i, i] - 2 * b[i] * x[i] + gram[i, i] * x[i] * x[i]
                for j in range(i):
                    left += 2 * gram[i, j] * x[i] * x[j]
            error[r] = left


def factorise(
    ratings: csr_array, features: Floats, phi: Floats, options: Bayes, shrink: float,
    rng: np.random.Generator, advance: Callable[[int], None], pool: Pool = HERE,
    saved: Saved = NOWHERE,
) -> State:  # fmt: skip
    """Alternate over the ratings (n_users, n_items) less their mean.

    features (n_users, p), phi (n_items, q): the first column of each is 1. Returns items
    (n_items, 1 + dim), the first column of which is 1, the partner of the user's bias; their
    variance; bias (n_items,); prior B (p, 1 + dim); precision (2 + dim,) of noise and users;
    guess (q, 1 + dim) and spread (1 + dim,), of which an item without ratings is φ guess, in
    column 0 its bias, with that variance. saved: where every sweep is kept.
    """
    columns = transposed(ratings)
    k, n_items = options.dim + 1, ratings.shape[1]
    of_user = np.diff(ratings.indptr)
    user = Side(ratings, k, features, shrink, pool)
    item = Side(columns, k, phi, shrink, pool)
    item.mean[:, 1:] = rng.standard_normal((n_items, k - 1)) * 0.1
    noise = 1 / max(float(ratings.data.var()), 1e-6) if len(ratings.data) else 1.0
    done = 0
    if held := saved.read():
        user.restore(unnest("user", held))
        item.restore(unnest("item", held))
        noise, done = float(held["noise"][0]), int(held["sweeps"][0])
    advance(done)
    for sweep in range(done, options.sweeps):
        learn = sweep >= EARLY
        user.solve(item, noise, learn)
        error = item.solve(user, noise, learn)
        if learn:
            noise = len(ratings.data) / max(error + float(of_user @ user.variance[:, 0]), 1e-9)
        kept = nest("user", user.state()) | nest("item", item.state())
        saved.write({**kept, "noise": np.array([noise]), "sweeps": np.array([sweep + 1])})
        advance(1)
    items, variance = item.as_partner()
    return {
        "items": items,
        "variance": variance,
        "bias": item.mean[:, 0],
        "prior": user.prior,
        "precision": np.r_[noise, user.precision].astype(np.float32),
        "guess": item.guess,
        "spread": np.r_[np.float32(0), item.spread[1:]],
    }


class Side:
    """Users or items while they are fitted: posteriors, prior map and precision; column 0 is
    the bias. guess, spread: prior map and variance that the posteriors started from."""

    def __init__(
        self, ratings: csr_array, k: int, features: Floats, shrink: float, pool: Pool
    ) -> None:
        """ratings: (R, other side). features: (R, p)."""
        count = np.diff(ratings.indptr)
        self.mean = np.zeros((len(count), k), np.float32)
        self.variance = np.zeros_like(self.mean)
        self.prior = np.zeros((features.shape[1], k), np.float32)
        self.precision = np.full(k, 10.0, np.float32)
        self.active, self.features, self.shrink = count > 0, features, shrink
        self.guess, self.spread = self.prior, 1 / self.precision
        self.pool, self.bounds = pool, cut(count + k, pool.size).tolist()
        whole = len(self.bounds) == 2
        self.blocks = [
            pool.share(ratings if whole else csr_array(ratings[first:last]))
            for first, last in pairwise(self.bounds)
        ]

    def state(self) -> State:
        return {name: getattr(self, name) for name in CHANGING}

    def restore(self, state: State) -> None:
        for name in CHANGING:
            setattr(self, name, state[name])

    def solve(self, other: Side, noise: float, learn: bool) -> float:
        """Solve every row given the other side; return the expected squared error."""
        mean, variance = other.as_partner()
        partners = Partners(mean, variance, np.r_[noise, self.precision].astype(np.float32))
        self.guess, self.spread = self.prior, 1 / self.precision
        prior = self.features @ self.prior
        given = self.pool.share(other.mean[:, 0].copy()), self.pool.share(partners)
        pieces = (
            (block, *given, prior[first:last])
            for block, (first, last) in zip(self.blocks, pairwise(self.bounds), strict=True)
        )
        found = zip(*self.pool.map(_solved, pieces), strict=True)
        self.mean, self.variance, error = (np.concatenate(blocks) for blocks in found)
        on = self.active
        if on.any():
            known = self.features[on]
            self.prior = ridge(known, self.mean[on], np.ones(len(known)), self.shrink)
            if learn:
                off = (self.mean[on] - known @ self.prior) ** 2 + self.variance[on]
                self.precision = (1 / np.maximum(off.mean(axis=0), 1e-6)).astype(np.float32)
        return float(error.sum())

    def as_partner(self) -> tuple[Floats, Floats]:
        """Return mean and variance with the bias replaced by the constant that meets the
        other side's bias."""
        mean, variance = self.mean.copy(), self.variance.copy()
        mean[:, 0], variance[:, 0] = 1, 0
        return mean, variance


def _solved(
    ratings: csr_array, bias: Floats, partners: Partners, prior: Floats
) -> tuple[Floats, Floats, Floats]:
    value = ratings.data - bias[ratings.indices]
    return posterior(ratings.indptr, ratings.indices, value, partners, prior)
