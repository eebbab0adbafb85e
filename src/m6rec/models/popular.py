"""Popularity, overall or per domain, of all time or recent; the fallback of every other model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from m6rec.arrays import Array, Floats, Ids, Scores, State
from m6rec.data.dataset import Dataset
from m6rec.data.query import DAY, Query
from m6rec.models.base import Model, Reason, Recipe
from m6rec.tracking import Run


@dataclass(frozen=True, kw_only=True)
class Popular(Recipe):
    """Score every item by ln(1 + its users); in explicit domains, by its shrunk mean rating.

    scope: "all" = counts as they are, so that items of busy domains come first; "domain" =
        ln((1 + n_i) / Σ (1 + n_j)) over the domain of i: the log-popularity prior, the same
        footing for every domain.
    half_life: days after which an event counts half (recent popularity); None = all of time.
    shrink: ratings of the domain mean that each explicit item is averaged with.
    """

    kind: ClassVar[str] = "popular"
    scope: Literal["all", "domain"] = "all"
    half_life: float | None = None
    shrink: float = 10.0

    def __post_init__(self) -> None:
        if self.half_life is not None and self.half_life <= 0:
            raise ValueError(f"half_life = {self.half_life}: must be above 0 days")
        if self.shrink < 0:
            raise ValueError(f"shrink = {self.shrink}: must be 0 or more")

    def fit(self, train: Dataset, run: Run) -> PopularModel:
        if self.half_life is None or train.now < 0:
            item, weight = train.positives.indices, np.ones(train.positives.nnz)
        else:
            liked = train.take(train.weight > 0)
            item = liked.item
            weight = np.exp2(-(train.now - liked.time).clip(0) / DAY / self.half_life)
        count = 1.0 + np.bincount(item, weight, train.n_items)
        if self.scope == "domain":
            total = np.bincount(train.item_domain, count, train.n_domains)
            count /= total[train.item_domain]
            new = -np.log(np.maximum(total, 1.0))
        else:
            new = np.zeros(train.n_domains)
        score = np.log(count)
        if train.explicit.any():
            rated, unrated = _mean_rating(train, self.shrink)
            explicit = np.array([d.feedback == "explicit" for d in train.domains])
            score = np.where(train.explicit, rated, score)
            new = np.where(explicit, unrated, new)
        return PopularModel(self, score.astype(np.float32), new.astype(np.float32))

    def restore(self, state: State) -> PopularModel:
        return PopularModel(self, state["popularity"], state.get("new"))


def _mean_rating(train: Dataset, shrink: float) -> tuple[Array, Array]:
    """(n_items,) mean rating, shrunk towards the mean of the item's domain; and (D,) what that
    is without a rating."""
    item, value = train.positives.indices, train.positives.data
    n, total = np.bincount(item, minlength=train.n_items), np.bincount(item, value, train.n_items)
    n_domain = np.bincount(train.item_domain, n, train.n_domains)
    mean = np.bincount(train.item_domain, total, train.n_domains) / np.maximum(n_domain, 1)
    shrunk = (total + shrink * mean[train.item_domain]) / np.maximum(n + shrink, 1e-9)
    return shrunk, shrink * mean / max(shrink, 1e-9)


class PopularModel(Model):
    """popularity: (n_items,) float32, the same for every query. new: (D,) float32, that of an
    item without events in each domain; None = the least of all, as in older runs."""

    def __init__(self, recipe: Recipe, popularity: Floats, new: Floats | None = None) -> None:
        self.recipe = recipe
        self.popularity, self.new = popularity, new
        self.n_items = len(popularity)

    def score(self, query: Query, items: Ids | None = None) -> Scores:
        row = self.popularity if items is None else self.popularity[items]
        return np.broadcast_to(row, (len(query), len(row))).copy()

    def embed_query(self, query: Query, domain: int) -> Floats:
        return np.ones((len(query), 1), np.float32)

    def embed_items(self, domain: int, items: Ids | None = None) -> Floats:
        row = self.popularity if items is None else self.popularity[items]
        return row[:, None]

    def state(self) -> State:
        new = {} if self.new is None else {"new": self.new}
        return {"popularity": self.popularity, **new}

    def update(self, dataset: Dataset) -> PopularModel:
        domain = dataset.item_domain[self.n_items :]
        least = np.float32(self.popularity.min(initial=0))
        new = np.full(len(domain), least) if self.new is None else self.new[domain]
        return PopularModel(self.recipe, np.concatenate([self.popularity, new]), self.new)

    def explain(self, query: Query, items: Ids) -> list[list[list[Reason]]]:
        return [
            [
                [Reason(kind="popularity", value=float(self.popularity[i]))] if i >= 0 else []
                for i in row
            ]
            for row in items
        ]
