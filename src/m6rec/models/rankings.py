"""Implicit neighbours: similar items of a history, or what similar users have."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from m6rec.arrays import Array, Ids, Mask, Scores, State
from m6rec.models.additive import Additive
from m6rec.models.kernels import compact, row_of, times, transposed
from m6rec.models.nearest import Side, nearest_others, nearest_rows
from m6rec.models.ratings import Measure
from m6rec.pool import HERE, Pool


def similarities(
    rows: csr_array, measure: Measure, k: int, shrink: float = 0.0, pool: Pool = HERE
) -> csr_array:
    """Return (n, n): the k most similar other rows of each row of a positive matrix (n, m).

    Cells without an entry are zeros of the matrix; centring never makes it dense.
    """
    side, constant = _side(rows, measure, *_means(rows))
    return nearest_others(rows, k, side, side, pool, constant=constant, shrink=shrink)


def _means(rows: csr_array) -> tuple[Array, int]:
    """Return the mean of each column (m,) over the rows that have an entry, and the number of
    columns that have one: what has none is not compared."""
    told = int((np.diff(rows.indptr) > 0).sum())
    return rows.sum(axis=0) / max(told, 1), len(np.unique(rows.indices))


def _side(rows: csr_array, measure: Measure, mean: Array, width: int) -> tuple[Side, float]:
    """Return what makes x_i · x_j the similarity, and its constant; mean, width: of ``_means``.

    Pearson centres a row on its mean p: Σ (x − p)(y − q) = x·y − width p q. Adjusted cosine centres
    column c on mean_c (m,): Σ (x − mean)(y − mean) = x·y − x·mean − y·mean + mean·mean.
    """
    n = rows.shape[0]
    squares = np.bincount(row_of(rows), rows.data.astype(np.float64) ** 2, n)
    if measure == "pearson":
        product = rows.sum(axis=1) / np.sqrt(max(width, 1))
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

    def __init__(self, trained: Mask, matrix: csr_array, *, binary: bool) -> None:
        self.trained, self.matrix = trained, compact(matrix)
        self.item_domain = np.zeros(len(trained), np.int16)
        self.joint, self.binary = True, binary
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

    def __init__(
        self,
        trained: Mask,
        matrix: csr_array,
        *,
        binary: bool,
        measure: Measure,
        k: int,
        shrink: float,
    ) -> None:
        super().__init__(trained, matrix, binary=binary)
        self.measure, self.k, self.shrink = measure, k, shrink
        self.columns = transposed(matrix)
        self.means = _means(matrix)
        self.side, self.constant = _side(matrix, measure, *self.means)

    def neighbours(self, inputs: csr_array) -> csr_array:
        """Return (B, n_users) float32 similarities of the k nearest training users."""
        side, _ = _side(inputs, self.measure, *self.means)
        return nearest_rows(
            inputs,
            self.columns,
            self.k,
            side,
            self.side,
            constant=self.constant,
            shrink=self.shrink,
        )

    def product(self, inputs: csr_array) -> Scores:
        return times(self.neighbours(inputs), self.matrix)

    def contributions(self, inputs: csr_array, items: Ids) -> Array:
        near = self.neighbours(inputs)
        users = near.indices
        side, _ = _side(inputs, self.measure, *self.means)
        both = self.matrix[users][:, inputs.indices].toarray()  # (N, J)
        common = np.maximum((both > 0).sum(axis=1, keepdims=True), 1)
        h = inputs.data
        share = h / h.sum()
        part = h * both  # what each history item adds to the dot product, centred
        part -= self.side.product[users, None] * (side.product[0] * share)
        part -= share * (side.offset[0] + self.side.offset[users, None] - self.constant)
        part *= side.scale[0] * self.side.scale[users, None] * common / (common + self.shrink)
        table: Array = part.T @ self.matrix[users][:, items].toarray()
        return table
