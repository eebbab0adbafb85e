"""Tables of item vectors in fewer bytes: int8 rows with a scale each, and product codes."""

from __future__ import annotations

import numpy as np

from m6rec.arrays import Array, Floats, State

SAMPLE = 20_000  # rows that centroids are found on
BLOCK = 20_000  # rows that are compared with all centroids at once
SWEEPS = 20  # of Lloyd's algorithm


def to_int8(name: str, table: Floats) -> State:
    """Return a table (n, d) as ``name`` int8 (n, d) and ``name_scale`` (n, 1); see ``decoded``."""
    scale = np.maximum(np.abs(table).max(axis=1, keepdims=True, initial=0), 1e-30) / 127
    codes = np.rint(table / scale).astype(np.int8)
    return {name: codes, f"{name}_scale": scale.astype(np.float32)}


def decoded(name: str, state: State) -> Floats:
    """Return the table (n, d) float32 that stands in a state as it is, as int8 rows, or as the
    product codes ``name_codes`` with ``name_codebook``."""
    if name not in state:
        return from_codes(state[f"{name}_codes"], state[f"{name}_codebook"])
    table: Floats = state[name].astype(np.float32, copy=False)
    return table if f"{name}_scale" not in state else table * state[f"{name}_scale"]


def from_codes(codes: Array, codebook: Floats) -> Floats:
    """Return the rows (n, d) that codes (n, parts) stand for; see ``product_codes``."""
    found: Floats = codebook[np.arange(codes.shape[1]), codes].reshape(len(codes), -1)
    return found


def product_codes(
    table: Floats, parts: int, levels: int, rng: np.random.Generator
) -> tuple[Array, Floats]:
    """Return codes (n, parts) uint8 and a codebook (parts, levels, d / parts) float32.

    Each row is cut into parts, and each part is replaced by the nearest of its centroids, at most
    256 (product quantisation, Jégou et al. 2011). ``parts`` must divide d.
    """
    cut = table.reshape(len(table), parts, -1)
    found = [_centroids(np.ascontiguousarray(cut[:, p]), levels, rng) for p in range(parts)]
    codes = [_nearest(cut[:, p], centroids) for p, centroids in enumerate(found)]
    return np.stack(codes, axis=1).astype(np.uint8), np.stack(found)


def _centroids(rows: Floats, levels: int, rng: np.random.Generator) -> Floats:
    """k-means by Lloyd's algorithm: (levels, w); one that is nearest to no row stays."""
    rows = rows[rng.permutation(len(rows))[:SAMPLE]]
    centroids = rows[np.arange(levels) % len(rows)].astype(np.float64)
    for _ in range(SWEEPS):
        nearest = _nearest(rows, centroids.astype(np.float32))
        count = np.bincount(nearest, minlength=levels)
        total = np.zeros_like(centroids)
        np.add.at(total, nearest, rows)
        used = count > 0
        centroids[used] = total[used] / count[used, None]
    return centroids.astype(np.float32)


def _nearest(rows: Floats, centroids: Floats) -> Array:
    """(n,) place of the nearest centroid."""
    size = (centroids**2).sum(axis=1) / 2
    parts = [
        (rows[at : at + BLOCK] @ centroids.T - size).argmax(axis=1)
        for at in range(0, len(rows), BLOCK)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)
