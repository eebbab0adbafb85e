"""Alternating least squares with priors, by conjugate gradients: quick where rows are many."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from m6rec.arrays import Array, Floats, Ids, Mask
from m6rec.compiled import compiled, plain
from m6rec.models.als import shares
from m6rec.models.lanes import LANES, every, load, plus, store, total

MISSED = 1e-12  # of the objective, as a share, below which float32 tells nothing
EACH = 4  # entries that cost what a row costs besides its own


def solve_all(
    start: Ids,
    index: Ids,
    weight: Array,
    target: Array,
    factors: Floats,
    gram: Floats,
    active: Mask,
    reg: Array,
    features: Floats,
    prior: Floats,
) -> Floats:
    """Return what ``als.solve`` does for the priors features @ prior, (R, p) and (p, k), quicker.

    In the basis of the eigenvectors of G the matrix of a row is D + Σ a_rj y_j y_jᵀ with D
    diagonal. Conjugate gradients preconditioned by D (Hestenes and Stiefel 1952; for ALS Takács,
    Pilászy and Tikk 2011) start at the prior and see nothing but the second term, which is of few
    entries or weak, so some four steps suffice where a direct solve costs k³. A row goes on until
    float32 cannot tell it from its minimiser, so it does not matter which rows are solved together.
    """
    value, basis = np.linalg.eigh(gram.astype(np.float64))
    k = len(value)
    wide = -(-k // LANES) * LANES  # whole vectors, so that inner loops have no remainder
    turn = np.zeros((k, wide), np.float32)
    turn[:, :k] = basis
    out = np.ascontiguousarray(features @ (prior @ turn))
    _solve(
        plain(start, np.int64),
        plain(index, np.int32),
        plain(weight, np.float32),
        plain(target, np.float32),
        np.ascontiguousarray(factors @ turn),
        np.pad(np.maximum(value, 0).astype(np.float32), (0, wide - k)),
        plain(active, np.bool_),
        plain(reg, np.float32),
        shares(start, EACH),
        out,
    )
    found: Floats = out @ turn.T
    return found


@compiled(parallel=True)
def _solve(
    start: Any,
    index: Any,
    weight: Any,
    target: Any,
    factors: Any,
    value: Any,
    active: Any,
    reg: Any,
    bounds: Any,
    out: Any,
) -> None:
    """Move the rows of out from their priors to where the objective is least."""
    wide = factors.shape[1]
    zero, one = np.float32(0), np.float32(1)
    for thread in prange(len(bounds) - 1):
        d = np.zeros(wide, np.float32)
        x = np.zeros((1, wide), np.float32)
        rest = np.zeros((1, wide), np.float32)  # right side less left side
        way = np.zeros((1, wide), np.float32)
        bent = np.zeros((1, wide), np.float32)  # the matrix times way
        for r in range(bounds[thread], bounds[thread + 1]):
            first, last = start[r], start[r + 1]
            if first == last and not active[r]:
                continue
            for c in range(wide):
                unseen = value[c] if active[r] else zero
                d[c] = reg[r] + unseen
                x[0, c] = out[r, c]
                rest[0, c] = -unseen * x[0, c]
            _add_events(rest, x, index, weight, target, one, factors, first, last)
            left = size = zero  # left: at least the square of the distance, by the matrix
            for c in range(wide):
                way[0, c] = rest[0, c] / d[c]
                left += way[0, c] * rest[0, c]
                size += d[c] * x[0, c] * x[0, c]
            enough = np.float32(MISSED) * (left + size)
            for _ in range(wide):
                if not left > enough:
                    break
                bent[:] = 0
                _add_events(bent, way, index, weight, target, zero, factors, first, last)
                curved = zero
                for c in range(wide):
                    bent[0, c] = d[c] * way[0, c] - bent[0, c]
                    curved += bent[0, c] * way[0, c]
                step, before = left / curved, left
                left = zero
                for c in range(wide):
                    x[0, c] += step * way[0, c]
                    rest[0, c] -= step * bent[0, c]
                    left += rest[0, c] * rest[0, c] / d[c]
                for c in range(wide):
                    way[0, c] = rest[0, c] / d[c] + left / before * way[0, c]
            out[r] = x[0]


# Four entries at a time, so that none waits for the sum of another.
@compiled()
def _add_events(
    to: Any,
    x: Any,
    index: Any,
    weight: Any,
    target: Any,
    told: Any,
    factors: Any,
    first: int,
    last: int,
) -> None:
    """Add Σ_j (told · b_j − a_j x·y_j) y_j over the entries first … last - 1 to row 0 of `to`."""
    wide = factors.shape[1]
    whole = last - (last - first) % 4
    for at in range(first, whole, 4):
        j0, j1, j2, j3 = index[at], index[at + 1], index[at + 2], index[at + 3]
        s0 = s1 = s2 = s3 = every(np.float32(0))
        for c in range(0, wide, LANES):
            one = load(x, 0, c)
            s0, s1 = plus(s0, one, load(factors, j0, c)), plus(s1, one, load(factors, j1, c))
            s2, s3 = plus(s2, one, load(factors, j2, c)), plus(s3, one, load(factors, j3, c))
        m0 = every(told * target[at] - weight[at] * total(s0))
        m1 = every(told * target[at + 1] - weight[at + 1] * total(s1))
        m2 = every(told * target[at + 2] - weight[at + 2] * total(s2))
        m3 = every(told * target[at + 3] - weight[at + 3] * total(s3))
        for c in range(0, wide, LANES):
            some = plus(plus(load(to, 0, c), m0, load(factors, j0, c)), m1, load(factors, j1, c))
            some = plus(plus(some, m2, load(factors, j2, c)), m3, load(factors, j3, c))
            store(to, 0, c, some)
    for at in range(whole, last):
        j, s = index[at], every(np.float32(0))
        for c in range(0, wide, LANES):
            s = plus(s, load(x, 0, c), load(factors, j, c))
        m = every(told * target[at] - weight[at] * total(s))
        for c in range(0, wide, LANES):
            store(to, 0, c, plus(load(to, 0, c), m, load(factors, j, c)))
