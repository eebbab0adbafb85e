"""Alternating least squares with priors: exact k × k solves of one side given the other."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import prange

from m6rec.arrays import Array, Floats, Ids, Mask
from m6rec.compiled import compiled, plain

LANES = 16  # float32 numbers of one vector register


def solve(
    start: Ids,
    index: Ids,
    weight: Array,
    target: Array,
    factors: Floats,
    gram: Floats,
    active: Mask,
    reg: Array,
    prior: Floats,
) -> Floats:
    """Return the minimiser x_r (k,) of every row r, (R, k) float32:

        Σ_j a_rj (b_rj / a_rj − x·y_j)² + [active_r] xᵀ G x + reg_r ‖x − prior_r‖²

    start (R + 1,), index (N,): CSR structure of the rows over the factors y (n, k).
    weight a (N,) ≥ 0; target b (N,) = a times the value to be met. gram G (k, k): the weighted
    Gram matrix of all factors, standing for unobserved entries with value 0 (Hu et al. 2008).
    """
    bounds = _shares(start, prior.shape[1])
    out = np.empty(prior.shape, np.float32)
    _solve(
        plain(start, np.int64),
        plain(index, np.int32),
        plain(weight, np.float32),
        plain(target, np.float32),
        plain(factors, np.float32),
        plain(gram, np.float32),
        plain(active, np.bool_),
        plain(reg, np.float32),
        plain(prior, np.float32),
        bounds,
        out,
    )
    return out


def _shares(start: Ids, k: int) -> Ids:
    """(threads + 1,) bounds of the rows that each thread takes, of about equal cost."""
    cost = start - start[0] + k * np.arange(len(start))
    n = numba.get_num_threads()
    bounds = np.searchsorted(cost, np.linspace(0, cost[-1], n + 1)).astype(np.int64)
    bounds[0], bounds[-1] = 0, len(start) - 1
    return bounds


@compiled(parallel=True, fastmath=True)
def _solve(
    start: Any,
    index: Any,
    weight: Any,
    target: Any,
    factors: Any,
    gram: Any,
    active: Any,
    reg: Any,
    prior: Any,
    bounds: Any,
    out: Any,
) -> None:
    k = factors.shape[1]
    wide = -(-k // LANES) * LANES  # whole vectors, so that inner loops have no remainder
    for thread in prange(len(bounds) - 1):
        a = np.zeros((wide, wide), np.float32)  # upper triangle
        x = np.zeros(wide, np.float32)
        y = np.zeros((4, wide), np.float32)
        for r in range(bounds[thread], bounds[thread + 1]):
            if start[r] == start[r + 1] and not active[r]:
                out[r] = prior[r]
                continue
            a[:] = 0
            if active[r]:
                a[:k, :k] = gram
            x[:] = 0
            for i in range(k):
                x[i] = reg[r] * prior[r, i]
            for i in range(wide):
                a[i, i] += reg[r]
            for at in range(start[r], start[r + 1], 4):
                for q in range(4):
                    if at + q < start[r + 1]:
                        j = index[at + q]
                        root, b = np.sqrt(weight[at + q]), target[at + q]
                        row, into = factors[j], y[q]
                        for i in range(k):
                            into[i] = root * row[i]
                            x[i] += b * row[i]
                    else:
                        y[q] = 0
                _add_squares(a, y)
            _cholesky_solve(a, x)
            out[r] = x[:k]


def solve_all(
    start: Ids,
    index: Ids,
    weight: Array,
    target: Array,
    factors: Floats,
    gram: Floats,
    active: Mask,
    reg: Array,
    prior: Floats,
) -> Floats:
    """Return what ``solve`` does, quicker where rows are many and short.

    In the basis of the eigenvectors of G the matrix of a row is diagonal plus Σ a_rj y_j y_jᵀ, so
    a row of n < k entries takes an n × n solve (Woodbury). Rounding differs from ``solve``.
    """
    value, basis = np.linalg.eigh(gram.astype(np.float64))
    turn = basis.astype(np.float32)
    bounds = _shares(start, prior.shape[1])
    out = np.empty(prior.shape, np.float32)
    _solve_turned(
        plain(start, np.int64),
        plain(index, np.int32),
        np.sqrt(np.ascontiguousarray(weight, np.float32)),
        plain(target, np.float32),
        np.ascontiguousarray(factors @ turn, np.float32),
        np.maximum(value, 0).astype(np.float32),
        plain(active, np.bool_),
        plain(reg, np.float32),
        np.ascontiguousarray(prior @ turn, np.float32),
        bounds,
        out,
    )
    turned: Floats = out @ turn.T
    return turned


@compiled(parallel=True, fastmath=True)
def _solve_turned(
    start: Any,
    index: Any,
    root: Any,
    target: Any,
    factors: Any,
    value: Any,
    active: Any,
    reg: Any,
    prior: Any,
    bounds: Any,
    out: Any,
) -> None:
    k = factors.shape[1]
    wide = -(-k // LANES) * LANES
    short = k * 3 // 4  # entries up to which the small side is quicker
    for thread in prange(len(bounds) - 1):
        a = np.zeros((wide, wide), np.float32)
        y = np.zeros((max(short, 4), wide), np.float32)
        small = np.zeros((max(short, 1), max(short, 1)), np.float32)
        x, diagonal, scaled = (
            np.zeros(wide, np.float32),
            np.ones(wide, np.float32),
            np.zeros(wide, np.float32),
        )
        t = np.zeros(max(short, 1), np.float32)
        for r in range(bounds[thread], bounds[thread + 1]):
            first, n = start[r], start[r + 1] - start[r]
            if n == 0 and not active[r]:
                out[r] = prior[r]
                continue
            for i in range(k):
                x[i] = reg[r] * prior[r, i]
                diagonal[i] = reg[r] + (value[i] if active[r] else np.float32(0))
            if n > short:
                a[:] = 0
                x[k:] = 0
                for i in range(wide):
                    a[i, i] = diagonal[i]
                for at in range(first, first + n, 4):
                    for q in range(4):
                        if at + q < first + n:
                            _load(factors[index[at + q]], root[at + q], target[at + q], y[q], x)
                        else:
                            y[q] = 0
                    _add_squares(a, y[:4])
                _cholesky_solve(a, x)
                out[r] = x[:k]
                continue
            for p in range(n):
                _load(factors[index[first + p]], root[first + p], target[first + p], y[p], x)
            for i in range(k):
                diagonal[i] = np.float32(1) / diagonal[i]
                x[i] *= diagonal[i]
            for p in range(n):
                for i in range(wide):
                    scaled[i] = y[p, i] * diagonal[i]
                t[p] = _dot(y[p], x)
                for q in range(p, n):
                    small[p, q] = _dot(scaled, y[q])
                small[p, p] += np.float32(1)
            _cholesky_solve(small[:n, :n], t[:n])
            for p in range(n):
                value_p = t[p]
                for i in range(k):
                    x[i] -= diagonal[i] * value_p * y[p, i]
            out[r] = x[:k]


@compiled(fastmath=True)
def _load(row: Any, root: Any, target: Any, into: Any, x: Any) -> None:
    for i in range(len(row)):
        into[i] = root * row[i]
        x[i] += target * row[i]


@compiled(fastmath=True)
def _dot(a: Any, b: Any) -> Any:
    total = np.float32(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


# Slices, and not offsets added to the loop variable, let LLVM use whole vector registers.
@compiled(fastmath=True)
def _add_squares(a: Any, y: Any) -> None:
    """Add y_qᵀ y_q of the four rows y to the upper triangle of a."""
    for i in range(len(a)):
        y0, y1, y2, y3 = y[0, i], y[1, i], y[2, i], y[3, i]
        first = i // LANES * LANES
        row = a[i, first:]
        r0, r1, r2, r3 = y[0, first:], y[1, first:], y[2, first:], y[3, first:]
        for c in range(len(row)):
            row[c] += y0 * r0[c] + y1 * r1[c] + y2 * r2[c] + y3 * r3[c]


@compiled(fastmath=True)
def _cholesky_solve(a: Any, x: Any) -> None:
    """Solve a x = b in place, b given in x; a symmetric, its upper triangle is overwritten."""
    n = len(a)
    for j in range(n):  # row j of R in a = RᵀR, after the rows above it
        first = j // LANES * LANES
        row = a[j, first:]
        done = j // 4 * 4
        for p in range(0, done, 4):
            s0, s1, s2, s3 = a[p, j], a[p + 1, j], a[p + 2, j], a[p + 3, j]
            r0, r1, r2, r3 = a[p, first:], a[p + 1, first:], a[p + 2, first:], a[p + 3, first:]
            for c in range(len(row)):
                row[c] -= s0 * r0[c] + s1 * r1[c] + s2 * r2[c] + s3 * r3[c]
        for p in range(done, j):
            share, above = a[p, j], a[p, first:]
            for c in range(len(row)):
                row[c] -= share * above[c]
        scale = np.float32(1) / np.sqrt(a[j, j])
        for c in range(len(row)):
            row[c] *= scale
        x[j] *= scale
        rest, right, value = x[j + 1 :], a[j, j + 1 :], x[j]
        for c in range(len(rest)):
            rest[c] -= right[c] * value
    for i in range(n - 1, -1, -1):
        right, below, value = a[i, i + 1 :], x[i + 1 :], x[i]
        for c in range(len(right)):
            value -= right[c] * below[c]
        x[i] = value / a[i, i]


def ridge(features: Floats, factors: Floats, weight: Array, strength: Array | float) -> Floats:
    """Return the map B (p, k) float32 of least Σ_r w_r ‖x_r − f_r B‖² + w̄ Σ_j s_j ‖B_j‖².

    features f (R, p), of which the first column is the intercept and not shrunk; factors x
    (R, k); weight w (R,), of mean w̄; strength s, one of all columns or (p,).
    """
    if not len(factors) or not weight.any():
        return np.zeros((features.shape[1], factors.shape[1]), np.float32)
    square, product = squares(features, weight), products(features, factors, weight)
    return regressed(square, product, float(weight.mean()), strength)


def squares(features: Floats, weight: Array) -> Array:
    """Return Σ_r w_r f_rᵀ f_r, (p, p) float64: what ``ridge`` sums of the features alone."""
    found: Array = (features.astype(np.float64) * weight[:, None]).T @ features
    return found


def products(features: Floats, factors: Floats, weight: Array) -> Array:
    """Return Σ_r w_r f_rᵀ x_r, (p, k) float64."""
    found: Array = (features.astype(np.float64) * weight[:, None]).T @ factors
    return found


def regressed(square: Array, product: Array, mean: float, strength: Array | float) -> Floats:
    """Return what ``ridge`` does, of its sums over all rows and their mean weight."""
    penalty = np.full(len(square), mean) * strength
    penalty[0] = 1e-6 * mean
    solved: Floats = np.linalg.solve(square + np.diag(penalty), product).astype(np.float32)
    return solved
