"""Alternating least squares with priors: exact k × k solves of one side given the other."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import prange

from m6rec.arrays import Array, Floats, Ids, Mask
from m6rec.compiled import compiled, plain
from m6rec.models.lanes import LANES, WIDE, every, load, plus, spread, store, total

ROWS = 4  # of the left side that are worked on together
BLOCK = 64  # entries of a row whose factors are laid out at once


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
    bounds = shares(start, prior.shape[1])
    out = np.empty(prior.shape, np.float32)
    _solve(
        plain(start, np.int64),
        plain(index, np.int32),
        np.sqrt(plain(weight, np.float32)),
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


def shares(start: Ids, each: int) -> Ids:
    """(threads + 1,) bounds of the rows that each thread takes, of about equal cost, where a row
    costs as much as so many entries besides its own; one row is for one thread."""
    if len(start) == 2:
        return np.array([0, 1])
    cost = start - start[0] + each * np.arange(len(start))
    n = numba.get_num_threads()
    bounds = np.searchsorted(cost, np.linspace(0, cost[-1], n + 1)).astype(np.int64)
    bounds[0], bounds[-1] = 0, len(start) - 1
    return bounds


@compiled(parallel=True)
def _solve(
    start: Any,
    index: Any,
    root: Any,
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
        a = np.zeros((wide, wide + LANES), np.float32)  # left side, and the right in column wide
        x = np.zeros((1, wide), np.float32)
        y = np.zeros((BLOCK, wide), np.float32)
        for r in range(bounds[thread], bounds[thread + 1]):
            if start[r] == start[r + 1] and not active[r]:
                out[r] = prior[r]
                continue
            a[:] = 0
            if active[r]:
                a[:k, :k] = gram
            x[:] = 0
            for i in range(k):
                x[0, i] = reg[r] * prior[r, i]
            for i in range(wide):
                a[i, i] += reg[r]
            _add_events(a, x, y, index, root, target, factors, start[r], start[r + 1])
            _cholesky_solve(a, x)
            out[r] = x[0, :k]


@compiled()
def _add_events(
    a: Any,
    x: Any,
    y: Any,
    index: Any,
    root: Any,
    target: Any,
    factors: Any,
    first: int,
    last: int,
) -> None:
    """Add the entries first … last - 1 of a row to both sides of its equations."""
    k = factors.shape[1]
    whole = k // LANES * LANES
    for begin in range(first, last, BLOCK):
        n = min(BLOCK, last - begin)
        for p in range(n):
            j, scale = index[begin + p], root[begin + p]
            for c in range(0, whole, LANES):
                store(y, p, c, plus(every(np.float32(0)), every(scale), load(factors, j, c)))
            for c in range(whole, k):
                y[p, c] = scale * factors[j, c]
            _add_target(x, target[begin + p], factors, j)
        _add_squares(a, y, n)


@compiled()
def _add_target(x: Any, target: Any, factors: Any, j: int) -> None:
    k = factors.shape[1]
    whole = k // LANES * LANES
    for c in range(0, whole, LANES):
        store(x, 0, c, plus(load(x, 0, c), every(target), load(factors, j, c)))
    for c in range(whole, k):
        x[0, c] += target * factors[j, c]


@compiled()
def _add_squares(a: Any, y: Any, n: int) -> None:
    """Add yᵀ y of the first n rows of y to the upper triangle of a (w, ≥ w)."""
    for i in range(0, len(a), ROWS):
        _add_products(a, y, n, i, len(a), every(np.float32(1)))


@compiled()
def _add_products(a: Any, y: Any, n: int, i: int, end: int, sign: Any) -> None:
    """Add sign · y[:n, i : i + ROWS]ᵀ y[:n] to rows i … i + ROWS - 1 of a, from the vector of the
    diagonal on to column end. y may be a itself if n ≤ i."""
    at = i // LANES * LANES
    if WIDE:  # else the totals of a pair are more than there are registers
        while at + 2 * LANES <= end:
            _pair(a, y, n, i, at, sign)
            at += 2 * LANES
    while at < end:
        _single(a, y, n, i, at, sign)
        at += LANES


# Each total is a variable, and so a register, while y goes by.
@compiled()
def _pair(a: Any, y: Any, n: int, i: int, c: int, sign: Any) -> None:
    s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = every(np.float32(0))
    d = c + LANES
    for p in range(n):
        left, right = load(y, p, c), load(y, p, d)
        one = spread(y, p, i)
        s0, t0 = plus(s0, one, left), plus(t0, one, right)
        one = spread(y, p, i + 1)
        s1, t1 = plus(s1, one, left), plus(t1, one, right)
        one = spread(y, p, i + 2)
        s2, t2 = plus(s2, one, left), plus(t2, one, right)
        one = spread(y, p, i + 3)
        s3, t3 = plus(s3, one, left), plus(t3, one, right)
    store(a, i, c, plus(load(a, i, c), sign, s0))
    store(a, i, d, plus(load(a, i, d), sign, t0))
    store(a, i + 1, c, plus(load(a, i + 1, c), sign, s1))
    store(a, i + 1, d, plus(load(a, i + 1, d), sign, t1))
    store(a, i + 2, c, plus(load(a, i + 2, c), sign, s2))
    store(a, i + 2, d, plus(load(a, i + 2, d), sign, t2))
    store(a, i + 3, c, plus(load(a, i + 3, c), sign, s3))
    store(a, i + 3, d, plus(load(a, i + 3, d), sign, t3))


@compiled()
def _single(a: Any, y: Any, n: int, i: int, c: int, sign: Any) -> None:
    s0 = s1 = s2 = s3 = every(np.float32(0))
    for p in range(n):
        left = load(y, p, c)
        s0 = plus(s0, spread(y, p, i), left)
        s1 = plus(s1, spread(y, p, i + 1), left)
        s2 = plus(s2, spread(y, p, i + 2), left)
        s3 = plus(s3, spread(y, p, i + 3), left)
    store(a, i, c, plus(load(a, i, c), sign, s0))
    store(a, i + 1, c, plus(load(a, i + 1, c), sign, s1))
    store(a, i + 2, c, plus(load(a, i + 2, c), sign, s2))
    store(a, i + 3, c, plus(load(a, i + 3, c), sign, s3))


@compiled()
def _cholesky_solve(a: Any, x: Any) -> None:
    """Solve M x = b in place, b given in x (1, ≥ w).

    M symmetric in a (w, ≥ w + LANES), w a multiple of LANES: its upper triangle is overwritten
    with R of M = RᵀR, four rows at a time, column w with R⁻ᵀ b, and the last with 1 / R_ii.
    """
    wide = len(a)
    for i in range(wide):
        a[i, wide] = x[0, i]
    for i in range(0, wide, ROWS):
        _add_products(a, a, i, i, wide + LANES, every(np.float32(-1)))
        _four_rows(a, i, wide + LANES)
    x[0, :wide] = 0  # also where x is not found yet, so that whole vectors can be multiplied
    for i in range(wide - ROWS, -1, -ROWS):
        _four_unknowns(a, x, i, wide)


@compiled()
def _four_rows(a: Any, i: int, end: int) -> None:
    """Turn rows i … i + 3, from which the rows above are taken out, into rows of R, and put
    1 / R_ii in column end - 1."""
    one = np.float32(1)
    d0 = one / np.sqrt(a[i, i])
    u01, u02, u03 = a[i, i + 1] * d0, a[i, i + 2] * d0, a[i, i + 3] * d0
    d1 = one / np.sqrt(a[i + 1, i + 1] - u01 * u01)
    u12, u13 = (a[i + 1, i + 2] - u01 * u02) * d1, (a[i + 1, i + 3] - u01 * u03) * d1
    d2 = one / np.sqrt(a[i + 2, i + 2] - u02 * u02 - u12 * u12)
    u23 = (a[i + 2, i + 3] - u02 * u03 - u12 * u13) * d2
    d3 = one / np.sqrt(a[i + 3, i + 3] - u03 * u03 - u13 * u13 - u23 * u23)
    zero = every(np.float32(0))
    for c in range(i // LANES * LANES, end, LANES):
        r0 = plus(zero, every(d0), load(a, i, c))
        r1 = plus(load(a, i + 1, c), every(-u01), r0)
        r1 = plus(zero, every(d1), r1)
        r2 = plus(plus(load(a, i + 2, c), every(-u02), r0), every(-u12), r1)
        r2 = plus(zero, every(d2), r2)
        r3 = plus(plus(load(a, i + 3, c), every(-u03), r0), every(-u13), r1)
        r3 = plus(zero, every(d3), plus(r3, every(-u23), r2))
        store(a, i, c, r0)
        store(a, i + 1, c, r1)
        store(a, i + 2, c, r2)
        store(a, i + 3, c, r3)
    a[i, end - 1], a[i + 1, end - 1], a[i + 2, end - 1], a[i + 3, end - 1] = d0, d1, d2, d3


@compiled()
def _four_unknowns(a: Any, x: Any, i: int, wide: int) -> None:
    """Put x_i … x_{i+3} of R x = z, z in column wide; those behind are known, the rest 0."""
    s0 = s1 = s2 = s3 = every(np.float32(0))
    for c in range(i // LANES * LANES, wide, LANES):
        known = load(x, 0, c)
        s0, s1 = plus(s0, load(a, i, c), known), plus(s1, load(a, i + 1, c), known)
        s2, s3 = plus(s2, load(a, i + 2, c), known), plus(s3, load(a, i + 3, c), known)
    d = wide + LANES - 1
    x3 = (a[i + 3, wide] - total(s3)) * a[i + 3, d]
    x2 = (a[i + 2, wide] - total(s2) - a[i + 2, i + 3] * x3) * a[i + 2, d]
    x1 = a[i + 1, wide] - total(s1) - a[i + 1, i + 3] * x3 - a[i + 1, i + 2] * x2
    x1 *= a[i + 1, d]
    x0 = a[i, wide] - total(s0) - a[i, i + 3] * x3 - a[i, i + 2] * x2 - a[i, i + 1] * x1
    x[0, i], x[0, i + 1], x[0, i + 2], x[0, i + 3] = x0 * a[i, d], x1, x2, x3
