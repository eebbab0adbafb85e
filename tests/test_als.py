"""The solver against the normal equations written out, row by row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.sparse import random_array

from m6rec.arrays import Floats
from m6rec.models.als import solve
from m6rec.models.conjugate import solve_all
from m6rec.models.ridge import ridge


def many(*given: Any) -> Floats:
    *rest, prior = given
    return solve_all(*rest, np.eye(len(prior), dtype=np.float32), prior)


@pytest.mark.parametrize("solver", [solve, many])
@pytest.mark.parametrize("n", [30, 700])  # rows of a few entries, and of more than a block
@pytest.mark.parametrize("k", [1, 7, 16, 33, 64])
def test_solve_equals_the_normal_equations(k: int, n: int, solver: Callable[..., Floats]) -> None:
    rng = np.random.default_rng(k)
    rows = 40
    matrix = random_array((rows, n), density=0.2, rng=rng, format="csr", dtype=np.float32)
    y = rng.standard_normal((n, k)).astype(np.float32)
    target = rng.standard_normal(matrix.nnz).astype(np.float32)
    gram = (0.3 * y.T @ y).astype(np.float32)
    active = rng.random(rows) < 0.7
    reg = rng.uniform(0.5, 2, rows).astype(np.float32)
    prior = rng.standard_normal((rows, k)).astype(np.float32)
    found = solver(matrix.indptr, matrix.indices, matrix.data, target, y, gram, active, reg, prior)
    for r in range(rows):
        at = slice(matrix.indptr[r], matrix.indptr[r + 1])
        seen = y[matrix.indices[at]].astype(np.float64)
        a = seen.T @ (matrix.data[at, None] * seen) + reg[r] * np.eye(k) + active[r] * gram
        b = seen.T @ target[at] + reg[r] * prior[r]
        np.testing.assert_allclose(found[r], np.linalg.solve(a, b), rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("solver", [solve, many])
def test_a_row_without_entries_is_its_prior(solver: Callable[..., Floats]) -> None:
    prior = np.array([[1.0, -2.0], [0.0, 3.0]], np.float32)
    nothing = np.zeros(0, np.float32)
    found = solver(
        np.zeros(3, np.int64), nothing.astype(np.int32), nothing, nothing,
        np.ones((4, 2), np.float32), np.eye(2, dtype=np.float32), np.zeros(2, np.bool_),
        np.full(2, 0.7, np.float32), prior,
    )  # fmt: skip
    np.testing.assert_allclose(found, prior, rtol=1e-6)


def test_ridge_recovers_a_map_and_leaves_the_mean_unshrunk() -> None:
    rng = np.random.default_rng(0)
    features = np.hstack([np.ones((500, 1)), rng.standard_normal((500, 3))]).astype(np.float32)
    true = rng.standard_normal((4, 5)).astype(np.float32)
    factors = features @ true
    np.testing.assert_allclose(ridge(features, factors, np.ones(500), 1e-3), true, atol=1e-3)
    shrunk = ridge(features, factors, np.ones(500), 1e7)
    np.testing.assert_allclose(shrunk[0], factors.mean(axis=0), atol=1e-2)
    np.testing.assert_allclose(shrunk[1:], 0, atol=1e-2)
