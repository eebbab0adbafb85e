"""Rating prediction from neighbours around a baseline of item and user biases (Koren, 2010)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
from scipy.sparse import csr_array

from m6rec.arrays import Array, Floats, Ids, Mask, Scores, State
from m6rec.data.query import Query
from m6rec.models.additive import Reasons, history_reasons, only
from m6rec.models.base import Reason
from m6rec.models.kernels import (
    Side,
    greatest,
    nearest_rated,
    nearest_rows,
    row_of,
    transposed,
    weighted_means,
)

SWEEPS = 10  # of alternating least squares between user and item biases
Measure = Literal["cosine", "pearson", "adjusted", "baseline"]


@dataclass(frozen=True, kw_only=True)
class Rating:
    """How neighbours are found and averaged; see the options of ``Neighbours``."""

    by: Literal["item", "user"]
    measure: Measure
    k: int
    pool: int
    shrink: float
    reg_item: float
    reg_user: float


@dataclass(frozen=True, eq=False)
class Baseline:
    """b_ui = item_i + user_u, least squares; the user part is solved from a history.

    item: (n_items,) float32 mean of all ratings + item bias. mean: (n_items,) mean rating.
    rated: (n_items,) items with ratings. scale: (2,) least and greatest rating. reg_user:
    ratings of no bias that each user is averaged with.
    """

    item: Floats
    mean: Floats
    rated: Mask
    scale: Floats
    reg_user: float

    @classmethod
    def fit(cls, ratings: csr_array, reg_item: float, reg_user: float) -> Self:
        """Alternate between the biases of users and items."""
        item, value, n = ratings.indices, ratings.data, ratings.shape[1]
        count = np.bincount(item, minlength=n)
        mean = float(value.mean()) if len(value) else 0.0
        row = row_of(ratings)
        scale = np.array([value.min(), value.max()] if len(value) else [0, 0], np.float32)
        of_item = (np.bincount(item, value, n) / np.maximum(count, 1)).astype(np.float32)
        base = cls(np.full(n, mean, np.float32), of_item, count > 0, scale, reg_user)
        for _ in range(SWEEPS):
            left = value - mean - base.user(ratings)[row]
            bias = np.bincount(item, left, n) / (count + reg_item + 1e-9)
            base = replace(base, item=(mean + bias).astype(np.float32))
        return base

    def user(self, ratings: csr_array) -> Floats:
        """Return (B,) user biases of the rating histories (B, n_items)."""
        left = ratings.data - self.item[ratings.indices]
        total = np.bincount(row_of(ratings), left, ratings.shape[0])
        bias = total / (np.diff(ratings.indptr) + self.reg_user + 1e-9)
        user: Floats = bias.astype(np.float32)
        return user

    def residual(self, ratings: csr_array) -> csr_array:
        """Return the ratings less their baseline."""
        base = self.item[ratings.indices] + self.user(ratings)[row_of(ratings)]
        return with_data(ratings, ratings.data - base)


def with_data(matrix: csr_array, data: Array) -> csr_array:
    """Return a matrix of the same pattern with other values, zeros kept."""
    return csr_array((data.astype(np.float32), matrix.indices, matrix.indptr), shape=matrix.shape)


def compared(ratings: csr_array, how: Rating, base: Baseline) -> csr_array:
    """Return the values that similarities are taken of.

    cosine: ratings as they are. baseline: around b_ui. pearson: around the mean of what is
    compared (item or user), adjusted: around the mean of the other side.
    """
    if how.measure == "cosine":
        return ratings
    if how.measure == "baseline":
        return base.residual(ratings)
    if (how.measure == "pearson") == (how.by == "item"):
        return with_data(ratings, ratings.data - base.mean[ratings.indices])
    row = row_of(ratings)
    total = np.bincount(row, ratings.data, ratings.shape[0])
    mean = total / np.maximum(np.diff(ratings.indptr), 1)
    return with_data(ratings, ratings.data - mean[row])


def nearest(
    left: csr_array, columns: csr_array, how: Rating, k: int, *, itself: bool = True
) -> csr_array:
    """Return (B, n): the k most similar columns of (m, n) for each row of left (B, m)."""
    if how.measure != "cosine":
        return nearest_rated(left, columns, k, shrink=how.shrink, itself=itself)
    n, m = left.shape[0], columns.shape[1]
    squares = (
        np.bincount(row_of(left), left.data.astype(float) ** 2, n),
        np.bincount(columns.indices, columns.data.astype(float) ** 2, m),
    )
    a, b = (Side.of(1 / np.sqrt(np.maximum(square, 1e-9))) for square in squares)
    return nearest_rows(left, columns, k, a, b, shrink=how.shrink, itself=itself)


class Ratings:
    """r̂_ui = b_ui + Σ s (r − b) / Σ s over the k nearest neighbours, inside the rating scale.

    By item, matrix (n_items, n_items): row j holds s_ij of the items i with j as neighbour.
    By user, matrix (n_users, n_items): the training ratings; neighbours are found per query.
    """

    def __init__(self, how: Rating, base: Baseline, matrix: csr_array) -> None:
        self.how, self.base, self.matrix = how, base, matrix
        self.covers = base.rated
        if how.by == "user":
            self.columns = transposed(compared(matrix, how, base))
            self.residual = base.residual(matrix)

    @classmethod
    def fit(cls, ratings: csr_array, how: Rating) -> Ratings:
        """Fit on the ratings (n_users, n_items); items without any are not covered."""
        base = Baseline.fit(ratings, how.reg_item, how.reg_user)
        if how.by == "user":
            return cls(how, base, ratings)
        values = compared(ratings, how, base)
        near = nearest(transposed(values), values, how, how.pool, itself=False)
        return cls(how, base, transposed(near))

    @classmethod
    def restore(cls, how: Rating, state: State) -> Ratings:
        n = len(state["item"])
        item, mean, rated, scale = (state[name] for name in ("item", "mean", "rated", "scale"))
        base = Baseline(item, mean, rated, scale, how.reg_user)
        parts = (state["data"], state["indices"], state["indptr"])
        return cls(how, base, csr_array(parts, shape=(len(state["indptr"]) - 1, n)))

    def state(self) -> State:
        m = self.matrix
        sparse = {"indptr": m.indptr, "indices": m.indices, "data": m.data}
        b = self.base
        base = {"item": b.item, "mean": b.mean, "rated": b.rated, "scale": b.scale}
        return {**base, **sparse}

    def score(self, query: Query, items: Ids) -> Scores:
        """Return (B, C) predicted ratings of the items (C,), NaN where nothing is known."""
        ratings = only(query.history, self.covers)
        left, right = self._terms(ratings)
        by_item = self.how.by == "item"
        total, weight = weighted_means(left, right, self.how.k, value_left=by_item)
        total /= np.maximum(weight, 1e-9)
        total += self.base.item
        total += self.base.user(ratings)[:, None]
        np.clip(total, *self.base.scale, out=total)
        total[np.diff(ratings.indptr) == 0] = np.nan
        total[:, ~self.covers] = np.nan
        return total[:, items]

    def _terms(self, ratings: csr_array) -> tuple[csr_array, csr_array]:
        """Return the pairs to average: (B, m) and (m, n_items) of similarities and residuals."""
        if self.how.by == "item":
            return self.base.residual(ratings), self.matrix
        values = compared(ratings, self.how, self.base)
        return nearest(values, self.columns, self.how, self.how.pool), self.residual

    def explain(self, query: Query, items: Ids) -> Reasons:
        ratings = only(query.history, self.covers)
        bias = self.base.user(ratings)
        left, right = self._terms(ratings)
        reasons: Reasons = []
        for b, row in enumerate(np.asarray(items)):
            one, rated = left[[b]], ratings.indptr[b + 1] > ratings.indptr[b]
            block = right[one.indices]
            reasons.append(
                [
                    self._cell(int(i), float(bias[b]), one, block) if known else []
                    for i, known in zip(row, rated & (row >= 0) & self.covers[row], strict=True)
                ]
            )
        return reasons

    def _cell(self, i: int, bias: float, left: csr_array, block: csr_array) -> list[Reason]:
        column = block[:, [i]].tocoo()
        source, entry = column.coords[0], column.data
        by_item = self.how.by == "item"
        s, x = (entry, left.data[source]) if by_item else (left.data[source], entry)
        near = greatest(s, self.how.k)
        share = s[near] * x[near] / max(float(s[near].sum()), 1e-9)
        reasons = [
            Reason(kind="bias", value=float(self.base.item[i]), item=i, name="item"),
            Reason(kind="bias", value=bias, name="user"),
        ]
        if by_item:
            reasons += history_reasons(left.indices[source[near]], share)
        else:
            name = f"{len(near)} similar users"
            reasons.append(Reason(kind="other", value=float(share.sum()), name=name))
        told = sum(reason.value for reason in reasons)
        inside = float(np.clip(told, *self.base.scale))
        if inside != told:
            name = "limits of the rating scale"
            reasons.append(Reason(kind="other", value=inside - told, name=name))
        return reasons
