"""Which domains' histories a model sums over: for each domain, those that help on a holdout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, Literal

import numpy as np

from m6rec.arrays import Array, Ids, Mask, Scores, State, nest, unnest
from m6rec.data.dataset import Dataset
from m6rec.data.query import Query
from m6rec.data.splits import Split, holdout
from m6rec.models.base import Explains, Model, Reason, Recipe, updated
from m6rec.models.popular import Popular
from m6rec.models.transfer import SOURCES, SURE, Judge, gain, likely_sources
from m6rec.tracking import Run

Scope = Literal["all", "domain", "auto"]
Sources = Mapping[str, tuple[str, ...]]  # domain → other domains whose histories count for it


def fit(recipe: Any, train: Dataset, run: Run) -> Grouped:
    """Fit a recipe of scope = "auto" once for each set of domains that are heard together."""
    if any(d.name not in recipe.sources for d in train.domains):
        learned = learn(recipe, holdout(train, run.rng("holdout")), run)
        return fit(replace(recipe, sources=learned), train, run)
    parts, own = [], getattr(recipe, "regs", {})
    for heard, answered in groups(train, recipe.sources, own):
        rows = heard[train.item]
        if rows.any():
            domain = train.domains[train.item_domain[np.argmax(answered)]].name
            one = inside(recipe, domain)
            parts.append((one.fit(train if rows.all() else train.take(rows), run), answered))
    return Grouped(recipe, train.n_items, parts)


def restore(recipe: Any, state: State) -> Grouped:
    one, n = inside(recipe), len({name.split("/")[0] for name in state if "/" in name})
    parts = [(one.restore(unnest(f"group{g}", state)), state[f"answered{g}"] > 0) for g in range(n)]
    return Grouped(recipe, int(state["n_items"][0]), parts)


def inside(recipe: Any, domain: str = "") -> Recipe:
    """Return the recipe of one group, with what a domain of it has for its own."""
    own: dict[str, Any] = {}
    if hasattr(recipe, "regs"):
        own = {"reg": recipe.regs.get(domain, recipe.reg), "regs": {}}
    one: Recipe = replace(recipe, scope="all", sources={}, **own)
    return one


def groups(
    train: Dataset, sources: Sources, own: Mapping[str, float] | None = None
) -> list[tuple[Mask, Mask]]:
    """Return the items that are heard together (n_items,), and those that are answered for.

    Explicit domains, whose ratings say nothing of what is chosen, hear each other. own: domain →
    an option of its own, by which those that hear the same are told apart.
    """
    train.check_domains([*sources, *chain(*sources.values())], "sources")
    train.check_domains(own or {}, "regs")
    rated = np.array([d.feedback == "explicit" for d in train.domains])
    heard = np.eye(train.n_domains, dtype=np.bool_) | np.outer(rated, rated)
    for d, domain in enumerate(train.domains):
        heard[d, [train.domain(name) for name in sources.get(domain.name, ())]] = True
    option = [(own or {}).get(domain.name, -1.0) for domain in train.domains]
    kinds, of_domain = np.unique(np.column_stack([heard, option]), axis=0, return_inverse=True)
    of_domain = of_domain.ravel()
    return [
        (kinds[g, :-1].astype(np.bool_)[train.item_domain], (of_domain == g)[train.item_domain])
        for g in range(len(kinds))
    ]


def learn(recipe: Any, split: Split, run: Run) -> Sources:
    """Return the sources of every domain: those that are given, and the others learned on a
    holdout.

    Of the other domains that share most users (at most ``SOURCES``), each is tried alone, so that
    a useless one hides no useful one. A source is kept where the domain's users fare better with it
    by ``SURE`` standard errors; of several, all are, or only the best, whichever serves better.
    """
    names = [d.name for d in split.train.domains]
    likely = {
        d.name: tuple(found)
        for d, found in zip(split.train.domains, likely_sources(split.train).values(), strict=True)
        if d.name not in recipe.sources and d.feedback == "implicit" and found
    }
    best: dict[str, tuple[str, ...]] = {n: recipe.sources.get(n, ()) for n in names}
    if not likely:
        return best
    judge = Judge(split, Popular().fit(split.train, run), run.rng("sources"), run.pool)

    def values(tried: dict[str, tuple[str, ...]]) -> dict[str, Array]:
        model = fit(replace(recipe, sources=best | tried), split.train, run)
        found = {n: judge(model, names.index(n), (n, *heard)) for n, heard in tried.items()}
        means = {n: v.mean() for n, v in found.items() if len(v)}
        run.log(kind=recipe.kind, sources=tried, ndcg=means)
        return found

    alone = values({n: () for n in likely})
    helping: dict[str, dict[tuple[str, ...], float]] = {n: {} for n in likely}
    for place in range(SOURCES):
        tried = {n: every[place : place + 1] for n, every in likely.items() if every[place:]}
        for n, found in (values(tried) if tried else {}).items():
            if gain(found, alone[n]) > SURE:
                helping[n][tried[n]] = found.mean()
    several = {n: tuple(s for (s,) in found) for n, found in helping.items() if len(found) > 1}
    for n, together in (values(several) if several else {}).items():
        helping[n][several[n]] = together.mean()
    return best | {n: max(found, key=found.__getitem__) for n, found in helping.items() if found}


class Grouped(Model):
    """parts: models, each with the items (n,) that it answers for; every item has one at most."""

    def __init__(self, recipe: Recipe, n_items: int, parts: Sequence[tuple[Model, Mask]]) -> None:
        self.recipe, self.n_items, self.parts = recipe, n_items, tuple(parts)

    def score(self, query: Query, items: Ids | None = None) -> Scores:
        codes = np.arange(self.n_items) if items is None else np.asarray(items)
        scores = np.full((len(query), len(codes)), np.nan, np.float32)
        for model, answered in self.parts:
            at = np.flatnonzero(self._answered(answered, codes))
            if len(at) == len(codes):
                return model.score(query, items)
            if len(at):
                scores[:, at] = model.score(query, codes[at])
        return scores

    def explain(self, query: Query, items: Ids) -> list[list[list[Reason]]]:
        reasons: list[list[list[Reason]]] = [[[] for _ in row] for row in items]
        for model, answered in self.parts:
            own = np.where(self._answered(answered, items), items, -1)
            if isinstance(model, Explains) and (own >= 0).any():
                for b, row in enumerate(model.explain(query, own)):
                    reasons[b] = [new or old for new, old in zip(row, reasons[b], strict=True)]
        return reasons

    def update(self, dataset: Dataset) -> Grouped:
        parts = [(updated(model, dataset), answered) for model, answered in self.parts]
        return Grouped(self.recipe, dataset.n_items, parts)

    def state(self) -> State:
        state: State = {"n_items": np.array([self.n_items])}
        for g, (model, answered) in enumerate(self.parts):
            state |= nest(f"group{g}", model.state())
            state[f"answered{g}"] = answered.astype(np.int8)
        return state

    def _answered(self, answered: Mask, codes: Ids) -> Mask:
        """Return the items (…) that a part answers for; none that is new or -1."""
        known = (codes >= 0) & (codes < len(answered))
        found: Mask = known & answered[np.where(known, codes, 0)]
        return found
