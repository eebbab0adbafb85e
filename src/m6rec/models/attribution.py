"""Integrated gradients (Sundararajan et al. 2017) of a user tower over the items of a history."""

from __future__ import annotations

import numpy as np
import torch

from m6rec.arrays import Array, Floats
from m6rec.models.networks import Towers

POINTS = 24  # of the Gauss-Legendre rule along the path


def integrated_gradients(
    network: Towers, history: Floats, attributes: Floats, average: Floats, items: Floats
) -> tuple[Array, Array, Array]:
    """Return contributions of history items (C, T) and attributes (C, p) to the scores of C
    items, and baselines (C,).

    history: (T, d) item vectors, oldest first. attributes: (p,). average: (d,) what stands for
    each item of the history in the baseline; attributes are 0 there. items: (C, e). The path
    leads straight from the baseline to the request; what the quadrature misses is spread over
    the contributions by their size, so that with the baseline they add up to the score.
    """
    node, weight = np.polynomial.legendre.leggauss(POINTS)
    share = torch.from_numpy(((node + 1) / 2).astype(np.float32))
    mass = torch.from_numpy((weight / 2).astype(np.float32))
    step, given = torch.from_numpy(history - average), torch.from_numpy(attributes)
    start = torch.from_numpy(np.broadcast_to(average, history.shape).copy())
    path = (start + share[:, None, None] * step).requires_grad_()
    told = (share[:, None] * given).requires_grad_()
    vectors = torch.from_numpy(items)
    seen, known = [], []
    with torch.enable_grad():
        whole = mass @ (network.users(path, told)[:, -1] @ vectors.T)  # (C,)
        for value in whole:
            slope, rise = torch.autograd.grad(
                value, (path, told), retain_graph=True, materialize_grads=True
            )
            seen.append((slope.sum(dim=0) * step).sum(dim=1).numpy())
            known.append((rise.sum(dim=0) * given).numpy())
    with torch.inference_mode():
        both = torch.stack([torch.zeros_like(given), given])
        ends = network.users(torch.stack([start, start + step]), both)[:, -1] @ vectors.T
    baseline, score = ends.numpy().astype(np.float64)
    found = np.hstack([np.array(seen, np.float64), np.array(known, np.float64)])
    missing = score - baseline - found.sum(axis=1)
    size = np.abs(found) + 1e-12
    found += missing[:, None] * size / size.sum(axis=1, keepdims=True)
    return found[:, : len(history)], found[:, len(history) :], baseline
