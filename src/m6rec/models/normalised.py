"""Ratings on a scale of each user, item or domain: a wrapper around any model of ratings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from scipy.sparse import csr_array

from m6rec.arrays import Array, Floats, Ids, Mask, Scores, State, nest, unnest
from m6rec.data.dataset import Dataset
from m6rec.data.normalise import KNOTS, By, Doubles, Kind, Normaliser
from m6rec.data.query import Query
from m6rec.data.splits import Split
from m6rec.models.base import Explains, Model, Reason, Recipe, updated
from m6rec.models.kernels import row_of
from m6rec.tracking import Run

SAMPLE = 1001  # quantiles that stand for all ratings of a domain


@dataclass(frozen=True, kw_only=True)
class Normalised(Recipe):
    """Fit a model to normalised ratings, and turn its scores back into ratings.

    z = (r − centre) / scale within a group of ratings (see ``Normaliser``), told to the part
    as mean + deviation · z of the domain, so that its options keep their meaning. Ratings of a
    user are normalised by the history in the query, so a new user is no exception. Implicit
    domains pass through.

    part: the model. scale: "center", "zscore", "minmax", "log", "quantile" or "none".
    by: "user" = within a user's ratings in a domain; "item"; "global" = within a domain.
    """

    kind: ClassVar[str] = "normalised"
    part: Recipe
    scale: Kind = "zscore"
    by: By = "user"

    def choose(self, split: Split, run: Run) -> Self:
        scales = Scales.fit(self, split.train)
        known = scales.of(split.context.matrix)
        train, test, context = (
            scales.told(data, known if data is not split.train else None)
            for data in (split.train, split.test, split.context)
        )
        inner = replace(split, train=train, test=test, context=context)
        return replace(self, part=self.part.choose(inner, run))

    def fit(self, train: Dataset, run: Run) -> NormalisedModel:
        scales = Scales.fit(self, train)
        part = self.part.fit(scales.told(train), run)
        return NormalisedModel(replace(self, part=part.recipe), part, scales)

    def restore(self, state: State) -> NormalisedModel:
        part = self.part.restore(unnest("part", state))
        return NormalisedModel(self, part, Scales(self.scale, self.by, unnest("scales", state)))


class Scales:
    """State: item_domain, explicit (n_items,), sample (D, SAMPLE) quantiles of each domain's
    ratings, and center, scale (G,), knots (G, …) of the groups: items, or domains."""

    def __init__(self, kind: Kind, by: By, state: State) -> None:
        self.kind, self.by, self.state = kind, by, state
        self.item_domain: Ids = state["item_domain"]
        self.explicit: Mask = state["explicit"]
        self.sample: Doubles = state["sample"]
        self.mean = self.sample.mean(axis=1)
        deviation = self.sample.std(axis=1)
        self.deviation = np.where(deviation > 1e-6, deviation, 1.0)

    @classmethod
    def fit(cls, recipe: Normalised, train: Dataset) -> Self:
        """Fit on the ratings of train."""
        ratings = train.matrix
        sample = np.zeros((train.n_domains, SAMPLE))
        for d in range(train.n_domains):
            inside = (train.item_domain == d) & train.explicit
            found = ratings.data[inside[ratings.indices]]
            if len(found):
                sample[d] = np.quantile(found, np.linspace(0, 1, SAMPLE))
        state: State = {
            "item_domain": train.item_domain, "explicit": train.explicit, "sample": sample,
        }  # fmt: skip
        found = cls(recipe.scale, recipe.by, state)
        if recipe.by != "user":
            state |= found.rows(found.groups(ratings), ratings, found.n_groups(ratings)).state()
        return found

    def extended(self, dataset: Dataset) -> Scales:
        """Return the scales with the new items of a dataset, which have no ratings."""
        first = len(self.item_domain)
        state: State = {
            "item_domain": dataset.item_domain, "explicit": dataset.explicit, "sample": self.sample,
        }  # fmt: skip
        if self.by == "item":
            own: State = {name: state[name][first:] for name in ("item_domain", "explicit")}
            new = Scales(self.kind, self.by, own | {"sample": self.sample})
            n = dataset.n_items - first
            nothing = csr_array(np.zeros((0, n), np.float32))
            found = new.rows(np.zeros(0, np.int64), nothing, n).state()
            state |= {n: np.concatenate([self.state[n][:-1], rows]) for n, rows in found.items()}
        return Scales(self.kind, self.by, state)

    def n_groups(self, ratings: csr_array) -> int:
        domains = len(self.sample)
        sizes = {"user": ratings.shape[0] * domains, "item": ratings.shape[1], "global": domains}
        return sizes[self.by]

    def groups(self, ratings: csr_array) -> Ids:
        """Return the group of each entry (nnz,)."""
        return self.group(row_of(ratings), ratings.indices)

    def group(self, row: Ids, item: Ids) -> Ids:
        """Return the groups of cells."""
        if self.by == "item":
            return np.broadcast_to(item, np.broadcast_shapes(row.shape, item.shape))
        domain = self.item_domain[item]
        return row * len(self.sample) + domain if self.by == "user" else domain + 0 * row

    def of(self, ratings: csr_array) -> Normaliser:
        """Return the normaliser of a batch of histories (B, n_items)."""
        if self.by == "user":
            return self.rows(self.groups(ratings), ratings, self.n_groups(ratings))
        return Normaliser.restore(self.kind, self.state)

    def rows(self, group: Ids, ratings: csr_array, n: int) -> Normaliser:
        """Fit the groups of entries, each with its domain as what holds where it says nothing."""
        domain = self.item_domain[ratings.indices]
        explicit = self.explicit[ratings.indices]
        width = KNOTS if self.kind == "quantile" else 0
        center, scale, knots = np.zeros(n + 1), np.ones(n + 1), np.zeros((n + 1, width))
        for d in range(len(self.sample)):
            inside = explicit & (domain == d)
            found = Normaliser.fit(
                ratings.data[inside], self.kind, group[inside], n, self.sample[d]
            )
            mine = self.owner(n) == d
            for whole, part in ((center, found.center), (scale, found.scale), (knots, found.knots)):
                whole[:-1][mine] = part[:-1][mine]
        return Normaliser(kind=self.kind, center=center, scale=scale, knots=knots)

    def owner(self, n: int) -> Ids:
        """Return the domain of each group (n,)."""
        return self.item_domain if self.by == "item" else np.arange(n) % len(self.sample)

    def apply(self, normaliser: Normaliser, row: Ids, item: Ids, value: Array) -> Doubles:
        """Return ratings (N,) as they are told to the part; of implicit items, as given."""
        domain = self.item_domain[item]
        z = normaliser.apply(value, self.group(row, item))
        return np.where(self.explicit[item], self.mean[domain] + self.deviation[domain] * z, value)

    def inverse(self, normaliser: Normaliser, row: Ids, item: Ids, told: Array) -> Doubles:
        """Return the ratings (N,) of what the part says; they may leave the rating scale."""
        domain = self.item_domain[item]
        z = (np.asarray(told, np.float64) - self.mean[domain]) / self.deviation[domain]
        return np.where(self.explicit[item], normaliser.inverse(z, self.group(row, item)), told)

    def limited(self, item: Ids, ratings: Array) -> Array:
        """Return ratings kept within what train has of the domain."""
        domain = self.item_domain[item]
        inside = ratings.clip(self.sample[domain, 0], self.sample[domain, -1])
        return np.where(self.explicit[item], inside, ratings)

    def told(self, data: Dataset, normaliser: Normaliser | None = None) -> Dataset:
        """Return events as the part is told them, by default with the scales of their own users."""
        known = self.of(data.matrix) if normaliser is None else normaliser
        value = self.apply(known, data.user, data.item, data.weight)
        return replace(data, weight=value.astype(np.float32))

    def asked(self, query: Query, normaliser: Normaliser) -> Query:
        """Return the requests as the part is told them."""
        h = query.history
        value = self.apply(normaliser, row_of(h), h.indices, h.data).astype(np.float32)
        return replace(query, history=csr_array((value, h.indices, h.indptr), shape=h.shape))


class NormalisedModel(Model):
    """A part that knows normalised ratings only. State: that of the part and of ``Scales``."""

    recipe: Normalised

    def __init__(self, recipe: Normalised, part: Model, scales: Scales) -> None:
        self.recipe, self.part, self.scales = recipe, part, scales
        self.n_items = part.n_items

    def state(self) -> State:
        return nest("part", self.part.state()) | nest("scales", self.scales.state)

    def update(self, dataset: Dataset) -> NormalisedModel:
        part = updated(self.part, dataset)
        return NormalisedModel(self.recipe, part, self.scales.extended(dataset))

    def score(self, query: Query, items: Ids | None = None) -> Scores:
        codes = np.arange(self.n_items) if items is None else np.asarray(items)
        normaliser = self.scales.of(query.history)
        told = self.part.score(self.scales.asked(query, normaliser), items)
        row = np.repeat(np.arange(len(query)), len(codes))
        item = np.tile(codes, len(query))
        found = self.scales.inverse(normaliser, row, item, told.ravel())
        limited: Floats = self.scales.limited(item, found).astype(np.float32)
        return limited.reshape(told.shape)

    def explain(self, query: Query, items: Ids) -> list[list[list[Reason]]]:
        """Turn the part's reasons into rating units, along the straight line from what it would
        mean if the part said 0."""
        if not isinstance(self.part, Explains):
            return [[[] for _ in row] for row in items]
        normaliser = self.scales.of(query.history)
        reasons = self.part.explain(self.scales.asked(query, normaliser), items)
        for b, row in enumerate(reasons):
            for c, told in enumerate(row):
                if told:
                    row[c] = self._turned(normaliser, b, int(items[b, c]), told)
        return reasons

    def _turned(self, normaliser: Normaliser, b: int, i: int, told: list[Reason]) -> list[Reason]:
        row, item = np.full(2, b), np.full(2, i)
        score = sum(reason.value for reason in told)
        start, end = self.scales.inverse(normaliser, row, item, np.array([0.0, score]))
        slope = (end - start) / score if score else 0.0
        found = [replace(reason, value=float(reason.value * slope)) for reason in told]
        found.append(Reason(kind="bias", value=float(start), name="scale of the ratings"))
        rest = float(self.scales.limited(item[:1], np.array([end]))[0] - end)
        if rest:
            found.append(Reason(kind="other", value=rest, name="limits of the rating scale"))
        return found
