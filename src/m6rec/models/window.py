"""What follows what: decayed co-occurrence within a window of the sequence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numba import prange
from scipy.sparse import csr_array

from m6rec.arrays import Array, Ids, Mask, Scores, State
from m6rec.compiled import compiled, threads
from m6rec.data.dataset import Dataset
from m6rec.data.query import DAY, Query
from m6rec.models.additive import Additive, n_items_of
from m6rec.models.base import Recipe
from m6rec.models.kernels import CHUNKS, compact, row_of, times
from m6rec.models.nearest import from_table, push
from m6rec.tracking import Run
from m6rec.training.sequences import Scope, settled


@dataclass(frozen=True, kw_only=True)
class Window(Recipe):
    """Score an item by how often it came soon after the newest items of the sequence.

    With c_ab = Σ d^-decay over all places where b stands d ≤ width steps after a, and n_a the
    events of a: s_ab = c_ab / (n_a^source n_b^target), r̂_i = Σ_t (t + 1)^-recency s_{a_t i},
    a_t being the item t steps before the newest. Abstains without a sequence, in explicit
    domains, and where the training data has no order.

    width: steps. decay, recency: exponents. backward: weight of b before a, next to 1 of after.
    half_life: days between two events after which a pair counts half; None = time is ignored.
    source, target: how much the events of either item discount a pair.
    k: items kept for each a. scope: "all" = one sequence over all domains, "domain" = one in
    each; "auto" = "all", or "domain" where events have an order but no times. A request carries
    the newest 100 events over all domains in order, and no older ones.
    """

    kind: ClassVar[str] = "window"
    width: int = 10
    decay: float = 1.0
    recency: float = 1.0
    backward: float = 0.5
    half_life: float | None = None
    source: float = 0.4
    target: float = 0.05
    k: int = 200
    scope: Scope = "auto"

    def __post_init__(self) -> None:
        for name in ("width", "k"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: must be at least 1")
        if self.half_life is not None and self.half_life <= 0:
            raise ValueError(f"half_life = {self.half_life}: must be above 0 days")

    def fit(self, train: Dataset, run: Run) -> WindowModel:
        liked = train.take((train.weight > 0) & ~train.explicit[train.item] & train.ordered)
        sequence = liked.user.astype(np.int64)
        scope = settled(self.scope, train)
        if scope == "domain":
            sequence = sequence * train.n_domains + train.item_domain[liked.item]
        order = np.argsort(sequence, kind="stable")
        item, time, sequence = liked.item[order], liked.time[order], sequence[order]
        n = train.n_items
        count = np.bincount(item, minlength=n)
        steps = np.arange(1, self.width + 1, dtype=np.float32) ** np.float32(-self.decay)
        value, index = np.zeros((n, self.k), np.float32), np.zeros((n, self.k), np.int32)
        size = np.zeros(n, np.int64)
        arrays = (
            sequence,
            item,
            time,
            np.argsort(item, kind="stable"),
            np.r_[0, np.cumsum(count)],
            steps,
            np.float32(self.backward),
            np.float32(0 if self.half_life is None else 1 / (self.half_life * DAY)),
            np.maximum(count, 1).astype(np.float32) ** np.float32(-self.source),
            np.maximum(count, 1).astype(np.float32) ** np.float32(-self.target),
            value,
            index,
            size,
        )
        with threads(run.threads):
            _follow(*arrays)
        follow = from_table(value, index, size, n)
        fixed = replace(self, scope=scope)
        return WindowModel(fixed, train.item_domain, count > 0, follow, n)

    def restore(self, state: State) -> WindowModel:
        n = len(state["trained"])
        parts = (state["data"], state["indices"], state["indptr"])
        follow = csr_array(parts, shape=(n, n))
        domain, trained = state["item_domain"], state["trained"]
        return WindowModel(self, domain, trained, follow, n_items_of(state))


class WindowModel(Additive):
    """follow: (n, n) sparse; row a holds s_ab of the items b around a."""

    recipe: Window

    def __init__(
        self, recipe: Window, item_domain: Ids, trained: Mask, follow: csr_array, n_items: int
    ) -> None:
        self.recipe, self.item_domain, self.trained = recipe, item_domain, trained
        self.joint, self.binary = recipe.scope != "domain", False
        self.follow = compact(follow)
        self.n_items = n_items

    def inputs(self, query: Query) -> csr_array:
        """Return (B, n) recency weights of the items in the sequences."""
        n, length = query.sequence.shape
        n_items = len(self.trained)
        item = query.sequence[:, ::-1].ravel()  # newest → oldest
        row = np.repeat(np.arange(n), length)
        kept = np.flatnonzero(item >= 0)
        kept = kept[self.trained[item[kept]]]
        item, row = item[kept], row[kept]
        cell = row.astype(np.int64) * n_items + item
        negative = np.flatnonzero(query.history.data < 0)
        where = row_of(query.history)[negative].astype(np.int64) * n_items
        liked = ~np.isin(cell, where + query.history.indices[negative])
        item, row = item[liked], row[liked]
        sequence = row.astype(np.int64)
        if not self.joint:
            sequence = sequence * (int(self.item_domain.max()) + 1) + self.item_domain[item]
        order = np.argsort(sequence, kind="stable")
        item, row, sequence = item[order], row[order], sequence[order]
        age = np.arange(len(item)) - np.searchsorted(sequence, sequence)
        weight = ((age + 1.0) ** -self.recipe.recency).astype(np.float32)
        return csr_array((weight, (row, item)), shape=(n, n_items))

    def product(self, inputs: csr_array) -> Scores:
        return times(inputs, self.follow)

    def reach(self, query: Query) -> Scores:
        return self.whole(query)

    def contributions(self, inputs: csr_array, items: Ids) -> Array:
        table: Array = self.follow[inputs.indices][:, items].toarray()
        table *= inputs.data[:, None]
        return table

    def state(self) -> State:
        f = self.follow
        sparse = {"indptr": f.indptr, "indices": f.indices, "data": f.data}
        size = {"n_items": np.array([self.n_items])}
        return {"item_domain": self.item_domain, "trained": self.trained, **size, **sparse}


@compiled(parallel=True)
def _follow(  # type: ignore[no-untyped-def]
    sequence, item, time, place, first, steps, backward, rate, source, target, value, index, size
):
    n, width = len(first) - 1, len(steps)
    for chunk in prange(CHUNKS):
        total = np.zeros(n, np.float32)
        touched = np.empty(n, np.int32)
        for a in range(chunk, n, CHUNKS):
            n_touched = 0
            for o in range(first[a], first[a + 1]):
                p = place[o]
                for way in range(-width, width + 1):
                    q = p + way
                    if way == 0 or q < 0 or q >= len(item) or sequence[q] != sequence[p]:
                        continue
                    w = steps[abs(way) - 1] * (backward if way < 0 else np.float32(1))
                    if rate > 0 and time[p] >= 0 and time[q] >= 0:
                        w *= np.float32(np.exp2(-rate * abs(time[q] - time[p])))
                    b = item[q]
                    if w > 0 and total[b] == 0:
                        touched[n_touched] = b
                        n_touched += 1
                    total[b] += w
            filled = 0
            for t in range(n_touched):
                b = touched[t]
                s = total[b] * source[a] * target[b]
                total[b] = 0
                filled = push(value[a], index[a], filled, s, b)
            size[a] = filled
