"""Which domains' histories a model sums over: for each domain, those that help on a holdout."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cached_property
from itertools import chain
from typing import Any, Literal

import numpy as np

from m6rec.arrays import Array, Mask, State, unnest
from m6rec.config import to_table
from m6rec.data.dataset import Dataset
from m6rec.data.holdout import holdout
from m6rec.data.splits import Split
from m6rec.errors import ConfigError
from m6rec.models.base import Recipe
from m6rec.models.grouped import Domains, Grouped, grouped
from m6rec.models.judges import Judges, carved
from m6rec.models.transfer import SOURCES, SURE, likely_sources
from m6rec.tracking import Run

Scope = Literal["all", "domain", "auto"]
Sources = Mapping[str, tuple[str, ...]]  # domain → other domains whose histories count for it


def fit(recipe: Any, train: Dataset, run: Run) -> Grouped:
    """Fit a recipe of scope = "auto" once for each set of domains that are heard together, on
    their items alone, so that many domains cost no more each than few."""
    if any(d.name not in recipe.sources for d in train.domains):
        split = holdout(train, run.rng("holdout"))
        learned = Trials(split, run).sources(recipe)
        return fit(replace(recipe, sources=learned), train, run)
    return _fitted(recipe, train, run, [d.name for d in train.domains])


def _fitted(recipe: Any, train: Dataset, run: Run, asked: Collection[str]) -> Grouped:
    """Fit what answers for the domains that are asked for."""
    heard, answered = groups(train, recipe.sources, getattr(recipe, "regs", {}))
    answered &= np.array([d.name in asked for d in train.domains])
    told = np.bincount(train.item_domain[train.item], minlength=train.n_domains) > 0
    some = np.flatnonzero((heard & told).any(axis=1) & answered.any(axis=1))
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


class Trials:
    """Tries options of a recipe of scope = "auto", each domain by itself, on holdouts: that of a
    split, and for domains that are thin in it further ones, carved from its train."""

    def __init__(self, split: Split, run: Run) -> None:
        self.split, self.run, self.train = split, run, split.train

    @cached_property
    def judges(self) -> Judges:
        return Judges(carved(self.split, self.run), self.run)

    def sources(self, recipe: Any) -> Sources:
        """Return the sources of every domain: those that are given, and the others learned.

        Of the other domains that share most users (at most ``SOURCES``), each is tried alone, so
        that a useless one hides no useful one. A source is kept where the domain's users fare
        better with it by ``SURE`` standard errors; of several, all are, or only the best, whichever
        serves better.
        """
        likely = {
            d.name: tuple(found)
            for d, found in zip(
                self.train.domains, likely_sources(self.train).values(), strict=True
            )
            if d.name not in recipe.sources and d.feedback == "implicit" and found
        }
        best = {d.name: tuple(recipe.sources.get(d.name, ())) for d in self.train.domains}
        if not likely:
            return best

        def values(tried: dict[str, tuple[str, ...]]) -> dict[str, Array]:
            return self._values(replace(recipe, sources=best | tried), tried)

        alone = values({n: () for n in likely})
        helping: dict[str, dict[tuple[str, ...], float]] = {n: {} for n in likely}
        for place in range(SOURCES):
            tried = {n: every[place : place + 1] for n, every in likely.items() if every[place:]}
            for n, found in values(tried).items():
                if self.judges.gain(n, found, alone[n]) > SURE:
                    helping[n][tried[n]] = found.mean()
        several = {n: tuple(s for (s,) in found) for n, found in helping.items() if len(found) > 1}
        for n, together in values(several).items():
            helping[n][several[n]] = together.mean()
        for n, means in helping.items():
            if means:
                best[n] = max(means, key=means.__getitem__)
        return best

    def each(self, recipe: Any, option: str, candidates: tuple[Any, ...]) -> dict[str, Any]:
        """Return the best candidate of one option for each implicit domain."""
        best: dict[str, tuple[float, Any]] = {}
        implicit = [d.name for d in self.train.domains if d.feedback == "implicit"]
        for candidate in candidates:
            tried = replace(recipe, **{option: candidate})
            for name, found in self._values(tried, implicit).items():
                value = float(found.mean()) if len(found) else 0.0
                if name not in best or value > best[name][0]:
                    best[name] = value, candidate
        return {name: candidate for name, (_, candidate) in best.items()}

    def _values(self, recipe: Any, asked: Collection[str]) -> dict[str, Array]:
        """Return the values (R,) of the domains that are asked for, over their holdouts."""
        found: dict[str, list[Array]] = {}
        for _, judge, here in self.judges.heard(asked):
            model = _fitted(recipe, judge.split.train, self.run, here)
            for n in here:
                heard = n, *recipe.sources[n]
                found.setdefault(n, []).append(judge(model, self.judges.names.index(n), heard))
        values = {n: np.concatenate(v) for n, v in found.items()}
        if values:
            means = {n: float(v.mean()) for n, v in values.items() if len(v)}
            self.run.log(kind=recipe.kind, tried=to_table(recipe), ndcg=means)
        return values
