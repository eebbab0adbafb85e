"""Options left "auto" are fixed on a holdout, by what ranks its events best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from m6rec.arrays import Ids, Scores, State
from m6rec.data.dataset import Dataset
from m6rec.data.holdout import holdout
from m6rec.data.query import Query
from m6rec.models.base import Model, Recipe
from m6rec.models.graph import Graph
from m6rec.models.linear import GRID, Linear
from m6rec.models.search import is_open, search
from m6rec.tracking import Run
from world import GROUPS, world


@dataclass(frozen=True, kw_only=True)
class Tilted(Recipe):
    """Knows the taste groups; ``tilt`` spoils it, ``sign`` turns it round."""

    kind: ClassVar[str] = "tilted"
    tilt: float | Literal["auto"] = "auto"
    sign: float | Literal["auto"] = "auto"

    def fit(self, train: Dataset, run: Run) -> Model:
        return TiltedModel(self, train.n_items)

    def restore(self, state: State) -> Model:
        raise AssertionError


class TiltedModel(Model):
    def __init__(self, recipe: Tilted, n_items: int) -> None:
        self.tilt, self.sign, self.n_items = float(recipe.tilt), float(recipe.sign), n_items

    def score(self, query: Query, items: Ids | None = None) -> Scores:
        group = np.arange(self.n_items) % GROUPS
        fits = query.user[:, None] % GROUPS == group
        noise = np.random.default_rng(0).random(fits.shape)
        return (self.sign * fits + self.tilt * noise).astype(np.float32)

    def state(self) -> State:
        return {}


def test_each_option_becomes_the_candidate_that_ranks_best() -> None:
    split = holdout(world(), np.random.default_rng(0))
    grid = {"tilt": (9.0, 0.1, 3.0), "sign": (1.0, -1.0)}
    assert search(Tilted(), split, Run(), grid) == Tilted(tilt=0.1, sign=1.0)
    fixed = search(Tilted(sign=-1.0), split, Run(), grid)
    assert fixed == Tilted(tilt=9.0, sign=-1.0)


def test_auto_is_fixed_in_the_fitted_recipe() -> None:
    data = world()
    linear = Linear(reg="auto").fit(data, Run()).recipe
    assert isinstance(linear, Linear)
    assert linear.reg in GRID["reg"]
    assert not is_open(linear, GRID)
    graph = Graph(dim=8, sharpen="auto", low_pass="auto").fit(data, Run()).recipe
    assert isinstance(graph, Graph)
    assert "auto" not in (graph.sharpen, graph.low_pass)
    assert graph.user_power == 0.5


def test_same_seed_chooses_the_same() -> None:
    data = world()
    recipes = [Graph(dim=8, sharpen="auto").fit(data, Run(seed=3)).recipe for _ in range(2)]
    assert recipes[0] == recipes[1]
