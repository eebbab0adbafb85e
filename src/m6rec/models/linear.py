"""EASE: closed-form item-item regression, solved on the smaller side (Steck, WWW 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np
from scipy.linalg import cholesky, lapack
from scipy.sparse import csr_array, hstack

from m6rec.arrays import Array, Floats, Ids, Mask, Scores, State, nest, unnest
from m6rec.compiled import threads
from m6rec.data.dataset import Dataset
from m6rec.data.holdout import holdout
from m6rec.data.splits import Split
from m6rec.errors import ConfigError
from m6rec.models import scope
from m6rec.models.additive import Additive, n_items_of, trained_items, training_matrix
from m6rec.models.base import Recipe
from m6rec.models.grouped import Grouped
from m6rec.models.kernels import compact, times, transposed
from m6rec.models.scope import Scope, Sources
from m6rec.models.search import AUTO, is_open, search
from m6rec.tracking import Run

BLOCK = 1024  # rows or columns handled at a time
GRID = {"reg": (500.0, 200.0, 1000.0, 50.0, 2000.0)}


@dataclass(frozen=True, kw_only=True)
class Linear(Recipe):
    """Predict a history from itself by ridge regression without a diagonal.

    Abstains in explicit domains.

    reg: λ, added to the diagonal of the Gram matrix; "auto" = chosen on a holdout of train, with
        scope "auto" for each domain.
    regs: domain → its own λ, with scope "auto".
    scope: "all" = one regression over all domains; "domain" = one for each; "auto" = one for each
        and its ``sources``.
    sources: domain → other domains whose history counts for it; "auto" learns those left out on a
        holdout.
    top: keep only this many of the largest |weights| towards each item; None = all.
    binary: histories count as 0/1, whatever their weights.
    precision: of the inversion; "float32" halves memory and time.
    max_memory_gb: refuse to fit above this.
    """

    kind: ClassVar[str] = "linear"
    reg: float | Literal["auto"] = 500.0
    regs: Mapping[str, float] = field(default_factory=dict)
    scope: Scope = "all"
    sources: Sources = field(default_factory=dict)
    top: int | None = None
    binary: bool = True
    precision: Literal["float32", "float64"] = "float64"
    max_memory_gb: float = 16.0

    def __post_init__(self) -> None:
        for reg in (self.reg, *self.regs.values()):
            if reg != AUTO and float(reg) <= 0:
                raise ValueError(f"reg = {reg}: must be above 0")
        if self.regs and self.scope != "auto":
            raise ValueError(f'regs with scope = "{self.scope}": give reg, or scope = "auto"')
        if self.top is not None and self.top < 1:
            raise ValueError(f"top = {self.top}: must be at least 1")

    def choose(self, split: Split, run: Run) -> Linear:
        if self.scope != "auto":
            return search(self, split, run, GRID)
        usual = GRID["reg"][0] if self.reg == AUTO else self.reg
        chosen = replace(self, reg=usual)
        trials = scope.Trials(split, run)
        chosen = replace(chosen, sources=trials.sources(chosen))
        if self.reg != AUTO:
            return chosen
        found = trials.each(chosen, "reg", GRID["reg"])
        return replace(chosen, regs=found | dict(self.regs))

    def fit(self, train: Dataset, run: Run) -> LinearModel | Grouped:
        if is_open(self, GRID):
            return self.choose(holdout(train, run.rng("holdout")), run).fit(train, run)
        if self.scope == "auto":
            return scope.fit(self, train, run)
        matrix = training_matrix(train, binary=self.binary)
        trained = trained_items(matrix)
        joint = self.scope == "all"
        group = np.zeros_like(train.item_domain) if joint else train.item_domain
        blocks = []
        n_groups = int(group.max(initial=0)) + 1
        with threads(run.threads), run.progress("regression", n_groups) as step:
            for code in range(n_groups):
                items = np.flatnonzero(trained & (group == code))
                if len(items):
                    blocks.append(_solve(self, matrix, items))
                step(1)
        return LinearModel(self, train.item_domain, trained, tuple(blocks), train.n_items)

    def restore(self, state: State) -> LinearModel | Grouped:
        if self.scope == "auto":
            return scope.restore(self, state)
        n_blocks = len({name.split("/")[0] for name in state if name.startswith("block")})
        blocks = tuple(_block(unnest(f"block{b}", state)) for b in range(n_blocks))
        domain, trained = state["item_domain"], state["trained"]
        return LinearModel(self, domain, trained, blocks, n_items_of(state))


class ItemSide:
    """A dense (n, n) weight matrix among the n items of a block."""

    def __init__(self, items: Ids, weight: Floats) -> None:
        self.items, self.weight = items, weight

    def product(self, inputs: csr_array) -> Scores:
        out: Scores = inputs @ self.weight
        return out

    def weights(self, sources: Ids, targets: Ids) -> Array:
        out: Array = self.weight[np.ix_(sources, targets)]
        return out

    def state(self) -> State:
        return {"items": self.items, "weight": self.weight}


class SparseSide:
    """The largest weights towards each of the n items of a block, sparse (n, n)."""

    def __init__(self, items: Ids, weight: csr_array) -> None:
        self.items, self.weight = items, weight

    def product(self, inputs: csr_array) -> Scores:
        return times(inputs, self.weight)

    def weights(self, sources: Ids, targets: Ids) -> Array:
        out: Array = self.weight[sources][:, targets].toarray()
        return out

    def state(self) -> State:
        w = self.weight
        return {"items": self.items, "indptr": w.indptr, "indices": w.indices, "data": w.data}


class UserSide:
    """Low-memory form for m users < n items: B = I − (I − XᵀK⁻¹X) / (λ diag P).

    rows: X (m, n). inverse: K⁻¹ (m, m) with K = XXᵀ + λI. scale: (n,) 1 / (λ diag P).
    """

    def __init__(self, items: Ids, rows: csr_array, inverse: Floats, scale: Floats) -> None:
        self.items, self.rows = items, compact(rows)
        self.inverse, self.scale = inverse, scale
        self.columns = transposed(rows)

    def product(self, inputs: csr_array) -> Scores:
        overlap = times(inputs, self.columns)  # (B, m)
        fitted: Scores = (self.columns @ (overlap @ self.inverse).T).T  # (B, n)
        plain = inputs.toarray()
        scores: Scores = (plain - (plain - fitted) * self.scale).astype(np.float32)
        return scores

    def weights(self, sources: Ids, targets: Ids) -> Array:
        fitted = self.columns[sources] @ (self.inverse @ self.rows[:, targets].toarray())
        same = (np.asarray(sources)[:, None] == targets).astype(np.float32)
        weights: Array = same - (same - fitted) * self.scale[targets]
        return weights

    def state(self) -> State:
        x = self.rows
        sparse = {"indptr": x.indptr, "indices": x.indices, "data": x.data}
        return {"items": self.items, "inverse": self.inverse, "scale": self.scale, **sparse}


Block = ItemSide | SparseSide | UserSide


class LinearModel(Additive):
    """blocks: one regression for each group of items; between blocks, weights are 0."""

    def __init__(
        self, recipe: Linear, item_domain: Ids, trained: Mask, blocks: tuple[Block, ...],
        n_items: int,
    ) -> None:  # fmt: skip
        self.recipe, self.item_domain, self.trained = recipe, item_domain, trained
        self.joint, self.binary = recipe.scope == "all", recipe.binary
        self.blocks = blocks
        self.n_items = n_items

    def product(self, inputs: csr_array) -> Scores:
        scores = np.zeros(inputs.shape, np.float32)
        for block in self.blocks:
            scores[:, block.items] = block.product(inputs[:, block.items])
        return scores

    def contributions(self, inputs: csr_array, items: Ids) -> Array:
        table = np.zeros((inputs.nnz, len(items)))
        for block in self.blocks:
            place = np.full(len(self.trained), -1)
            place[block.items] = np.arange(len(block.items))
            source, target = place[inputs.indices], place[items]
            j, c = np.flatnonzero(source >= 0), np.flatnonzero(target >= 0)
            table[np.ix_(j, c)] = block.weights(source[j], target[c])
        table *= inputs.data[:, None]
        return table

    def state(self) -> State:
        state: State = {"item_domain": self.item_domain, "trained": self.trained}
        state["n_items"] = np.array([self.n_items])
        for b, block in enumerate(self.blocks):
            state |= nest(f"block{b}", block.state())
        return state


def _block(state: State) -> Block:
    items = state["items"]
    if "weight" in state:
        return ItemSide(items, state["weight"])
    sparse = (state["data"], state["indices"], state["indptr"])
    n = len(items)
    if "inverse" not in state:
        return SparseSide(items, csr_array(sparse, shape=(n, n)))
    inverse = state["inverse"]
    return UserSide(items, csr_array(sparse, shape=(len(inverse), n)), inverse, state["scale"])


def _solve(recipe: Linear, matrix: csr_array, items: Ids) -> Block:
    """Fit one block on the smaller Gram side."""
    x = matrix[:, items]
    x = x[np.flatnonzero(np.diff(x.indptr))]
    m, n = x.shape
    side = min(m, n)
    dtype = np.dtype(recipe.precision)
    need = side * side * (dtype.itemsize + 4) / 2**30
    if need > recipe.max_memory_gb:
        raise ConfigError(
            f'"linear" needs {need:.1f} GB for {m:,} users × {n:,} items, above max_memory_gb = '
            f'{recipe.max_memory_gb:g}; use scope = "domain", precision = "float32", '
            'kind = "graph", or raise max_memory_gb'
        )
    columns = transposed(x)
    by_item = n <= m
    gram = times(columns, x) if by_item else times(x, columns)
    inverse = _inverse(gram.astype(dtype, copy=False), float(recipe.reg))
    if by_item:
        inverse /= -np.diag(inverse)
        np.fill_diagonal(inverse, 0)
        weight = inverse.astype(np.float32, copy=False)
        return ItemSide(items, weight) if recipe.top is None else _sparsified(recipe, items, weight)
    diagonal = np.empty(n)
    for start in range(0, n, BLOCK):  # x_jᵀ K⁻¹ x_j
        part = columns[start : start + BLOCK]
        diagonal[start : start + BLOCK] = part.multiply(part @ inverse).sum(axis=1)
    scale = (1 / np.maximum(1 - diagonal, 1e-9)).astype(np.float32)
    block = UserSide(items, x, inverse.astype(np.float32, copy=False), scale)
    return block if recipe.top is None else _sparsified(recipe, items, block)


def _inverse(gram: Array, reg: float) -> Array:
    """Return (gram + reg I)⁻¹ by Cholesky, in the memory of gram."""
    gram[np.diag_indices_from(gram)] += reg
    try:
        factor = cholesky(gram.T, lower=True, overwrite_a=True, check_finite=False)
    except np.linalg.LinAlgError:
        raise ConfigError(
            f'"linear" cannot invert its Gram matrix with reg = {reg:g} in {gram.dtype}; '
            'raise reg, or use precision = "float64"'
        ) from None
    potri = lapack.dpotri if factor.dtype == np.float64 else lapack.spotri
    inverse, _ = potri(factor, lower=True, overwrite_c=True)
    for start in range(0, len(inverse), BLOCK):  # only its lower triangle is filled
        rows = slice(start, start + BLOCK)
        corner = np.tril(inverse[rows, rows])
        inverse[rows, rows] = corner + np.tril(corner, -1).T
        inverse[rows, start + BLOCK :] = inverse[start + BLOCK :, rows].T
    return np.ascontiguousarray(inverse.T)


def _sparsified(recipe: Linear, items: Ids, source: Floats | UserSide) -> SparseSide:
    """Keep the largest ``top`` |weights| towards each item, some columns at a time."""
    assert recipe.top is not None
    n = len(items)
    every = np.arange(n)
    kept = []
    for start in range(0, n, BLOCK):
        target = every[start : start + BLOCK]
        part = (
            source[:, target] if isinstance(source, np.ndarray) else source.weights(every, target)
        )
        part = part.copy()
        part[target, np.arange(len(target))] = 0
        top = min(recipe.top, n)
        rows = np.argpartition(-np.abs(part), top - 1, axis=0)[:top]  # (top, columns)
        data = np.take_along_axis(part, rows, axis=0).astype(np.float32)
        column = np.broadcast_to(np.arange(len(target)), rows.shape)
        kept.append(csr_array((data.ravel(), (rows.ravel(), column.ravel())), shape=part.shape))
    weight = csr_array(hstack(kept, format="csr"))
    weight.sort_indices()
    return SparseSide(items, weight)
