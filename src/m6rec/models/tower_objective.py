"""What towers minimise in a step: ranking by event type, values, under attack, in balance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from m6rec.models.networks import Towers as Network
from m6rec.training.adversarial import attacked
from m6rec.training.group import ALONE, Group
from m6rec.training.losses import Loss, ranking_loss


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """P targets of one domain among N negatives; items are places among those of the step.

    trunk: (P, d); latent: (P, k): of the users as of the target. event: (P,) type and value: (P,)
    standardised value of the target. own: (P,), others: (N,) items. shift: (N,) is taken off the
    negatives' scores. same: (P,) place of the target among the negatives, or -1.
    """

    domain: int
    trunk: Tensor
    latent: Tensor
    event: Tensor
    value: Tensor
    own: Tensor
    others: Tensor
    shift: Tensor
    same: Tensor


def objective(
    network: Network, steps: Sequence[Step], codes: Tensor, vectors: Tensor, loss: Loss,
    strength: float, group: Group = ALONE,
) -> Tensor:  # fmt: skip
    """Return the loss of a batch: the mean over its targets, of each task, in balance.

    group: processes that have a part of the batch each; the loss is then this one's share.

    codes: (n,) the items of the batch, vectors: (n, d) theirs. strength: of the attack under
    which the ranking is learned as well, 0 = none. Tasks: the ranking of each event type that
    has a head, and the values. With several, each has a variance that is learned, which weighs
    it: Σ_t exp(-s_t) L_t + s_t / 2 (Kendall et al. 2018).
    """
    keys, bias = network.keys(codes, vectors), network.bias(codes)[:, 0]
    n_types = max(1, len(network.types))
    n_tasks = 1 if network.variance is None else len(network.variance)
    total = [vectors.new_zeros(()) for _ in range(n_tasks)]
    count = [0] * len(total)
    for step in steps:
        for e in range(n_types):
            rows = torch.nonzero(step.event == e)[:, 0] if n_types > 1 else None
            if rows is not None and not len(rows):
                continue
            part = ranking(network, step, rows, e, keys, bias, loss, strength)
            n = len(step.own) if rows is None else len(rows)
            total[e], count[e] = total[e] + part * n, count[e] + n
        if network.value is not None and network.value_bias is not None:
            own = network.value_bias(codes[step.own])[:, 0]
            found = (network.value(step.trunk) * vectors[step.own]).sum(1) + own
            error = functional.mse_loss(found, step.value, reduction="sum") / 2
            total[-1], count[-1] = total[-1] + error, count[-1] + len(found)
    if not steps:  # a part without targets; a gradient is asked for all the same
        total[0] = 0 * vectors.sum()
    count = group.total(count)
    losses = torch.stack([t / max(1, n) for t, n in zip(total, count, strict=True)])
    if network.variance is not None:
        present = losses.new_tensor([float(n > 0) / group.size for n in count])
        losses = torch.exp(-network.variance) * losses + present * network.variance / 2
    return losses.sum()


def ranking(
    network: Network, step: Step, rows: Tensor | None, event: int, keys: Tensor, bias: Tensor,
    loss: Loss, strength: float,
) -> Tensor:  # fmt: skip
    """Return the mean loss of the targets at these rows (all where None), of one event type."""
    parts = (step.trunk, step.latent, step.own, step.same)
    trunk, latent, own, same = parts if rows is None else (part[rows] for part in parts)
    u = network.vector(trunk, latent, step.domain, event)

    def of(users: Tensor, items: Tensor) -> Tensor:
        positive = (users * items[own]).sum(1) + bias[own]
        return ranking_loss(
            loss, positive, users, items[step.others], bias[step.others] - step.shift, same
        )

    found = of(u, keys)
    if strength:
        found = found + of(*attacked(of, (u, keys), strength))
    return found
