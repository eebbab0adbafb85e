"""Distillation: a small student that scores as large towers do.

Most parameters of towers are the vectors of the items. The student has none of its own: an item
is a few bytes, each of which names a piece of its vector in a codebook that all items share
(product quantisation, Jégou et al. 2011; for recommenders RecJPQ, Petrov & Macdonald 2024). It
starts from its teacher, then learns the teacher's scores and what came next (Hinton et al. 2015).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from m6rec.arrays import Array, Floats, Ids, State, nest, unnest
from m6rec.data.dataset import Dataset
from m6rec.models.networks import Towers as Network
from m6rec.models.networks import from_state, to_state
from m6rec.models.pct_model import PctModel
from m6rec.models.tables import product_codes
from m6rec.models.towers import Learner, Towers, TowersModel, make_network
from m6rec.pool import Here
from m6rec.tracking import Run
from m6rec.training.loop import Training
from m6rec.training.place import beside
from m6rec.training.sequences import Batch, gaps


@dataclass(frozen=True, kw_only=True)
class Distilled(Towers):
    """Small towers that learn from large ones: the options of "towers" are the teacher's.

    pieces: bytes of an item; each names one of the pieces that make up its vector. One for each
        of its dim numbers if left out.
    levels: different pieces to choose from at each place, at most 256.
    kept_layers: of the teacher's encoder, from the first; all if left out.
    soft: share of the loss that is the teacher's scores; the rest is what came next.
    temperature: the teacher's scores are divided by it.
    student: the student's training.
    """

    kind: ClassVar[str] = "distilled"
    pieces: int | None = None
    levels: int = 256
    kept_layers: int | None = None
    soft: float = 0.5
    temperature: float = 1.0
    student: Training = field(default_factory=lambda: Training(epochs=1, lr=3e-4, average=0.995))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hybrid != "separate":
            raise ValueError(f'hybrid = "{self.hybrid}": a student has no item vectors of its own')
        if self.pieces is not None and (self.pieces < 1 or self.dim % self.pieces):
            raise ValueError(f"pieces = {self.pieces}: dim = {self.dim} must be a multiple of it")
        if not 2 <= self.levels <= 256:
            raise ValueError(f"levels = {self.levels}: must be 2 to 256")
        if self.kept_layers is not None and not 1 <= self.kept_layers <= self.layers:
            raise ValueError(f"kept_layers = {self.kept_layers}: must be 1 to {self.layers}")
        if not 0 <= self.soft <= 1:
            raise ValueError(f"soft = {self.soft}: must be 0 to 1")
        if self.temperature <= 0:
            raise ValueError(f"temperature = {self.temperature}: must be above 0")

    def fit(self, train: Dataset, run: Run) -> TowersModel:
        if self.epochs is None or not (self.pct is None or self.pct.settled(train)):
            return super().fit(train, run)  # which finds them, and comes back
        learner = Learner(self, train, run)
        learner.learn(replace(self.training, epochs=self.epochs))
        student = Student(replace(self, scope=learner.recipe.scope), learner)
        student.learn(self.student)
        return student.model()

    def restore(self, state: State) -> DistilledModel:
        weights = unnest("net", state)
        tables = (weights[n] for n in ITEMS + BIAS)
        network = small_network(self, state["sizes"], *tables)
        from_state(network, weights)
        pct = None if self.pct is None else self.pct.restore(unnest("pct", state))
        return DistilledModel(self, network, state, pct)


ITEMS = ("items.codes", "items.codebook")
BIAS = ("bias.codes", "bias.codebook")


class Coded(nn.Module):
    """A table of n rows as product codes: codes (n, m) in 0 … K-1, codebook (m, K, w)."""

    codes: Tensor
    place: Tensor

    def __init__(self, codes: Array, codebook: Floats) -> None:
        super().__init__()
        self.register_buffer("codes", torch.from_numpy(codes.copy()))
        self.register_buffer("place", torch.arange(codes.shape[1]), persistent=False)
        self.codebook = nn.Parameter(torch.from_numpy(codebook.copy()))

    def forward(self, rows: Tensor) -> Tensor:
        """Return (…, m·w) vectors of row numbers."""
        flat = self.codebook.flatten(0, 1)  # (m·K, w)
        at = self.place * self.codebook.shape[1] + self.codes[rows].long()
        return functional.embedding(at, flat).flatten(-2)


def small_network(
    recipe: Distilled, sizes: Ids, codes: Array, book: Floats, bias_codes: Array, bias_book: Floats
) -> Network:
    """Return a network of the student's shape: coded items and biases, and the layers it keeps."""
    layers = recipe.kept_layers or recipe.layers
    shape = replace(recipe, layers=layers, kept_layers=None, value_head=False)
    network = make_network(shape, np.zeros((1, 0), np.float32), np.zeros(1, np.bool_), sizes)
    network.add_module("items", Coded(codes, book))
    network.add_module("bias", Coded(bias_codes, bias_book))
    return network


class Student(Learner):
    """A small network in training on the data of its teacher."""

    def __init__(self, recipe: Distilled, teacher: Learner) -> None:
        vars(self).update(vars(teacher))  # its data, cut and described already
        self.run = replace(teacher.run.child("student"), pool=Here())  # small: not worth a cluster
        self.options = recipe
        self.teacher = teacher.model()
        rng = self.run.rng("codes")
        coded = product_codes(self.teacher.vectors, recipe.pieces or recipe.dim, recipe.levels, rng)
        bias = product_codes(self.teacher.bias[:, None], 1, recipe.levels, rng)
        torch.manual_seed(int(rng.integers(2**31)))
        self.network = small_network(recipe, self.sizes, *coded, *bias)
        own, taught = self.network.state_dict(), self.teacher.network.state_dict()
        same = {n: taught[n] for n in own if n in taught and taught[n].shape == own[n].shape}
        self.network.load_state_dict(own | same)

    def loss(self, given: tuple[Batch, np.random.Generator]) -> Tensor:
        """Return the mean over targets of the cross-entropies with the teacher's distribution
        over items of the target's domain, and with the target."""
        (batch, rng), here = given, beside(self.network)
        taught_by = self.teacher.network.to(next(self.network.parameters()).device)
        row, column = np.nonzero(batch.target >= 0)
        place = batch.target[row, column]
        target = self.pieces.item[place]
        domain = self.data.item_domain[target]
        at = here(row), here(column)
        items = here(np.maximum(batch.item, 0))
        inside = here(batch.item >= 0)[..., None]
        gap = here(gaps(batch.time))
        states = self.network.sequence(self.network.items(items) * inside, gap)[at]
        with torch.no_grad():
            seen = here(self.teacher.vectors[np.maximum(batch.item, 0)]) * inside
            taught = taught_by.sequence(seen, gap)[at]
        total = states.new_zeros(())
        for d in np.unique(domain).tolist():
            negative, expected = self.draw(d, rng)
            inside = domain == d
            rows = here(np.flatnonzero(inside))
            known = (
                here(self.user_blocks[self.told[place[inside]]]),
                here(self.latents[place[inside]]),
            )
            u = self.network.users(states[rows], *known, d)
            with torch.no_grad():
                like = taught_by.users(taught[rows], *known, d)
            part = self.compared(u, like, target[inside], negative, expected)
            total = total + part * (len(rows) / len(target))
        return total

    def compared(
        self, states: Tensor, taught: Tensor, target: Array, negative: Array, expected: Floats
    ) -> Tensor:
        """Return the loss of P states among the target of each and N negatives."""
        here = beside(self.network)
        shift = here(np.log(expected))
        place = np.full(self.data.n_items, -1)
        place[negative] = np.arange(len(negative))
        again = here(place[target])
        hit = torch.nonzero(again >= 0)[:, 0]

        def logits(
            users: Tensor, keys: Tensor, own: Tensor, bias: Tensor, own_bias: Tensor
        ) -> Tensor:
            others = torch.addmm(bias - shift, users, keys.T)
            others = others.index_put((hit, again[hit]), others.new_tensor(float("-inf")))
            return torch.cat([((users * own).sum(1) + own_bias)[:, None], others], dim=1)

        keys, bias, of = self.teacher.keys, self.teacher.bias, (target, negative)
        with torch.no_grad():
            own, others, own_bias, others_bias = (here(t[at]) for t in (keys, bias) for at in of)
            soft = logits(taught, others, own, others_bias, own_bias)
            soft = functional.softmax(soft / self.options.temperature, dim=1)
        own, others = (self.network.head.items(self.network.items(here(at))) for at in of)
        own_bias, others_bias = (self.network.bias(here(at))[:, 0] for at in of)
        given = logits(states, others, own, others_bias, own_bias)
        hard = functional.cross_entropy(given, torch.zeros_like(again))
        told = functional.log_softmax(given / self.options.temperature, dim=1)
        like = -(soft * told.clamp(min=-1e4)).sum(dim=1).mean() * self.options.temperature**2
        return self.options.soft * like + (1 - self.options.soft) * hard

    def model(self) -> DistilledModel:
        """Return the model as it stands."""
        taught = self.teacher.state()
        state = {name: taught[name] for name in ("sizes", "average", "item_domain", "known")}
        state |= nest("new", unnest("new", taught))
        state |= nest("net", to_state(self.network.eval()))
        state |= {} if self.pct is None else nest("pct", self.pct.state())
        return DistilledModel(self.options, self.network, state, self.pct)


class DistilledModel(TowersModel):
    """State: sizes, average, item_domain, known, new/ and later/ as of ``TowersModel``, and the
    weights under net/, with the codes and the codebooks of items and biases."""

    def __init__(
        self, recipe: Distilled, network: Network, state: State, pct: PctModel | None
    ) -> None:
        with torch.inference_mode():
            codes = torch.arange(len(state[f"net/{ITEMS[0]}"]))
            inner = network.items(codes)
            tables = {
                "vectors": inner.numpy().copy(),
                "keys": network.head.items(inner).numpy().copy(),
                "item_bias": network.bias(codes)[:, 0].numpy().copy(),
            }
        super().__init__(recipe, network, state | tables, pct)
        self._state = state  # the tables follow from it
