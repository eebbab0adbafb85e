"""Adversarial training: representations moved to where the loss rises fastest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def attacked(loss: Callable[..., Tensor], given: Sequence[Tensor], strength: float) -> list[Tensor]:
    """Return the tensors, each row moved by ``strength`` times its length up the loss's slope.

    given: each (n, d), what ``loss`` takes. The fast gradient method (Goodfellow et al. 2015; for
    rankings APR, He et al. 2018), relative to the length of a row, which it leaves to be learned.
    """
    leaves = [tensor.detach().requires_grad_() for tensor in given]
    with torch.enable_grad():
        slopes = torch.autograd.grad(loss(*leaves), leaves)
    moved = []
    for tensor, slope in zip(given, slopes, strict=True):
        length = tensor.detach().norm(dim=1, keepdim=True)
        steepest = slope / slope.norm(dim=1, keepdim=True).clamp(min=1e-12)
        moved.append(tensor + strength * length * steepest)
    return moved
