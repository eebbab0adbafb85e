"""Models side by side, each of the items of some domains, with codes of its own for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from m6rec.arrays import Floats, Ids, Mask, Scores, State, nest
from m6rec.data.dataset import Dataset
from m6rec.data.query import Query
from m6rec.models.base import Embeds, Explains, Model, Reaches, Reason, Recipe
from m6rec.models.once import Once


@dataclass(frozen=True, eq=False)
class Domains:
    """Which group hears and answers what. item_domain: (n,) of the items at the fit. heard:
    (G, D) domains whose items a group's model was fitted on; answered: (G, D) those that it
    scores, each of them one of one group at most.

    A model knows its items by codes in the order of domains, and in each in their own order; one
    that hears all domains knows them as everybody does.
    """

    item_domain: Ids
    heard: Mask
    answered: Mask

    def __len__(self) -> int:
        return len(self.heard)

    @property
    def n(self) -> int:
        return len(self.item_domain)

    def whole(self, g: int) -> bool:
        return bool(self.heard[g].all())

    @cached_property
    def _order(self) -> Ids:
        """(n,) items in the order of domains."""
        order: Ids = np.argsort(self.item_domain, kind="stable").astype(np.int32)
        return order

    @cached_property
    def _start(self) -> Ids:
        """(D + 1,) where each domain begins in that order."""
        size = np.bincount(self.item_domain, minlength=self.heard.shape[1])
        start: Ids = np.r_[0, np.cumsum(size)]
        return start

    @cached_property
    def _place(self) -> Ids:
        """(n,) the place of each item in its domain."""
        place = np.empty(self.n, np.int32)
        place[self._order] = np.arange(self.n) - self._start[self.item_domain[self._order]]
        return place

    @cached_property
    def _first(self) -> Ids:
        """(G, D) a group's code of the first item of each domain that it hears."""
        size = np.where(self.heard, np.diff(self._start), 0)
        first: Ids = np.cumsum(size, axis=1) - size
        return first

    def items(self, g: int) -> Ids:
        """Return the items of a group's model, in the order of its codes."""
        if self.whole(g):
            return np.arange(self.n, dtype=np.int32)
        start = self._start
        runs = [self._order[start[d] : start[d + 1]] for d in np.flatnonzero(self.heard[g])]
        return np.concatenate([self._order[:0], *runs])

    def size(self, g: int) -> int:
        """Return the number of items of a group's model."""
        return int(np.diff(self._start)[self.heard[g]].sum())

    def inside(self, g: int, items: Ids) -> Ids:
        """Return a group's codes of items (…) of domains that it hears."""
        if self.whole(g):
            return items
        found: Ids = self._first[g][self.item_domain[items]] + self._place[items]
        return found

    def group(self, items: Ids) -> Ids:
        """Return the group that answers for each item (…); -1 where none does."""
        of_domain = np.where(self.answered.any(axis=0), self.answered.argmax(axis=0), -1)
        known = (items >= 0) & (items < self.n)
        found: Ids = np.where(known, of_domain[self.item_domain[np.where(known, items, 0)]], -1)
        return found

    def told(self, g: int, query: Query, domain: Ids) -> Query:
        """Return the histories of requests as a group's model reads them. domain: of each entry
        of the history."""
        if self.whole(g):
            return query
        history = query.history
        keep = self.heard[g][domain]
        before = np.r_[0, np.cumsum(keep)]
        inside = self.inside(g, history.indices[keep])
        made = csr_array(
            (history.data[keep], inside, before[history.indptr]), shape=(len(query), self.size(g))
        )
        made.sort_indices()
        none = {name: getattr(query, name)[:, :0] for name in ("sequence", "times", "event")}
        return replace(query, history=made, withheld=None, **none)


def grouped(recipe: Recipe, n_items: int, domains: Domains, models: Sequence[Model]) -> Grouped:
    """Return models of ``domains`` as one that embeds and reaches where all of them do."""
    kind = Grouped
    if models and all(isinstance(model, Reaches) for model in models):
        embeds = all(isinstance(model, Embeds) for model in models)
        kind = GroupedEmbeds if embeds else GroupedReaches
    return kind(recipe, n_items, domains, models)


class Grouped(Model):
    """models: one for each group of ``domains``. They sum over histories: of a request they read
    nothing else. Items that came after the fit have no model."""

    def __init__(
        self, recipe: Recipe, n_items: int, domains: Domains, models: Sequence[Model]
    ) -> None:
        self.recipe, self.n_items, self.domains = recipe, n_items, domains
        self.models: tuple[Any, ...] = tuple(models)
        self._told: list[Once[Query]] = [Once() for _ in models]
        self._known: Once[tuple[Query, Ids]] = Once()

    def told(self, g: int, query: Query) -> Query:
        """Return requests as a group's model reads them; they are made once."""
        known, domain = self._known.of(self, query, lambda: self._within(query))
        return self._told[g].of(self, query, lambda: self.domains.told(g, known, domain))

    def _within(self, query: Query) -> tuple[Query, Ids]:
        """The requests by the items of the fit, and the domain of each entry of the histories."""
        known = query.within(self.domains.n)
        return known, self.domains.item_domain[known.history.indices]

    def columns(self, codes: Ids) -> Iterator[tuple[int, Ids, Ids | None]]:
        """Yield each group that answers for some of the items (C,), where these stand, and their
        codes there; None = all its items, in order."""
        of = self.domains.group(codes)
        order = np.argsort(of, kind="stable")
        bounds = np.searchsorted(of[order], np.arange(len(self.domains) + 1))
        for g in np.flatnonzero(np.diff(bounds)).tolist():
            at = order[bounds[g] : bounds[g + 1]]
            inside = self.domains.inside(g, codes[at])
            n = self.domains.size(g)
            every = len(inside) == n and bool((inside == np.arange(n)).all())
            yield g, at, None if every else inside

    @cached_property
    def _every(self) -> list[tuple[int, Ids, Ids | None]]:
        return [*self.columns(np.arange(self.n_items, dtype=np.int32))]

    def score(self, query: Query, items: Ids | None = None) -> Scores:
        columns = self._every if items is None else self.columns(np.asarray(items))
        n = self.n_items if items is None else len(items)
        scores = None
        for g, at, inside in columns:
            found: Scores = self.models[g].score(self.told(g, query), inside)
            if len(at) == n:
                return found
            if scores is None:
                scores = np.full((len(query), n), np.nan, np.float32)
            scores[:, _run(at)] = found
        return np.full((len(query), n), np.nan, np.float32) if scores is None else scores

    def explain(self, query: Query, items: Ids) -> list[list[list[Reason]]]:
        reasons: list[list[list[Reason]]] = [[[] for _ in row] for row in items]
        group = self.domains.group(items)
        for g in np.unique(group[group >= 0]).tolist():
            model, mine, names = self.models[g], group == g, self.domains.items(g)
            if not isinstance(model, Explains):
                continue
            own = np.where(mine, self.domains.inside(g, np.where(mine, items, names[0])), -1)
            for b, row in enumerate(model.explain(self.told(g, query), own)):
                for c in np.flatnonzero(mine[b]).tolist():
                    reasons[b][c] = [
                        replace(r, item=int(names[r.item])) if r.item >= 0 else r for r in row[c]
                    ]
        return reasons

    def update(self, dataset: Dataset) -> Grouped:
        return type(self)(self.recipe, dataset.n_items, self.domains, self.models)

    def state(self) -> State:
        domains = self.domains
        state: State = {
            "n_items": np.array([self.n_items]),
            "item_domain": domains.item_domain,
            "heard": domains.heard.astype(np.int8),
            "answered": domains.answered.astype(np.int8),
        }
        for g, model in enumerate(self.models):
            state |= nest(f"group{g}", model.state())
        return state


class GroupedReaches(Grouped):
    """Whose models reach."""

    def reach(self, query: Query) -> Scores:
        found = np.zeros((len(query), self.domains.n), np.float32)
        for g, at, inside in self._every:
            scores: Scores = self.models[g].reach(self.told(g, query))
            if len(at) == self.domains.n:
                return scores
            found[:, _run(at)] = scores if inside is None else scores[:, inside]
        return found


class GroupedEmbeds(GroupedReaches):
    """Whose models embed too; vectors of all domains are as long as the longest."""

    @cached_property
    def _length(self) -> int:
        none = np.zeros(0, np.int32)
        found: list[int] = [model.embed_items(0, none).shape[1] for model in self.models]
        return max(found)

    def embed_query(self, query: Query, domain: int) -> Floats:
        g = self._group(domain)
        vectors = np.full((len(query), self._length), np.nan, np.float32)
        if g >= 0:
            found: Floats = self.models[g].embed_query(self.told(g, query), domain)
            vectors[:, : found.shape[1]] = found
            vectors[:, found.shape[1] :] = 0
        return vectors

    def embed_items(self, domain: int, items: Ids | None = None) -> Floats:
        codes = np.arange(self.n_items) if items is None else np.asarray(items)
        vectors = np.zeros((len(codes), self._length), np.float32)
        g = self._group(domain)
        at = np.flatnonzero(self.domains.group(codes) == g) if g >= 0 else codes[:0]
        at = at[self.domains.item_domain[codes[at]] == domain]
        if len(at):
            found = self.models[g].embed_items(domain, self.domains.inside(g, codes[at]))
            vectors[at, : found.shape[1]] = found
        return vectors

    def _group(self, domain: int) -> int:
        """The group that answers for a domain; -1 = none."""
        answered = self.domains.answered[:, domain]
        return int(answered.argmax()) if answered.any() else -1


def _run(at: Ids) -> Ids | slice:
    """Return increasing places as a slice, where they stand together."""
    together = int(at[-1]) - int(at[0]) + 1 == len(at)
    return slice(int(at[0]), int(at[-1]) + 1) if together else at
