"""Weighted ridge regression from features to vectors, in sums that blocks of rows add up."""

from __future__ import annotations

import numpy as np

from m6rec.arrays import Array, Floats

ROWS = 16_384  # held in float64 at once


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
    return products(features, features, weight)


def products(features: Floats, factors: Floats, weight: Array) -> Array:
    """Return Σ_r w_r f_rᵀ x_r, (p, k) float64."""
    found = np.zeros((features.shape[1], factors.shape[1]))
    for at in range(0, len(features), ROWS):
        some = slice(at, at + ROWS)
        found += (features[some].astype(np.float64) * weight[some, None]).T @ factors[some]
    return found


def regressed(square: Array, product: Array, mean: float, strength: Array | float) -> Floats:
    """Return what ``ridge`` does, of its sums over all rows and their mean weight."""
    penalty = np.full(len(square), mean) * strength
    penalty[0] = 1e-6 * mean
    solved: Floats = np.linalg.solve(square + np.diag(penalty), product).astype(np.float32)
    return solved
