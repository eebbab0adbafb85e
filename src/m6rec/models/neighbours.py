"""Nearest neighbours among items or users, for rankings and for ratings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from scipy.sparse import csr_array

from m6rec.arrays import Array, Ids, Mask, Scores, State, nest, unnest
from m6rec.data.dataset import Dataset
from m6rec.data.query import Query
from m6rec.models.additive import Additive, Reasons, training_matrix
from m6rec.models.base import Model, Recipe
from m6rec.models.kernels import Side, nearest_rows, row_of, times, transposed, use_threads
from m6rec.models.ratings import Measure, Rating, Ratings, only
from m6rec.tracking import Run


@dataclass(frozen=True, kw_only=True)
class Neighbours(Recipe):
    """Score an item by similar items in the history, or by what similar users have.

    Implicit domains, by item: r̂_ui = Σ_j r_uj s_ji; by user: r̂_ui = Σ_v s_uv r_vi. Explicit
    domains: r̂_ui = b_ui + Σ s (r − b) / Σ s over the k nearest that have a rating (Koren 2010).

    by: what is compared; users are compared by the history in the query.
    similarity: "cosine", s_ij = Σ_u r_ui r_uj / (‖r_i‖‖r_j‖); "pearson", around the mean of
        each of the two; "adjusted", around the mean of the other side (of each user, for items);
        "baseline", around b_ui (explicit domains; the same as "cosine" in implicit ones). In
        explicit domains all but cosine sum over what both have rated.
    k: neighbours; in explicit domains, those averaged for one prediction.
    pool: in explicit domains, the nearest rows among which the k are looked for.
    shrink: s_ij is multiplied by n_ij / (n_ij + shrink), n_ij being what both have in common.
    reg_item, reg_user: ratings of no bias that each bias is averaged with.
    scope: "all" = history of all domains counts; "domain" = only that of the item's domain.
    binary: implicit histories count as 0/1, whatever their weights.
    """

    kind: ClassVar[str] = "neighbours"
    by: Literal["item", "user"] = "item"
    similarity: Measure = "cosine"
    k: int = 100
    pool: int = 1000
    shrink: float = 0.0
    reg_item: float = 10.0
    reg_user: float = 15.0
    scope: Literal["all", "domain"] = "all"
    binary: bool = False

    def __post_init__(self) -> None:
        for name in ("k", "pool"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: must be at least 1")
        for name in ("shrink", "reg_item", "reg_user"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} = {getattr(self, name)}: must be 0 or more")

    def fit(self, train: Dataset, run: Run) -> NeighboursModel:
        use_threads(run)
        liked = training_matrix(train, binary=self.binary)
        parts: list[Part] = []
        for group in self._groups(train):
            if (mask := group & ~train.explicit).any():
                parts.append(self._ranking(only(liked, mask)))
            if (mask := group & train.explicit).any():
                parts.append(Ratings.fit(only(train.matrix, mask), self._rating()))
        return NeighboursModel(self, train.n_items, tuple(parts))

    def restore(self, state: State) -> NeighboursModel:
        n_items = int(state["n_items"][0])
        parts: list[Part] = []
        while part := unnest(f"part{len(parts)}", state):
            if "rated" in part:
                parts.append(Ratings.restore(self._rating(), part))
            else:
                sparse = (part["data"], part["indices"], part["indptr"])
                matrix = csr_array(sparse, shape=(len(part["indptr"]) - 1, n_items))
                kind = ItemRanking if self.by == "item" else UserRanking
                parts.append(kind(self, part["trained"], matrix))
        return NeighboursModel(self, n_items, tuple(parts))

    def _groups(self, train: Dataset) -> list[Mask]:
        """Return the masks (n_items,) of items that are modelled together."""
        if self.scope == "all":
            return [np.ones(train.n_items, np.bool_)]
        return [train.item_domain == domain for domain in range(train.n_domains)]

    def _rating(self) -> Rating:
        return Rating(
            by=self.by,
            measure=self.similarity,
            k=self.k,
            pool=self.pool,
            shrink=self.shrink,
            reg_item=self.reg_item,
            reg_user=self.reg_user,
        )

    def _ranking(self, matrix: csr_array) -> ItemRanking | UserRanking:
        trained = np.bincount(matrix.indices, minlength=matrix.shape[1]) > 0
        if self.by == "user":
            return UserRanking(self, trained, matrix)
        similar = similarities(transposed(matrix), self.similarity, self.k, self.shrink)
        return ItemRanking(self, trained, transposed(similar))


def similarities(rows: csr_array, measure: Measure, k: int, shrink: float = 0.0) -> csr_array:
    """Return (n, n): the k most similar other rows of each row of a positive matrix (n, m).

    Cells without an entry are zeros of the matrix; centring never makes it dense.
    """
    side, constant = _side(rows, measure, rows.sum(axis=0) / rows.shape[0])
    columns = transposed(rows)
    return nearest_rows(
        rows, columns, k, side, side, constant=constant, shrink=shrink, itself=False
    )


def _side(rows: csr_array, measure: Measure, mean: Array) -> tuple[Side, float]:
    """Return what makes x_i · x_j the similarity, and its constant.

    Pearson centres a row on its mean p: Σ (x − p)(y − q) = x·y − m p q. Adjusted cosine centres
    column c on mean_c (m,): Σ (x − mean)(y − mean) = x·y − x·mean − y·mean + mean·mean.
    """
    n, m = rows.shape
    squares = np.bincount(row_of(rows), rows.data.astype(np.float64) ** 2, n)
    if measure == "pearson":
        product = rows.sum(axis=1) / np.sqrt(m)
        return Side.of(_inverse_root(squares - product**2), product=product), 0.0
    if measure == "adjusted":
        offset, constant = rows @ mean, float((mean**2).sum())
        return Side.of(_inverse_root(squares - 2 * offset + constant), offset=offset), constant
    return Side.of(_inverse_root(squares)), 0.0


def _inverse_root(values: Array) -> Array:
    root: Array = np.where(values > 1e-9, np.maximum(values, 1e-9) ** -0.5, 0)
    return root


class _Ranking(Additive):
    """The implicit half: one group of items whose histories count for each other."""

    recipe: Neighbours

    def __init__(self, recipe: Neighbours, trained: Mask, matrix: csr_array) -> None:
        self.recipe, self.trained, self.matrix = recipe, trained, matrix
        self.item_domain = np.zeros(len(trained), np.int16)
        self.joint, self.binary = True, recipe.binary
        self.covers = trained
        self.n_items = len(trained)

    def state(self) -> State:
        m = self.matrix
        sparse = {"indptr": m.indptr, "indices": m.indices, "data": m.data}
        return {"trained": self.trained, **sparse}


class ItemRanking(_Ranking):
    """matrix: (n_items, n_items); row j holds s_ji for the items i with j as neighbour."""

    def product(self, inputs: csr_array) -> Scores:
        return times(inputs, self.matrix)

    def contributions(self, inputs: csr_array, items: Ids) -> Array:
        table: Array = self.matrix[inputs.indices][:, items].toarray()
        table *= inputs.data[:, None]
        return table


class UserRanking(_Ranking):
    """matrix: (n_users, n_items) training histories; neighbours are found per query."""

    def __init__(self, recipe: Neighbours, trained: Mask, matrix: csr_array) -> None:
        super().__init__(recipe, trained, matrix)
        self.columns = transposed(matrix)
        self.mean = matrix.sum(axis=0) / matrix.shape[0]  # (n_items,)
        self.side, self.constant = _side(matrix, recipe.similarity, self.mean)

    def neighbours(self, inputs: csr_array) -> csr_array:
        """Return (B, n_users) float32 similarities of the k nearest training users."""
        side, _ = _side(inputs, self.recipe.similarity, self.mean)
        return nearest_rows(
            inputs,
            self.columns,
            self.recipe.k,
            side,
            self.side,
            constant=self.constant,
            shrink=self.recipe.shrink,
        )

    def product(self, inputs: csr_array) -> Scores:
        return times(self.neighbours(inputs), self.matrix)

    def contributions(self, inputs: csr_array, items: Ids) -> Array:
        near = self.neighbours(inputs)
        users = near.indices
        side, _ = _side(inputs, self.recipe.similarity, self.mean)
        both = self.matrix[users][:, inputs.indices].toarray()  # (N, J)
        common = np.maximum((both > 0).sum(axis=1, keepdims=True), 1)
        h = inputs.data
        share = h / h.sum()
        part = h * both  # what each history item adds to the dot product, centred
        part -= self.side.product[users, None] * (side.product[0] * share)
        part -= share * (side.offset[0] + self.side.offset[users, None] - self.constant)
        part *= (
            side.scale[0] * self.side.scale[users, None] * common / (common + self.recipe.shrink)
        )
        table: Array = part.T @ self.matrix[users][:, items].toarray()
        return table


Part = ItemRanking | UserRanking | Ratings


class NeighboursModel(Model):
    """parts: one for each group of items, implicit or explicit; each item has one at most."""

    def __init__(self, recipe: Neighbours, n_items: int, parts: tuple[Part, ...]) -> None:
        self.recipe, self.n_items, self.parts = recipe, n_items, parts

    def score(self, query: Query, items: Ids | None = None) -> Scores:
        scores = np.full((len(query), self.n_items), np.nan, np.float32)
        for part in self.parts:
            scores[:, part.covers] = part.score(query)[:, part.covers]
        return scores if items is None else scores[:, items]

    def explain(self, query: Query, items: Ids) -> Reasons:
        reasons: Reasons = [[[] for _ in row] for row in items]
        for part in self.parts:
            own = np.where((items >= 0) & part.covers[items], items, -1)
            for b, row in enumerate(part.explain(query, own)):
                reasons[b] = [new or old for new, old in zip(row, reasons[b], strict=True)]
        return reasons

    def state(self) -> State:
        state: State = {"n_items": np.array([self.n_items])}
        for p, part in enumerate(self.parts):
            state |= nest(f"part{p}", part.state())
        return state
