"""Negatives of a step: weighted sampling without replacement, and what it makes likely."""

from __future__ import annotations

import numpy as np

from m6rec.arrays import Array, Floats, Ids


def draw(
    pool: Ids, weight: Array, n: int, rng: np.random.Generator, corrected: bool
) -> tuple[Ids, Floats]:
    """Return distinct items of a pool (N,), and how often each is expected among them (N,).

    pool: (M,) item codes; no more than n are taken whole. weight: (M,) above 0. What is expected
    is 1 unless ``corrected``; else it is given the n-th key, so that sums over the drawn divided
    by it are unbiased. By exponential keys (Efraimidis & Spirakis 2006; Cohen & Kaplan 2007).
    """
    if len(pool) <= n:
        return pool, np.ones(len(pool), np.float32)
    keys = rng.exponential(size=len(pool)) / weight
    order = np.argpartition(keys, n)
    drawn = order[:n]
    if not corrected:
        return pool[drawn], np.ones(n, np.float32)
    expected = -np.expm1(-keys[order[n]] * weight[drawn])
    return pool[drawn], expected.astype(np.float32)
