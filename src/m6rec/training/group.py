"""Processes that train one network together, each on its part of every batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import distributed, nn

from m6rec.arrays import Array
from m6rec.pool import Here
from m6rec.tracking import Run

T = TypeVar("T")


@dataclass(frozen=True)
class Group:
    """rank: of this process among the ``size`` of torch's default group; one needs no group."""

    rank: int = 0
    size: int = 1

    def total(self, counts: Sequence[int]) -> list[int]:
        """Return the sums of counts over the processes."""
        if self.size == 1:
            return list(counts)
        found = torch.tensor(counts, dtype=torch.int64)
        distributed.all_reduce(found)
        return [int(n) for n in found]

    def add(self, network: nn.Module, loss: float) -> float:
        """Give every process the sum of their gradients; return that of their losses.

        A weight that is in the loss of no process is left without a gradient.
        """
        if self.size == 1:
            return loss
        weights = list(network.parameters())
        held = [w.grad if w.grad is not None else torch.zeros_like(w) for w in weights]
        used = torch.tensor([loss, *(float(w.grad is not None) for w in weights)])
        flat = torch.cat([used, *(g.reshape(-1).cpu() for g in held)])  # gloo adds there
        distributed.all_reduce(flat)
        parts = torch.split(flat[len(used) :], [w.numel() for w in weights])
        for weight, n, part in zip(weights, flat[1 : len(used)].tolist(), parts, strict=True):
            weight.grad = part.view_as(weight).to(weight.device) if n else None
        return float(flat[0])

    def first(self, make: Callable[[], T]) -> T:
        """Return what the first process makes."""
        if self.size == 1:
            return make()
        held = [make() if self.rank == 0 else None]
        distributed.broadcast_object_list(held, src=0)
        return held[0]  # type: ignore[return-value]


ALONE = Group()


@runtime_checkable
class Together(Protocol):
    """A pool whose machines can train one network together. machines: how many would."""

    @property
    def machines(self) -> int: ...

    def together(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call ``function(*arguments, group)`` in each process of a group; return what the first
        returns."""


class Learner(Protocol):
    """A network in training, which a group can have parts of."""

    run: Run

    @property
    def network(self) -> nn.Module: ...

    def train_in(self, group: Group, *arguments: Any) -> int:
        """Train as one of a group; return the epochs."""


def learn(learner: Learner, *arguments: Any) -> int:
    """Train with the machines of the run's pool where several can do it together, else here;
    return the epochs."""
    pool = learner.run.pool
    if not isinstance(pool, Together) or pool.machines < 2:
        return learner.train_in(ALONE, *arguments)
    sent, scalars = copy(learner), Scalars()
    sent.run = replace(learner.run, pool=Here(), bars=False, log_file=None, trackers=(scalars,))
    epochs, weights, told = pool.together(_part, sent, arguments)
    state = {name: torch.from_numpy(value.copy()) for name, value in weights.items()}
    learner.network.load_state_dict(state)
    learner.network.eval()
    for name, value, step in told:
        learner.run.scalar(name.removeprefix(f"{learner.run.scope}/"), value, step)
    return epochs


class Scalars:
    """A tracker that keeps what it is given. told: (name, value, step), in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float, int]] = []

    def scalar(self, name: str, value: float, step: int) -> None:
        self.told.append((name, value, step))


def _part(
    learner: Learner, arguments: tuple[Any, ...], group: Group
) -> tuple[int, dict[str, Array], list[tuple[str, float, int]]]:
    """What one process does; returns the epochs, the weights and the scalars."""
    (scalars,) = learner.run.trackers
    epochs = learner.train_in(group, *arguments)
    told = scalars.told if isinstance(scalars, Scalars) else []
    weights = {name: value.numpy() for name, value in learner.network.state_dict().items()}
    return epochs, weights, told
