"""Models whose score is a sum over history items: abstention and reasons, written once."""

from __future__ import annotations

from abc import abstractmethod
from copy import copy
from functools import cached_property
from typing import Self

import numpy as np
from numba import prange
from scipy.sparse import csr_array

from m6rec.arrays import Array, Floats, Ids, Mask, Scores, State
from m6rec.compiled import compiled
from m6rec.data.dataset import Dataset
from m6rec.data.query import Query
from m6rec.models.base import Model, Reason
from m6rec.models.kernels import row_of
from m6rec.models.once import Once

Reasons = list[list[list[Reason]]]


def training_matrix(train: Dataset, *, binary: bool) -> csr_array:
    """Return (n_users, n_items) float32 positive history weights of the implicit domains."""
    return positive(train.matrix, ~train.explicit, binary)


def trained_items(matrix: csr_array) -> Mask:
    """Return (n_items,) items with at least one entry."""
    trained: Mask = np.bincount(matrix.indices, minlength=matrix.shape[1]) > 0
    return trained


def positive(history: csr_array, allowed: Mask, binary: bool) -> csr_array:
    """Return the entries above 0 in the allowed columns, as 1 where ``binary``; same shape."""
    keep = (history.data > 0) & allowed[history.indices]
    before = np.r_[0, np.cumsum(keep)]
    data = np.ones(before[-1], np.float32) if binary else history.data[keep].astype(np.float32)
    parts = (data, history.indices[keep], before[history.indptr])
    return csr_array(parts, shape=history.shape)


def power(values: Array, exponent: float) -> Floats:
    """Return values^exponent, 0 where a value is 0."""
    raised: Floats = np.where(values > 0, np.maximum(values, 1e-12) ** exponent, 0)
    return raised.astype(np.float32)


def normalised(matrix: csr_array, user_power: float, item_power: float) -> csr_array:
    """Return D_u^-user_power R D_i^-item_power, degrees being sums of weights."""
    of_user = power(matrix.sum(axis=1), -user_power)
    of_item = power(matrix.sum(axis=0), -item_power)
    data = matrix.data * np.repeat(of_user, np.diff(matrix.indptr)) * of_item[matrix.indices]
    parts = (data.astype(np.float32), matrix.indices, matrix.indptr)
    return csr_array(parts, shape=matrix.shape)


def only(matrix: csr_array, allowed: Mask) -> csr_array:
    """Return the entries in the allowed columns, zeros kept; same shape."""
    keep = allowed[matrix.indices]
    before = np.r_[0, np.cumsum(keep)]
    parts = (matrix.data[keep], matrix.indices[keep], before[matrix.indptr])
    return csr_array(parts, shape=matrix.shape)


def widened(scores: Scores, n_items: int) -> Scores:
    """Return (B, n_items) scores: NaN in what columns are missing at the end."""
    if scores.shape[1] == n_items:
        return scores
    wide = np.full((len(scores), n_items), np.nan, np.float32)
    wide[:, : scores.shape[1]] = scores
    return wide


def n_items_of(state: State) -> int:
    """Return the number of items of a saved model; older runs do not say it and have no more
    than they were fitted on."""
    return int(state["n_items"][0]) if "n_items" in state else len(state["trained"])


class Additive(Model):
    """A model with score(q)_i = Σ_j contribution of history item j to item i.

    item_domain: (n,) domain codes of the items that it was fitted on. trained: (n,) those that
    it knows; it abstains on the others, and on what came later, and leaves them out of histories.
    n_items: n, or more after an update. joint: history of any domain counts for all; otherwise
    the model abstains in domains where the history is empty.
    """

    item_domain: Ids
    trained: Mask
    joint: bool
    binary: bool

    @abstractmethod
    def product(self, inputs: csr_array) -> Scores:
        """Return the (B, n) sums for histories (B, n)."""

    @abstractmethod
    def contributions(self, inputs: csr_array, items: Ids) -> Array:
        """Return (J, C): what each of the J entries of one history (1, n) adds to each of the
        ``items`` (C,)."""

    def inputs(self, query: Query) -> csr_array:
        """Return the (B, n) float32 histories that the model sums over."""
        return positive(query.history, self.trained, self.binary)

    @cached_property
    def _once(self) -> Once[csr_array]:
        return Once()

    def read(self, query: Query) -> csr_array:
        """Return the ``inputs``, of the items that it was fitted on; they are made once."""
        return self._once.of(self, query, lambda: self.inputs(query.within(len(self.trained))))

    def score(self, query: Query, items: Ids | None = None) -> Scores:
        inputs = self.read(query)
        active = self.active(inputs)
        if items is None:
            scores = self.product(inputs)
            _silence(scores, active, self.group, self.trained)
            return widened(scores, self.n_items)
        fitted = np.asarray(items) < len(self.trained)
        safe = np.where(fitted, items, 0)
        scores = self.some(inputs, safe)
        scores[~(active[:, self.group[safe]] & self.trained[safe] & fitted)] = np.nan
        return scores

    def some(self, inputs: csr_array, items: Ids) -> Scores:
        """Return the sums (B, C) of these items; a model may do better than to make all."""
        held = self._whole.held(self, inputs)
        return (self.product(inputs) if held is None else held)[:, items]

    @cached_property
    def _whole(self) -> Once[Scores]:
        return Once()

    def whole(self, query: Query) -> Scores:
        """Return the sums (B, n) for all items; they serve ``some`` of the same query too."""
        inputs = self.read(query)
        return self._whole.of(self, inputs, lambda: self.product(inputs))

    def update(self, dataset: Dataset) -> Self:
        longer = copy(self)
        longer.n_items = dataset.n_items
        return longer

    @cached_property
    def _n_domains(self) -> int:
        return int(self.item_domain.max(initial=0)) + 1

    @property
    def group(self) -> Ids:
        """(n,) the items of which a history says something, or nothing, together: a domain."""
        return self.item_domain

    def active(self, inputs: csr_array) -> Mask:
        """Return the groups (B, D) of whose items that it knows the model says something."""
        n = inputs.shape[0]
        has = np.zeros((n, self._n_domains), np.bool_)
        has[row_of(inputs), self.item_domain[inputs.indices]] = True
        if self.joint:
            has[:] = has.any(axis=1, keepdims=True)
        return has

    def explain(self, query: Query, items: Ids) -> Reasons:
        inputs = self.read(query)
        active = self.active(inputs)
        reasons: Reasons = []
        for b, row in enumerate(np.asarray(items)):
            one = inputs[[b]]
            fitted = (row >= 0) & (row < len(self.trained))
            safe = np.where(fitted, row, 0)
            silent = ~(fitted & self.trained[safe] & active[b, self.group[safe]])
            table = self.contributions(one, safe)
            reasons.append(
                [
                    [] if silent[c] else history_reasons(one.indices, table[:, c])
                    for c in range(len(row))
                ]
            )
        return reasons


@compiled(parallel=True)
def _silence(scores, active, group, trained):  # type: ignore[no-untyped-def]
    for b in prange(scores.shape[0]):
        for i in range(scores.shape[1]):
            if not (trained[i] and active[b, group[i]]):
                scores[b, i] = np.nan


def history_reasons(items: Ids, values: Array) -> list[Reason]:
    """Return one reason per history item whose contribution is not 0, greatest first."""
    order = np.argsort(-np.abs(values), kind="stable")
    return [
        Reason(kind="history", value=float(values[j]), item=int(items[j]))
        for j in order
        if values[j] != 0
    ]
