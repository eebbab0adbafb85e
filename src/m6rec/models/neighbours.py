"""Nearest neighbours among items or users, for rankings and for ratings."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np
from scipy.sparse import csr_array

from m6rec.arrays import Array, Ids, Mask, Scores, State, nest, unnest
from m6rec.compiled import threads
from m6rec.data.dataset import Dataset
from m6rec.data.query import Query
from m6rec.data.splits import Split
from m6rec.models import scope
from m6rec.models.additive import Reasons, normalised, only, power, trained_items, training_matrix
from m6rec.models.base import Model, Recipe
from m6rec.models.grouped import Grouped
from m6rec.models.kernels import transposed
from m6rec.models.nearest import Side, nearest_others
from m6rec.models.rankings import ItemRanking, UserRanking, similarities
from m6rec.models.ratings import Measure, Rating, Ratings
from m6rec.models.scope import Scope, Sources
from m6rec.pool import Pool
from m6rec.tracking import Run

ALIKE = 0.25  # of the wider of two rating scales, by which their ends may differ


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
    scope: "all" = history of all domains counts; "domain" = only that of the item's domain; "auto"
        = also that of the domains in ``sources``.
    sources: domain → other domains whose history counts for it; "auto" learns those left out on a
        holdout.
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
    scope: Scope = "all"
    sources: Sources = field(default_factory=dict)
    binary: bool = False

    def __post_init__(self) -> None:
        for name in ("k", "pool"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: must be at least 1")
        for name in ("shrink", "reg_item", "reg_user"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} = {getattr(self, name)}: must be 0 or more")

    def choose(self, split: Split, run: Run) -> Neighbours:
        if self.scope != "auto":
            return self
        return replace(self, sources=scope.Trials(split, run).sources(self))

    def fit(self, train: Dataset, run: Run) -> NeighboursModel | Grouped:
        if self.scope == "auto":
            return scope.fit(self, train, run)
        liked = training_matrix(train, binary=self.binary)
        parts: list[Part] = []
        with threads(run.threads):
            for group in item_groups(train, self.scope):
                if (mask := group & ~train.explicit).any():
                    parts.append(self._ranking(only(liked, mask), run.pool))
                for mask in same_scale(train, group & train.explicit):
                    parts.append(Ratings.fit(only(train.matrix, mask), self._rating()))
        return NeighboursModel(self, train.n_items, tuple(parts))

    def restore(self, state: State) -> NeighboursModel | Grouped:
        if self.scope == "auto":
            return scope.restore(self, state)
        parts = [
            Ratings.restore(self._rating(), part)
            if "rated" in part
            else self._restored(*ranking_of(part))
            for part in parts_of(state)
        ]
        return NeighboursModel(self, int(state["n_items"][0]), tuple(parts))

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

    def _ranking(self, matrix: csr_array, pool: Pool) -> ItemRanking | UserRanking:
        if self.by == "item":
            rows = transposed(matrix)
            near = similarities(rows, self.similarity, self.k, self.shrink, pool)
            return self._restored(trained_items(matrix), transposed(near))
        return self._restored(trained_items(matrix), matrix)

    def _restored(self, trained: Mask, matrix: csr_array) -> ItemRanking | UserRanking:
        if self.by == "item":
            return ItemRanking(trained, matrix, binary=self.binary)
        return UserRanking(
            trained,
            matrix,
            binary=self.binary,
            measure=self.similarity,
            k=self.k,
            shrink=self.shrink,
        )


@dataclass(frozen=True, kw_only=True)
class RP3Beta(Recipe):
    """RP³β: a walk user → item → user → item, discounted by popularity (Paudel et al. 2017).

    s_ji = Σ_u (1/n_j)^alpha (1/n_u)^alpha / n_i^beta over users u of both; the k greatest from
    each item are kept. Abstains in explicit domains.

    scope: "all" = walks cross domains; "domain" = each domain alone.
    binary: histories count as 0/1, whatever their weights.
    """

    kind: ClassVar[str] = "rp3beta"
    alpha: float = 0.7
    beta: float = 0.4
    k: int = 300
    scope: Literal["all", "domain"] = "all"
    binary: bool = True

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k = {self.k}: must be at least 1")

    def fit(self, train: Dataset, run: Run) -> NeighboursModel:
        liked = training_matrix(train, binary=self.binary)
        with threads(run.threads):
            groups = item_groups(train, self.scope)
            parts = [self._walk(only(liked, group), run.pool) for group in groups]
        return NeighboursModel(self, train.n_items, tuple(parts))

    def restore(self, state: State) -> NeighboursModel:
        parts = [
            ItemRanking(trained, matrix, binary=self.binary)
            for trained, matrix in map(ranking_of, parts_of(state))
        ]
        return NeighboursModel(self, int(state["n_items"][0]), tuple(parts))

    def _walk(self, matrix: csr_array, pool: Pool) -> ItemRanking:
        rows = transposed(normalised(matrix, self.alpha / 2, 0.0))  # (n_items, n_users)
        degree = matrix.sum(axis=0)
        source, target = Side.of(power(degree, -self.alpha)), Side.of(power(degree, -self.beta))
        near = nearest_others(rows, self.k, source, target, pool)
        return ItemRanking(trained_items(matrix), near, binary=self.binary)


def item_groups(train: Dataset, scope: str) -> list[Mask]:
    """Return the masks (n_items,) of items that are modelled together."""
    if scope == "all":
        return [np.ones(train.n_items, np.bool_)]
    return [train.item_domain == domain for domain in range(train.n_domains)]


def same_scale(train: Dataset, mask: Mask) -> list[Mask]:
    """Return the masks (n_items,) of rated items whose domains have about the same least and
    greatest rating: biases in stars say nothing of a percentage."""
    found: list[tuple[Array, Mask]] = []
    for domain in np.unique(train.item_domain[mask]).tolist():
        items = mask & (train.item_domain == domain)
        ratings = train.matrix.data[items[train.matrix.indices]]
        if not len(ratings):
            continue
        ends = np.array([ratings.min(), ratings.max()], np.float64)
        for other, together in found:
            apart = np.abs(ends - other).max()
            if apart <= ALIKE * max(np.ptp(ends), np.ptp(other)):
                together |= items
                break
        else:
            found.append((ends, items))
    return [items for _, items in found]


def parts_of(state: State) -> list[State]:
    """Return the states of the parts, in order."""
    n = len({name.split("/")[0] for name in state if "/" in name})
    return [unnest(f"part{p}", state) for p in range(n)]


def ranking_of(state: State) -> tuple[Mask, csr_array]:
    """Return the trained items and the matrix of an implicit part."""
    trained, indptr = state["trained"], state["indptr"]
    sparse = (state["data"], state["indices"], indptr)
    return trained, csr_array(sparse, shape=(len(indptr) - 1, len(trained)))


Part = ItemRanking | UserRanking | Ratings


class NeighboursModel(Model):
    """parts: one for each group of items, implicit or explicit; each item has one at most, those
    that came after the fit have none."""

    def __init__(self, recipe: Recipe, n_items: int, parts: tuple[Part, ...]) -> None:
        self.recipe, self.n_items, self.parts = recipe, n_items, parts
        self.n_fitted = len(parts[0].covers) if parts else n_items

    def score(self, query: Query, items: Ids | None = None) -> Scores:
        query = query.within(self.n_fitted)
        codes = np.arange(self.n_items) if items is None else np.asarray(items)
        scores = np.full((len(query), len(codes)), np.nan, np.float32)
        fitted = codes < self.n_fitted
        for part in self.parts:
            at = np.flatnonzero(fitted & part.covers[np.where(fitted, codes, 0)])
            if len(at):
                scores[:, at] = part.score(query, codes[at])
        return scores

    def reach(self, query: Query) -> Scores:
        query = query.within(self.n_fitted)
        found = np.zeros((len(query), self.n_fitted), np.float32)
        for part in self.parts:
            if not isinstance(part, Ratings):
                found += part.whole(query)
        return found

    def update(self, dataset: Dataset) -> NeighboursModel:
        return NeighboursModel(self.recipe, dataset.n_items, self.parts)

    def explain(self, query: Query, items: Ids) -> Reasons:
        reasons: Reasons = [[[] for _ in row] for row in items]
        query = query.within(self.n_fitted)
        items = np.where(items < self.n_fitted, items, -1)
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
