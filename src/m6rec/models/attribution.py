"""Integrated gradients (Sundararajan et al. 2017) of a user tower over the items of a history."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from m6rec.arrays import Array, Floats, Ids
from m6rec.models.networks import Towers

POINTS = 24  # of the Gauss-Legendre rule along the path


def integrated_gradients(
    network: Towers, history: Floats, gap: Ids, attributes: Floats, latent: Floats,
    average: Floats, items: Floats, domain: int,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Return baselines (C,) of the scores of C items of a domain, and the contributions of
    history items (C, T), and of attributes and, last, the PCT vector (C, p + 1).

    history: (T, d) item vectors, oldest first. gap: (T,), the same all along the path.
    attributes: (p,). latent: (k,). average: (d,) what stands for each item of the history in
    the baseline; attributes and the PCT vector are 0 there. items: (C, e). The path leads
    straight from the baseline to the request; what the quadrature misses is spread over the
    contributions by their size, so that with the baseline they add up to the score.
    """
    node, weight = np.polynomial.legendre.leggauss(POINTS)
    share = torch.from_numpy(((node + 1) / 2).astype(np.float32))
    mass = torch.from_numpy((weight / 2).astype(np.float32))
    start = torch.from_numpy(np.broadcast_to(average, history.shape).copy())
    steps = [torch.from_numpy(step) for step in (history - average, attributes, latent)]
    gaps, vectors = torch.from_numpy(gap)[None], torch.from_numpy(items)

    def scores(path: Tensor, told: Tensor, known: Tensor) -> Tensor:
        states = network.sequence(path, gaps.expand(len(path), -1))[:, -1]
        return network.users(states, told, known, domain) @ vectors.T

    path = [share.view(-1, *[1] * step.ndim) * step for step in steps]
    path[0] = start + path[0]
    path = [part.requires_grad_() for part in path]
    rows = []
    with torch.enable_grad():
        for value in mass @ scores(*path):
            slopes = torch.autograd.grad(value, path, retain_graph=True, materialize_grads=True)
            history_, told, known = (
                slope.sum(dim=0) * step for slope, step in zip(slopes, steps, strict=True)
            )
            rows.append(torch.cat([history_.sum(dim=1), told, known.sum()[None]]).numpy())
    with torch.inference_mode():
        ends = [torch.stack([torch.zeros_like(step), step]) for step in steps]
        baseline, score = scores(start + ends[0], *ends[1:]).numpy().astype(np.float64)
    found = np.array(rows, np.float64)
    missing = score - baseline - found.sum(axis=1)
    size = np.abs(found) + 1e-12
    found += missing[:, None] * size / size.sum(axis=1, keepdims=True)
    n = len(history)
    return baseline, found[:, :n], found[:, n:]
