"""Losses of rankings and ratings, on tensors of P scored positions."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

Loss = Literal["softmax", "bce", "bpr"]


def ranking_loss(
    kind: Loss, positive: Tensor, users: Tensor, items: Tensor, bias: Tensor, same: Tensor
) -> Tensor:
    """Return the mean loss of P positives against N negatives.

    positive: (P,) scores. users: (P, d), items: (N, d), bias: (N,): of the negatives' scores
    users · itemsᵀ + bias. same: (P,) place of the positive among the negatives, which is left
    out, or -1.
    softmax: cross-entropy of the positive among itself and the negatives; where the log of the
    sampling probability is taken from bias, the sampled softmax (Bengio & Senécal 2008).
    bce: Kang & McAuley 2018, each side's mean. bpr: Rendle et al. 2009, every pair.
    """
    if kind == "softmax":
        softmax: Any = Softmax.apply
        return torch.as_tensor(softmax(positive, users, items, bias, same))
    return scored_loss(kind, positive, torch.addmm(bias, users, items.T), same)


def scored_loss(kind: Loss, positive: Tensor, scores: Tensor, same: Tensor) -> Tensor:
    """Return what ``ranking_loss`` does, from the scores of the negatives (P, N)."""
    row = torch.nonzero(same >= 0)[:, 0]
    kept = torch.ones_like(scores)
    kept[row, same[row]] = 0
    if kind == "softmax":
        others = torch.logsumexp(scores.masked_fill(kept == 0, float("-inf")), dim=1)
        return functional.softplus(others - positive).mean()
    if kind == "bce":
        zeros = (functional.softplus(scores) * kept).sum() / kept.sum().clamp(min=1)
        return functional.softplus(-positive).mean() + zeros
    pairs = functional.softplus(scores - positive[:, None]) * kept
    return pairs.sum() / kept.sum().clamp(min=1)


class Softmax(torch.autograd.Function):
    """The cross-entropy of ``ranking_loss`` with half the passes over the (P, N) scores."""

    @staticmethod
    def forward(
        ctx: Any, positive: Tensor, users: Tensor, items: Tensor, bias: Tensor, same: Tensor
    ) -> Tensor:
        scores = torch.addmm(bias, users, items.T)  # under autocast a product in bfloat16
        ctx.precision, scores = scores.dtype, scores.float()
        row = torch.nonzero(same >= 0)[:, 0]
        scores[row, same[row]] = float("-inf")
        top = torch.maximum(scores.amax(dim=1), positive)
        scores.sub_(top[:, None]).exp_()
        own = (positive - top).exp()
        total = scores.sum(dim=1) + own
        ctx.save_for_backward(scores, users, items, own, total)
        return (total.log() - (positive - top)).mean()

    @staticmethod
    def backward(ctx: Any, *slopes: Any) -> tuple[Tensor | None, ...]:
        scores, users, items, own, total = ctx.saved_tensors
        slope = slopes[0] / len(total)
        weight = scores.mul_((slope / total)[:, None])
        of_positive = slope * (own / total - 1)
        low = weight.to(ctx.precision)
        of_users = (low @ items.to(low.dtype)).to(users.dtype)
        of_items = (low.T @ users.to(low.dtype)).to(items.dtype)
        return of_positive, of_users, of_items, weight.sum(dim=0), None
