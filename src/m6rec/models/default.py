"""The default recommender: collaborative filtering, PCT and order, fused by λ, with seeds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import ClassVar, Self

import numpy as np

from m6rec.arrays import State
from m6rec.data.dataset import Dataset
from m6rec.data.holdout import holdout
from m6rec.data.splits import Split
from m6rec.metrics import of_ranks
from m6rec.models.base import Recipe
from m6rec.models.compose import Blend, Rows, Table, check_share
from m6rec.models.fallback import Fallback, FallbackModel
from m6rec.models.graph import Graph
from m6rec.models.linear import Linear
from m6rec.models.neighbours import Neighbours
from m6rec.models.pct import Pct
from m6rec.models.peers import Peers
from m6rec.models.popular import Popular
from m6rec.models.questions import Questions
from m6rec.models.seeds import Seeds
from m6rec.models.text import Text
from m6rec.models.window import Window
from m6rec.tracking import Run

SOLVABLE = 8_000  # users or items up to which the closed form of "linear" is quick
LEARNABLE = 1_000_000  # events up to which towers are trained in minutes on a CPU


@dataclass(frozen=True, kw_only=True)
class M6Rec(Recipe):
    """A Blend of parts that suit the data; seeds answer whom nothing is known of.

    parts: what is blended; left out, they are chosen by the data: PCT, neighbours, popularity,
    the linear model where its closed form is quick, else the graph filter, "peers" where items
    are people, the window model and (see ``deep``) towers where events have an order, the text
    model where items have texts, and, where users come with words, "questions" and (see ``deep``)
    "intent". metric, weights, words, new_items: as of "blend". seeds: as of "seeds".
    deep: whether towers and "intent" may be chosen: where torch is installed (the extra `deep`),
    up to a million events. With `parts` it says nothing.
    """

    kind: ClassVar[str] = "m6rec"
    parts: tuple[Recipe, ...] = ()
    metric: str = "ndcg@50"
    weights: Table = field(default_factory=dict)
    words: Rows = field(default_factory=dict)
    new_items: float = 0.02
    seeds: Seeds = field(default_factory=Seeds)
    deep: bool = True

    def __post_init__(self) -> None:
        of_ranks(self.metric)
        check_share(self.new_items)

    def choose(self, split: Split, run: Run) -> Self:
        parts = self.parts or default_parts(split.train, self.deep)
        blend = Blend(
            parts=parts, metric=self.metric, weights=self.weights, words=self.words,
            new_items=self.new_items,
        ).choose(split, run)  # fmt: skip
        return replace(self, parts=blend.parts, weights=blend.weights, words=blend.words)

    def fit(self, train: Dataset, run: Run) -> FallbackModel:
        if not self.parts or any(d.name not in self.weights for d in train.domains):
            return self.choose(holdout(train, run.rng("holdout")), run).fit(train, run)
        model = self._whole().fit(train, run)
        blend = model.parts[0].recipe
        assert isinstance(blend, Blend)
        model.recipe = replace(self, parts=blend.parts)
        return model

    def restore(self, state: State) -> FallbackModel:
        model = self._whole().restore(state)
        model.recipe = self
        return model

    def _whole(self) -> Fallback:
        blend = Blend(parts=self.parts, metric=self.metric, weights=self.weights, words=self.words)
        return Fallback(parts=(blend, self.seeds))


def default_parts(train: Dataset, deep: bool = True) -> tuple[Recipe, ...]:
    """Return the parts that suit the data; explicit domains take those that predict ratings.

    deep: whether towers are among them where they can be.
    """
    if train.explicit.all():
        near = Neighbours(similarity="adjusted", k=60, shrink=200.0, reg_item=2.0, reg_user=3.0)
        return Pct(), near, Popular()
    sizes = np.bincount(train.item_domain, minlength=train.n_domains)
    users = len(np.unique(train.user))
    closed = min(int(sizes.max(initial=0)), users) <= SOLVABLE
    parts: list[Recipe] = [
        Pct(),
        Neighbours(scope="auto"),
        Linear(reg="auto", scope="auto") if closed else Graph(scope="auto"),
        Popular(),
    ]
    if any(domain.people for domain in train.domains):
        parts.append(Peers())
    if train.ordered:
        parts.append(Window())
        if deep and len(train) <= LEARNABLE and find_spec("torch"):
            parts.append(Recipe.from_table({"kind": "towers"}))
    if train.item_text is not None and len({*train.item_text} - {""}) > 1:
        parts.append(Text())
    if train.worded.any():
        parts.append(Questions())
        if deep and find_spec("torch"):
            parts.append(Recipe.from_table({"kind": "intent"}))
    return tuple(parts)
