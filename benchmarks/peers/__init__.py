"""What every peer is given and gives back. Imported in each peer's own environment, so it needs
numpy and scipy alone.

A peer is a module with ``MODELS``, a table of name → ``Space``, and ``fit(model, train, options,
seed)``, which returns ``score(users, items) -> (B, C)`` or, where the task is "rating",
``predict(user, item) -> (N,)``. A peer sees no test event and computes no metric.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

Options = dict[str, Any]
Score = Callable[[np.ndarray, np.ndarray], np.ndarray]
CELLS = 10_000_000  # scores that a batch holds at once


@dataclass(frozen=True)
class Space:
    """The values that a search may take for each option, the library's own default first.

    random: whether a fit depends on its seed. task: "ranking" or "rating". ordered: whether the
    model needs events in the order of time. largest: items up to which an items × items matrix
    is affordable.
    """

    options: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    random: bool = False
    task: str = "ranking"
    ordered: bool = False
    largest: int | None = None

    def trials(self, n: int, rng: np.random.Generator) -> list[Options]:
        """Return n different settings, or all there are: the defaults first, then at random."""
        every = [dict(zip(self.options, v, strict=True)) for v in self.values()]
        order = np.r_[0, 1 + rng.permutation(len(every) - 1)][:n]
        return [every[i] for i in order]

    def fits(self, n_items: int) -> bool:
        """Whether so many items are affordable."""
        return self.largest is None or n_items <= self.largest

    def values(self) -> list[tuple[Any, ...]]:
        return list(itertools.product(*self.options.values()))


@dataclass(frozen=True, eq=False)
class Train:
    """user, item, rating: (N,) events to learn from, oldest first within each user.

    n_users, n_items: sizes of the code spaces; codes may be without events. name, stage: of the
    set, and which part of it is learned from.
    """

    user: np.ndarray
    item: np.ndarray
    rating: np.ndarray
    n_users: int
    n_items: int
    name: str
    stage: str

    @cached_property
    def matrix(self) -> csr_matrix:
        """(n_users, n_items) float32, 1 for each item of a user."""
        ones = np.ones(len(self.user), np.float32)
        shape = (self.n_users, self.n_items)
        matrix = csr_matrix((ones, (self.user, self.item)), shape=shape)
        matrix.data[:] = 1  # a repeated event is one
        return matrix


def factors(users: np.ndarray, items: np.ndarray) -> Score:
    """Return the score of factor models: users (n_users, d), items (n_items, d)."""
    return lambda user, item: users[user] @ items[item].T


def neighbours(matrix: csr_matrix, weights: Any) -> Score:
    """Return the score of item-item models: weights (n_items, n_items), dense or sparse."""

    def score(user: np.ndarray, item: np.ndarray) -> np.ndarray:
        found = matrix[user] @ weights[:, item]
        return found.toarray() if hasattr(found, "toarray") else np.asarray(found)

    return score


def scores(score: Score, train: Train, users: np.ndarray, items: np.ndarray) -> Any:
    """Yield (B, C) float32 scores in batches; who is known nothing of is answered by popularity.

    An item of the user's train has −inf; where a model scores all items alike, or abstains,
    popularity in train takes over, which keeps an unknown user from being ranked by code.
    """
    popular = np.bincount(train.item, minlength=train.n_items)[items]
    popular = popular.astype(np.float32) / max(popular.max(), 1)
    size = max(1, CELLS // len(items))
    for start in range(0, len(users), size):
        some = users[start : start + size]
        found = np.array(score(some, items), np.float32)
        told = np.fmax.reduce(found, axis=1) > np.fmin.reduce(found, axis=1)  # not with NaN alone
        found[~told] = popular
        found[np.isnan(found)] = -np.inf
        found[train.matrix[some][:, items].nonzero()] = -np.inf
        yield found


def lists(found: np.ndarray, k: int) -> np.ndarray:
    """Return (B, k) columns of the greatest scores, best first; −1 where fewer are left."""
    k = min(k, found.shape[1])
    near = np.argpartition(-found, k - 1, axis=1)[:, :k]
    value = np.take_along_axis(found, near, axis=1)
    order = np.argsort(-value, axis=1, kind="stable")
    near, value = (np.take_along_axis(a, order, axis=1) for a in (near, value))
    return np.where(np.isneginf(value), -1, near).astype(np.int32)
