"""A GRU over time series, one at a time: from the values so far to the next one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from m6rec.arrays import Array, State
from m6rec.tracking import Run
from m6rec.training.loop import Training, deterministic, train

LENGTH = 60  # windows of one training sequence
STEPS = 8  # the least in an epoch, as long as they have 4 sequences each


class SeriesGru(nn.Module):
    """x (N, T, channels) → (N, T): what is expected at each step for the next one."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.gru = nn.GRU(channels, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)
        nn.init.zeros_(self.head.weight)  # at first: no deviation
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.gru(x)[0])[..., 0])


def fit(
    x: Array, y: Array, options: Training, hidden: int, run: Run, judged: int | None = None
) -> tuple[State, int]:
    """Return the weights of a network fitted to x (E, W, channels) and y (E, W), and its epochs.

    y: the value to be forecast at each window, NaN where there is none. judged: windows from
    which on y is a holdout, not trained on, which says when to stop.
    """
    w = x.shape[1]
    end = w if judged is None else judged
    inputs, wanted = (torch.as_tensor(a, dtype=torch.float32) for a in (x, y))
    with torch.random.fork_rng(devices=[]), deterministic():
        torch.manual_seed(int(run.rng("torch").integers(2**31)))
        network = SeriesGru(x.shape[2], hidden)

        def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
            rng = run.rng(f"epoch {epoch}")
            length = min(LENGTH, end)
            starts = np.arange(rng.integers(length) if end >= 2 * length else 0, end, length)
            starts = np.minimum(starts, end - length)
            series, start = (a.ravel() for a in np.meshgrid(range(len(x)), starts))
            order = rng.permutation(len(series))
            span = torch.arange(length)
            size = min(options.rows(len(order)), max(4, -(-len(order) // STEPS)))
            for first in range(0, len(order), size):
                at = order[first : first + size]
                row = torch.as_tensor(series[at])[:, None]
                place = torch.as_tensor(start[at])[:, None] + span
                yield inputs[row, place], wanted[row, place]

        def loss(batch: tuple[Tensor, Tensor]) -> Tensor:
            device = network.head.weight.device
            return _error(network(batch[0].to(device)), batch[1].to(device))

        def judge() -> float:
            with torch.no_grad():
                return -float(_error(network(inputs)[:, end:], wanted[:, end:]))

        found = train(network, batches, loss, options, run, judge if judged is not None else None)
    return {name: v.numpy() for name, v in network.state_dict().items()}, found.epochs


def forecast(state: State, x: Array) -> Array:
    """Return (E, W): what the network of these weights expects at each window for the next."""
    hidden, channels = state["gru.weight_hh_l0"].shape[1], state["gru.weight_ih_l0"].shape[1]
    network = SeriesGru(channels, hidden)
    network.load_state_dict({name: torch.as_tensor(v) for name, v in state.items()})
    network.eval()
    with torch.no_grad():
        found: Array = network(torch.as_tensor(x, dtype=torch.float32)).numpy().astype(float)
    return found


def _error(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute error, smooth near 0, where there is something wanted."""
    seen = ~torch.isnan(wanted)
    target = torch.where(seen, wanted, found.detach())
    total = functional.smooth_l1_loss(found, target, reduction="sum", beta=0.5)
    return total / seen.sum().clamp(min=1)
