"""Which domains' histories a model sums over: for each domain, those that help on a holdout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from typing import Any, Literal

import numpy as np

from m6rec.arrays import Array, Mask, State, unnest
from m6rec.data.dataset import Dataset
from m6rec.data.holdout import holdout
from m6rec.data.splits import Split
from m6rec.errors import ConfigError
from m6rec.models.base import Recipe
from m6rec.models.grouped import Domains, Grouped, grouped
from m6rec.models.popular import Popular
from m6rec.models.transfer import SOURCES, SURE, Judge, gain, likely_sources
from m6rec.tracking import Run

Scope = Literal["all", "domain", "auto"]
Sources = Mapping[str, tuple[str, ...]]  # domain → other domains whose histories count for it


def fit(recipe: Any, train: Dataset, run: Run) -> Grouped:
    """Fit a recipe of scope = "auto" once for each set of domains that are heard together, on
    their items alone, so that many domains cost no more each than few."""
    if any(d.name not in recipe.sources for d in train.domains):
        learned = learn(recipe, holdout(train, run.rng("holdout")), run)
        return fit(replace(recipe, sources=learned), train, run)
    heard, answered = groups(train, recipe.sources, getattr(recipe, "regs", {}))
    told = np.bincount(train.item_domain[train.item], minlength=train.n_domains) > 0
    some = np.flatnonzero((heard & told).any(axis=1))
    domains = Domains(train.item_domain, heard[some], answered[some])
    models = []
    for g in range(len(some)):
        data = train if domains.whole(g) else train.among(domains.items(g))
        one = inside(recipe, train.domains[int(np.argmax(domains.answered[g]))].name)
        models.append(one.fit(data, run))
    return grouped(recipe, train.n_items, domains, models)


def restore(recipe: Any, state: State) -> Grouped:
    if "heard" not in state:
        raise ConfigError(
            f'"{recipe.kind}" was saved by an older M6-Rec in a way that is no longer read: train '
            "the run again"
        )
    heard, answered = (state[name].astype(np.bool_) for name in ("heard", "answered"))
    domains, one = Domains(state["item_domain"], heard, answered), inside(recipe)
    models = [one.restore(unnest(f"group{g}", state)) for g in range(len(heard))]
    return grouped(recipe, int(state["n_items"][0]), domains, models)


def inside(recipe: Any, domain: str = "") -> Recipe:
    """Return the recipe of one group, with what a domain of it has for its own."""
    own: dict[str, Any] = {}
    if hasattr(recipe, "regs"):
        own = {"reg": recipe.regs.get(domain, recipe.reg), "regs": {}}
    one: Recipe = replace(recipe, scope="all", sources={}, **own)
    return one


def groups(
    train: Dataset, sources: Sources, own: Mapping[str, float] | None = None
) -> tuple[Mask, Mask]:
    """Return (G, D) the domains that are heard together, and those that are answered for.

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
    answered = of_domain.ravel() == np.arange(len(kinds))[:, None]
    return kinds[:, :-1].astype(np.bool_), answered


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
