"""Nearest neighbours among items or users, for rankings and for ratings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from scipy.sparse import csr_array

from m6rec.arrays import Array, Ids, Mask, Scores, State
from m6rec.data.dataset import Dataset
from m6rec.models.additive import Additive, trained_items, training_matrix
from m6rec.models.base import Recipe
from m6rec.models.kernels import similar_rows, times, transposed, use_threads
from m6rec.tracking import Run


@dataclass(frozen=True, kw_only=True)
class Neighbours(Recipe):
    """Score an item by its similarity to the history: r̂_ui = Σ_j r_uj s_ji.

    similarity: "cosine", s_ij = Σ_u r_ui r_uj / (‖r_i‖‖r_j‖); "pearson", the same around the
        mean of each item; "adjusted", around the mean of each user.
    k: neighbours of each item. shrink: s_ij is multiplied by n_ij / (n_ij + shrink), n_ij being
        the number of users that both have.
    scope: "all" = items of all domains are neighbours; "domain" = only those of one domain.
    binary: histories count as 0/1, whatever their weights.
    """

    kind: ClassVar[str] = "neighbours"
    similarity: Literal["cosine", "pearson", "adjusted"] = "cosine"
    k: int = 100
    shrink: float = 0.0
    scope: Literal["all", "domain"] = "all"
    binary: bool = False

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k = {self.k}: must be at least 1")
        if self.shrink < 0:
            raise ValueError(f"shrink = {self.shrink}: must be 0 or more")

    def fit(self, train: Dataset, run: Run) -> NeighboursModel:
        use_threads(run)
        matrix = training_matrix(train, binary=self.binary)
        group = train.item_domain if self.scope == "domain" else None
        similarity = similarities(transposed(matrix), self.similarity, self.k, self.shrink, group)
        trained = trained_items(matrix)
        return NeighboursModel(self, train.item_domain, trained, transposed(similarity))

    def restore(self, state: State) -> NeighboursModel:
        n = len(state["item_domain"])
        parts = (state["data"], state["indices"], state["indptr"])
        matrix = csr_array(parts, shape=(n, n))
        return NeighboursModel(self, state["item_domain"], state["trained"], matrix)


def similarities(
    rows: csr_array, measure: str, k: int, shrink: float = 0.0, group: Array | None = None
) -> csr_array:
    """Return (n, n): the k most similar rows of each row of a positive matrix (n, m).

    Cells without an entry are zeros of the matrix. Pearson centres each row on its mean,
    adjusted cosine each column on its mean; neither is ever made dense.
    """
    n, m = rows.shape
    squares = np.bincount(_row_of(rows), rows.data.astype(np.float64) ** 2, n)
    if measure == "pearson":
        product = rows.sum(axis=1) / np.sqrt(m)
        length = squares - product**2
        return similar_rows(
            rows, k, scale=_inverse_root(length), product=product, shrink=shrink, group=group
        )
    if measure == "adjusted":
        mean = rows.sum(axis=0) / n  # (m,) of each column
        offset = rows @ mean
        constant = float((mean**2).sum())
        length = squares - 2 * offset + constant
        return similar_rows(
            rows,
            k,
            scale=_inverse_root(length),
            offset=offset,
            constant=constant,
            shrink=shrink,
            group=group,
        )
    return similar_rows(rows, k, scale=_inverse_root(squares), shrink=shrink, group=group)


def _row_of(matrix: csr_array) -> Ids:
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def _inverse_root(values: Array) -> Array:
    positive = values > 1e-9
    root = np.zeros(len(values), np.float32)
    root[positive] = 1 / np.sqrt(values[positive])
    return root


class NeighboursModel(Additive):
    """weight: (n_items, n_items) sparse; row j holds s_ji for the items i with j as neighbour."""

    def __init__(
        self, recipe: Neighbours, item_domain: Ids, trained: Mask, weight: csr_array
    ) -> None:
        self.recipe, self.item_domain, self.trained = recipe, item_domain, trained
        self.joint, self.binary = recipe.scope == "all", recipe.binary
        self.weight = weight
        self.n_items = len(item_domain)

    def product(self, inputs: csr_array) -> Scores:
        return times(inputs, self.weight)

    def contributions(self, inputs: csr_array, items: Ids) -> Array:
        table: Array = self.weight[inputs.indices][:, items].toarray()
        table *= inputs.data[:, None]
        return table

    def state(self) -> State:
        w = self.weight
        return {
            "item_domain": self.item_domain,
            "trained": self.trained,
            "indptr": w.indptr,
            "indices": w.indices,
            "data": w.data,
        }
