"""Alternating least squares with priors: exact k × k solves of one side given the other."""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np
from numba import prange
from threadpoolctl import ThreadpoolController

from m6rec.arrays import Array, Floats, Ids, Mask
from m6rec.compiled import compiled

BLOCK = 256  # interactions gathered at once for one matrix product


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


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
    rows, k = prior.shape
    cost = np.r_[0, np.cumsum(np.diff(start).astype(np.float64) + k)]
    n = numba.get_num_threads()
    bounds = np.searchsorted(cost, np.linspace(0, cost[-1], n + 1)).astype(np.int64)
    bounds[0], bounds[-1] = 0, rows
    out = np.empty((rows, k), np.float32)
    with _blas().limit(limits=1, user_api="blas"):  # the kernel's threads share the cores
        _solve(
            np.ascontiguousarray(start, np.int64),
            np.ascontiguousarray(index, np.int32),
            np.ascontiguousarray(weight, np.float32),
            np.ascontiguousarray(target, np.float32),
            np.ascontiguousarray(factors, np.float32),
            np.ascontiguousarray(gram, np.float32),
            np.ascontiguousarray(active, np.bool_),
            np.ascontiguousarray(reg, np.float32),
            np.ascontiguousarray(prior, np.float32),
            bounds,
            out,
        )
    return out


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
    for thread in prange(len(bounds) - 1):
        a = np.empty((k, k), np.float32)
        product = np.empty((k, k), np.float32)
        block = np.empty((BLOCK, k), np.float32)
        x = np.empty(k, np.float32)
        for r in range(bounds[thread], bounds[thread + 1]):
            if active[r]:
                a[:] = gram
            else:
                a[:] = 0
            for i in range(k):
                a[i, i] += reg[r]
                x[i] = reg[r] * prior[r, i]
            at = start[r]
            while at < start[r + 1]:
                size = min(BLOCK, start[r + 1] - at)
                for q in range(size):
                    j, root, b = index[at + q], np.sqrt(weight[at + q]), target[at + q]
                    for i in range(k):
                        block[q, i] = root * factors[j, i]
                        x[i] += b * factors[j, i]
                rows = block[:size]
                np.dot(rows.T, rows, product)
                a += product
                at += size
            lower = np.linalg.cholesky(a)  # column by column in memory
            for j in range(k):
                x[j] /= lower[j, j]
                for i in range(j + 1, k):
                    x[i] -= lower[i, j] * x[j]
            for i in range(k - 1, -1, -1):
                rest = x[i]
                for j in range(i + 1, k):
                    rest -= lower[j, i] * x[j]
                x[i] = rest / lower[i, i]
            out[r] = x


def ridge(features: Floats, factors: Floats, weight: Array, strength: float) -> Floats:
    """Return the map B (p, k) float32 of least Σ_r w_r ‖x_r − f_r B‖² + strength·w̄ ‖B‖².

    features f (R, p), of which the first column is the intercept and not shrunk; factors x
    (R, k); weight w (R,), of mean w̄.
    """
    if not len(factors) or not weight.any():
        return np.zeros((features.shape[1], factors.shape[1]), np.float32)
    weighted = features.astype(np.float64) * weight[:, None]
    penalty = np.full(features.shape[1], strength * float(weight.mean()))
    penalty[0] = 1e-6 * float(weight.mean())
    gram = weighted.T @ features + np.diag(penalty)
    solved: Floats = np.linalg.solve(gram, weighted.T @ factors).astype(np.float32)
    return solved
