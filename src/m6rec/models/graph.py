"""Closed-form graph filter: neighbours of neighbours, and a smooth view of the whole graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
from scipy.sparse import csr_array

from m6rec.arrays import Array, Floats, Ids, Mask, Scores, State
from m6rec.compiled import threads
from m6rec.data.dataset import Dataset
from m6rec.data.holdout import holdout
from m6rec.data.query import Query
from m6rec.data.splits import Split
from m6rec.models import scope
from m6rec.models.additive import (
    Additive,
    n_items_of,
    normalised,
    power,
    trained_items,
    training_matrix,
)
from m6rec.models.base import Recipe
from m6rec.models.grouped import Grouped
from m6rec.models.kernels import compact, parts, spread, times_gram, times_gram_at, transposed
from m6rec.models.rounded import Rounded
from m6rec.models.scope import Scope, Sources
from m6rec.models.search import AUTO, is_open, search
from m6rec.pool import HERE, Pool, cut
from m6rec.tracking import Run

EXTRA = 32  # columns beyond dim that make the randomised basis accurate
ROWS = 65_536  # whose products with the basis are held at once
GRID = {
    "user_power": (0.5, 0.3),
    "item_power": (0.5, 0.4),
    "sharpen": (2.4, 1.0, 0.0),
    "low_pass": (0.13, 0.05, 0.3),
}


@dataclass(frozen=True, kw_only=True)
class Graph(Recipe):
    """GF-CF with one blurring and one sharpening step (Shen et al. 2021, Choi et al. 2023).

    With R̃ = D_u^-user_power R D_i^-item_power and its dim greatest singular pairs (σ, V):
    r̂ = h R̃ᵀR̃ + low_pass · h D_i^-item_power V (1 − sharpen σ²) Vᵀ D_i^lift. The first term is
    exact, the second a smooth view of the whole graph; sharpen takes away what the first has
    blurred twice. GF-CF is sharpen = 0, lift = 0.5; the powers cost most and matter most where
    data is sparse. R̃ is scaled to σ_1 = 1. Options that are "auto" are chosen on a holdout of
    train. Abstains in explicit domains.

    scope: "all" = one graph of all domains; "auto" = one for each domain and its ``sources``.
    sources: domain → other domains whose history counts for it; "auto" learns those left out on a
        holdout.
    sweeps: power iterations of the randomised basis. binary: histories count as 0/1.
    """

    kind: ClassVar[str] = "graph"
    dim: int = 448
    low_pass: float | Literal["auto"] = 0.13
    sharpen: float | Literal["auto"] = 2.4
    user_power: float | Literal["auto"] = 0.5
    item_power: float | Literal["auto"] = 0.5
    lift: float = 0.5
    scope: Scope = "all"
    sources: Sources = field(default_factory=dict)
    sweeps: int = 2
    binary: bool = True

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ValueError(f"dim = {self.dim}: must be at least 1")
        if self.sweeps < 0:
            raise ValueError(f"sweeps = {self.sweeps}: must be 0 or more")

    def choose(self, split: Split, run: Run) -> Graph:
        chosen = self
        if self.scope == "auto":
            guess: dict[str, Any] = {n: GRID[n][0] for n in GRID if getattr(self, n) == AUTO}
            learned = scope.Trials(split, run).sources(replace(self, **guess))
            chosen = replace(self, sources=learned)
        return search(chosen, split, run, GRID)

    def fit(self, train: Dataset, run: Run) -> GraphModel | Grouped:
        if is_open(self, GRID):
            return self.choose(holdout(train, run.rng("holdout")), run).fit(train, run)
        if self.scope == "auto":
            return scope.fit(self, train, run)
        matrix = training_matrix(train, binary=self.binary)
        degree = np.asarray(matrix.sum(axis=0), np.float32)
        rows = normalised(matrix, float(self.user_power), float(self.item_power))
        with threads(run.threads):
            basis, singular = right_basis(rows, self.dim, self.sweeps, run.rng("graph"), run.pool)
        greatest = singular.max(initial=0) or np.float32(1)
        rows.data /= greatest
        singular /= greatest
        return GraphModel(
            self, train.item_domain, trained_items(matrix), rows, Rounded.of(basis), singular,
            degree, train.n_items,
        )  # fmt: skip

    def restore(self, state: State) -> GraphModel | Grouped:
        if self.scope == "auto":
            return scope.restore(self, state)
        parts = (state["data"], state["indices"], state["indptr"])
        n = len(state["trained"])
        rows = csr_array(parts, shape=(len(state["indptr"]) - 1, n))
        if "scale" in state:
            basis = Rounded(state["basis"], state["scale"])
        else:  # in older runs they are float32
            basis = Rounded.of(state["basis"])
        return GraphModel(
            self, state["item_domain"], state["trained"], rows, basis, state["singular"],
            state["degree"], n_items_of(state),
        )  # fmt: skip


def right_basis(
    rows: csr_array, dim: int, sweeps: int, rng: np.random.Generator, pool: Pool = HERE
) -> tuple[Floats, Floats]:
    """Return the greatest singular values and right vectors, (n, dim) and (dim,) float32.

    Randomised subspace iteration (Halko, Martinsson, Tropp 2011): each sweep multiplies a basis
    by RᵀR and makes it orthonormal again. The products are cut by columns of the basis and the
    last one by runs of ROWS rows, so that the result does not depend on the pool.
    """
    m, n = rows.shape
    width = min(dim + EXTRA, m, n)
    columns = transposed(rows)
    right, left = pool.share(rows), pool.share(columns)
    runs = [*pairwise(cut(np.ones(width), pool.size).tolist())]

    def beside(function: Callable[..., Floats], given: tuple[csr_array, ...], of: Floats) -> Floats:
        found = [*pool.map(function, ((*given, of[:, first:last]) for first, last in runs))]
        return found[0] if len(found) == 1 else np.hstack(found)

    basis = beside(spread, (left,), rng.standard_normal((m, width), dtype=np.float32))
    for _ in range(sweeps):
        basis = beside(_through, (right, left), np.linalg.qr(basis)[0])
    basis = np.linalg.qr(basis)[0]
    whole = pool.share(basis)
    moments = pool.map(_moment, ((right, first, whole) for first in range(0, m, ROWS)))
    square, turn = np.linalg.eigh(reduce(np.add, moments, np.zeros((basis.shape[1],) * 2)))
    top = np.argsort(-square)[: min(dim, width)]
    vectors = np.ascontiguousarray(basis @ turn[:, top].astype(np.float32))
    return vectors, np.sqrt(np.maximum(square[top], 0)).astype(np.float32)


def _through(rows: csr_array, columns: csr_array, basis: Floats) -> Floats:
    """RᵀR times some columns of a basis."""
    return spread(columns, spread(rows, basis))


def _moment(rows: csr_array, first: int, basis: Floats) -> Array:
    """The second moment (width, width) of a run of rows in a basis."""
    seen = spread(rows[first : first + ROWS], basis)
    return (seen.T @ seen).astype(np.float64)


class GraphModel(Additive):
    """rows: R̃ (n_users, n). basis: V (n, dim), rounded. singular: σ (dim,). degree: (n,) weight
    of each item in training."""

    def __init__(
        self,
        recipe: Graph,
        item_domain: Ids,
        trained: Mask,
        rows: csr_array,
        basis: Rounded,
        singular: Floats,
        degree: Floats,
        n_items: int,
    ) -> None:
        self.recipe, self.item_domain, self.trained = recipe, item_domain, trained
        self.joint, self.binary = True, recipe.binary
        self.rows, self.basis = compact(rows), basis
        self.singular, self.degree = singular, degree
        self.columns = compact(transposed(rows))
        self._by_row, self._by_column = parts(self.rows), parts(self.columns)
        self.n_items = n_items
        self.gain = float(recipe.low_pass) * (1 - float(recipe.sharpen) * singular**2)  # (dim,)
        self.ins = basis.scaled(power(degree, -float(recipe.item_power)))
        self.outs = basis.scaled(power(degree, recipe.lift))

    def product(self, inputs: csr_array) -> Scores:
        scores = times_gram(inputs, self._by_row, self._by_column)
        self.outs.add_products(self.ins.summed(inputs) * self.gain, scores)
        return scores

    def some(self, inputs: csr_array, items: Ids) -> Scores:
        held = self._whole.held(self, inputs)
        scores = (
            times_gram_at(inputs, self._by_row, self._by_column, items)
            if held is None
            else held[:, items]
        )
        self.outs.take(items).add_products(self.ins.summed(inputs) * self.gain, scores)
        return scores

    def embed_query(self, query: Query, domain: int) -> Floats:
        """Return (B, dim): the smooth view; the rest is in ``reach``."""
        inputs = self.read(query)
        vectors: Floats = self.ins.summed(inputs) * self.gain
        vectors[~self.active(inputs)[:, domain]] = np.nan
        return vectors

    def embed_items(self, domain: int, items: Ids | None = None) -> Floats:
        codes = np.arange(self.n_items) if items is None else items
        vectors = np.zeros((len(codes), len(self.singular)), np.float32)
        fitted = np.flatnonzero(codes < len(self.trained))
        at = fitted[self.item_domain[codes[fitted]] == domain]
        vectors[at] = self.outs.take(codes[at]).matrix
        return vectors

    def reach(self, query: Query) -> Scores:
        inputs = self.read(query)
        return self._whole.of(
            self, inputs, lambda: times_gram(inputs, self._by_row, self._by_column)
        )

    def contributions(self, inputs: csr_array, items: Ids) -> Array:
        sources = inputs.indices
        table: Array = (self.columns[sources] @ self.columns[items].T).toarray()
        table += (self.ins.take(sources).matrix * self.gain) @ self.outs.take(items).matrix.T
        table *= inputs.data[:, None]
        return table

    def state(self) -> State:
        r = self.rows
        return {
            "item_domain": self.item_domain,
            "trained": self.trained,
            "indptr": r.indptr,
            "indices": r.indices,
            "data": r.data,
            "basis": self.basis.codes,
            "scale": self.basis.scale,
            "singular": self.singular,
            "degree": self.degree,
            "n_items": np.array([self.n_items]),
        }
