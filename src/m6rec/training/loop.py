"""The one training loop: optimiser, schedule, clipping, early stopping, resumable checkpoints."""

from __future__ import annotations

import copy
import os
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from m6rec.tracking import Run
from m6rec.training.group import ALONE, Group
from m6rec.training.place import CPU, Device, has_bf16, place

EVERY = 60.0  # least seconds between two checkpoints
STEPS = 32  # that an epoch has, where the size of a batch is left out
SMALLEST, LARGEST = 32, 256  # rows of a batch, where its size is left out


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a network is trained.

    epochs: passes over the data; with a judge, the most.
    batch: rows of a step; left out, 256, or as many fewer (down to 32) as give 32 steps an epoch.
    optimiser: "adam", "adamw" or "sgd" (with momentum 0.9).
    lr: greatest learning rate.
    weight_decay: of the optimiser.
    schedule: "cosine" falls from lr at the first epoch towards 0 at the end of the last.
    warmup: steps in which lr rises from 0.
    clip: greatest norm of a step's gradient; 0 = any.
    average: decay, at each step, of a running mean of the weights, which is what is judged and
    kept; 0 = the weights of the last step. The mean is over a ninth of the steps so far at most.
    patience: epochs without a better judgement after which training stops.
    precision: "bf16" = autocast; "auto" = where the hardware has it.
    device: "cuda" = a graphics processor; "auto" = one where torch finds it. The same seed gives
    the same network on the same kind of device.
    """

    epochs: int = 60
    batch: int | None = None
    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: int = 100
    clip: float = 5.0
    average: float = 0.0
    patience: int = 5
    precision: Literal["auto", "float32", "bf16"] = "float32"
    device: Device = "auto"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "patience"):
            given = getattr(self, name)
            if given is not None and given < 1:
                raise ValueError(f"{name} = {given}: must be at least 1")
        for name in ("warmup", "clip", "weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} = {getattr(self, name)}: must be at least 0")
        if self.lr <= 0:
            raise ValueError(f"lr = {self.lr}: must be above 0")
        if not 0 <= self.average < 1:
            raise ValueError(f"average = {self.average}: must be at least 0 and below 1")

    def rows(self, n: int) -> int:
        """Return the size of a batch of n rows of data."""
        return self.batch or min(LARGEST, max(SMALLEST, -(-n // STEPS)))


@dataclass(frozen=True)
class Trained:
    """epochs: passes that gave the best judgement (or all). value: it; NaN without a judge."""

    epochs: int
    value: float


def train(
    network: nn.Module,
    batches: Callable[[int], Iterator[Any]],
    loss: Callable[[Any], Tensor],
    options: Training,
    run: Run,
    judge: Callable[[], float] | None = None,
    checkpoint: Path | None = None,
    after: Callable[[float], None] | None = None,
    group: Group = ALONE,
) -> Trained:
    """Train in place, and leave the network with the weights of the best epoch.

    The network is on ``options.device`` while it trains, and on the processor when it is judged
    and at the end. batches: epoch → its batches; the same epoch must give the same batches. loss:
    batch → mean loss. judge: value on the holdout, higher is better, asked after each epoch.
    checkpoint: a file from which a killed training goes on, to the same result; written at most
    once in ``EVERY`` seconds, and removed at the end. One that cannot be read or written is none.
    after: is given the learning rate after each step; a proximal step, for instance.
    group: processes that train together; the loss is then this one's share of the batch's, whose
    sum over them is the mean. Only the first judges, and keeps the checkpoint.
    """
    device = place(options.device)
    optimiser = _optimiser(network.to(device), options)
    bf16 = options.precision == "bf16" or (options.precision == "auto" and has_bf16(device))
    best = Trained(0, -np.inf if judge else np.nan)
    kept: dict[str, Tensor] = {}
    mean = Mean(network, options.average)
    first, step = 0, 0
    saved, written = group.first(lambda: _saved(checkpoint)), time.monotonic()
    if saved is not None:
        network.load_state_dict(saved["network"])
        optimiser.load_state_dict(saved["optimiser"])
        _set_streams(saved["rng"])
        mean.load(saved["mean"])
        first, step, kept = saved["epoch"], saved["step"], saved["kept"]
        best = Trained(saved["best_epoch"], saved["best_value"])
    with run.progress("epochs", options.epochs) as advance:
        advance(first)
        for epoch in range(first, options.epochs):
            if judge and epoch - best.epochs >= options.patience and best.epochs:
                break
            network.train()
            if group.size > 1:  # dropout of its own for each, and the same after a restart
                torch.manual_seed(run.rng("dropout", str(epoch), str(group.rank)).integers(2**31))
            began, total, count = time.perf_counter(), 0.0, 0
            for batch in batches(epoch):
                for weights in optimiser.param_groups:
                    weights["lr"] = options.lr * _rate(options, epoch, step)
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    value = loss(batch)
                optimiser.zero_grad(set_to_none=True)
                value.backward()  # type: ignore[no-untyped-call]
                share = group.add(network, float(value.detach()))
                if options.clip:
                    nn.utils.clip_grad_norm_(network.parameters(), options.clip)
                optimiser.step()
                if after:
                    after(optimiser.param_groups[0]["lr"])
                total, count, step = total + share, count + 1, step + 1
                mean.add(step)
            network.eval()
            if judge:
                mean.swap()
                network.to(CPU)
                found = group.first(judge)
                if found > best.value:
                    best, kept = Trained(epoch + 1, found), copy.deepcopy(network.state_dict())
                network.to(device)
                mean.swap()
            else:
                best = Trained(epoch + 1, np.nan)
            seconds = time.perf_counter() - began
            figures = {"loss": total / max(count, 1), "seconds": seconds}
            figures["lr"] = optimiser.param_groups[0]["lr"]
            if judge:
                figures["holdout"] = found
            for name, figure in figures.items():
                run.scalar(name, figure, epoch + 1)
            due = time.monotonic() - written >= EVERY and group.rank == 0
            if checkpoint is not None and due:
                _save(checkpoint, network, mean, optimiser, epoch + 1, step, kept, best)
                written = time.monotonic()
            advance(1)
    mean.swap()
    network.eval().to(CPU)
    if kept:
        network.load_state_dict(kept)
    if checkpoint is not None and group.rank == 0:
        checkpoint.unlink(missing_ok=True)
    return best


class Mean:
    """The running mean of a network's weights (Polyak & Juditsky 1992), on the network's device;
    none with a decay of 0."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._weights, self._decay = list(network.parameters()), decay
        self.values = [w.detach().clone() for w in self._weights] if decay else []

    def load(self, values: list[Tensor]) -> None:
        """Go on from a mean that was saved."""
        for mine, saved in zip(self.values, values, strict=True):
            mine.copy_(saved)

    @torch.no_grad()
    def add(self, step: int) -> None:
        """Take in the weights after a step, counted from 1."""
        share = 1 - min(self._decay, (1 + step) / (10 + step))
        for value, weight in zip(self.values, self._weights, strict=False):
            value.lerp_(weight, share)

    def swap(self) -> None:
        """Put the mean into the network, and its weights here; or back."""
        for i, value in enumerate(self.values):
            weight = self._weights[i]
            self.values[i], weight.data = weight.data, value


@contextmanager
def deterministic() -> Iterator[None]:
    """Make sums over repeated items independent of how threads run."""
    before = torch.are_deterministic_algorithms_enabled()
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    memory.fill_uninitialized_memory = False  # a tenth of a step, to find faults of torch
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        memory.fill_uninitialized_memory = filled


def _optimiser(network: nn.Module, options: Training) -> torch.optim.Optimizer:
    weights, decay = list(network.parameters()), options.weight_decay
    if options.optimiser == "sgd":
        return torch.optim.SGD(weights, lr=options.lr, momentum=0.9, weight_decay=decay)
    kind = torch.optim.Adam if options.optimiser == "adam" else torch.optim.AdamW
    return kind(weights, lr=options.lr, weight_decay=decay, fused=True)


def _rate(options: Training, epoch: int, step: int) -> float:
    """Return the share of lr at a step."""
    rise = min(1.0, (step + 1) / options.warmup) if options.warmup else 1.0
    if options.schedule == "constant":
        return rise
    return rise * 0.5 * float(1 + np.cos(np.pi * epoch / options.epochs))


def _streams() -> list[Tensor]:
    """Return the state of torch's random numbers, of all devices."""
    return [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]


def _set_streams(states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states[1:])


def _saved(path: Path | None) -> dict[str, Any] | None:
    """Return what a checkpoint holds, None where there is none that can be read."""
    if path is None:
        return None
    try:
        found: dict[str, Any] = torch.load(path, map_location=CPU, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return None
    return found


def _save(
    path: Path, network: nn.Module, mean: Mean, optimiser: torch.optim.Optimizer, epoch: int,
    step: int, kept: dict[str, Tensor], best: Trained,
) -> None:  # fmt: skip
    """Write a checkpoint atomically."""
    part = path.with_name(f"{path.name}-{os.getpid()}.part")
    held = {
        "network": network.state_dict(), "mean": mean.values, "optimiser": optimiser.state_dict(),
        "rng": _streams(), "epoch": epoch, "step": step, "kept": kept,
        "best_epoch": best.epochs, "best_value": best.value,
    }  # fmt: skip
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            torch.save(held, file)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
