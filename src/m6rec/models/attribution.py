"""Integrated gradients (Sundararajan et al. 2017) of a user tower over the items of a history."""

from __future__ import annotations

import numpy as np
import torch

from m6rec.arrays import Array, Floats
from m6rec.models.networks import Towers

POINTS = 24  # of the Gauss-Legendre rule along the path


def integrated_gradients(
    network: Towers, history: Floats, average: Floats, items: Floats
) -> tuple[Array, Array]:
    """Return (C, T) contributions of history items to the scores of C items, and (C,) baselines.

    history: (T, d) item vectors, oldest first. average: (d,) what stands for each of them in the
    baseline. items: (C, d). The path leads straight from the baseline to the history; what the
    quadrature misses is spread over the contributions by their size, so that with the baseline
    they add up to encoder(history) · item.
    """
    node, weight = np.polynomial.legendre.leggauss(POINTS)
    share = torch.from_numpy(((node + 1) / 2).astype(np.float32))[:, None, None]
    step = torch.from_numpy(history - average)
    start = torch.from_numpy(np.broadcast_to(average, history.shape).copy())
    path = (start + share * step).requires_grad_()
    vectors = torch.from_numpy(items)
    mass = torch.from_numpy((weight / 2).astype(np.float32))
    with torch.enable_grad():
        scores = network.users(path, None)[:, -1] @ vectors.T
        whole = mass @ scores  # (C,)
        rows = []
        for c in range(len(items)):
            (slope,) = torch.autograd.grad(whole[c], path, retain_graph=True)
            rows.append((slope.sum(dim=0) * step).sum(dim=1).numpy())
    with torch.inference_mode():
        ends = network.users(torch.stack([start, start + step]), None)[:, -1] @ vectors.T
    baseline, score = ends.numpy().astype(np.float64)
    found = np.array(rows, np.float64).reshape(len(items), len(history))
    missing = score - baseline - found.sum(axis=1)
    size = np.abs(found) + 1e-12
    return found + missing[:, None] * size / size.sum(axis=1, keepdims=True), baseline
