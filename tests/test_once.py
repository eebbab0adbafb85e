"""What is made of a query once, and for whom it counts."""

from __future__ import annotations

import pickle
from copy import copy

import numpy as np
import pytest

from m6rec.models.base import Model
from m6rec.models.graph import Graph
from m6rec.models.neighbours import Neighbours
from m6rec.models.once import Once
from m6rec.models.pct import Pct
from m6rec.models.transfer import Local
from m6rec.models.window import Window
from m6rec.tracking import Run
from world import world


class Holder:
    def __init__(self) -> None:
        self.once: Once[list[int]] = Once()


def test_a_value_is_made_once_for_an_object_and_a_model() -> None:
    model, source = Holder(), [1, 2]
    first = model.once.of(model, source, lambda: [7])
    assert model.once.of(model, source, lambda: [8]) is first
    assert model.once.held(model, list(source)) is None  # equal, but another
    other = copy(model)
    assert other.once is model.once
    assert other.once.held(other, source) is None
    assert other.once.of(other, source, lambda: [9]) == [9]
    assert model.once.held(model, source) is None
    assert pickle.loads(pickle.dumps(other)).once.held(other, source) is None


RECIPES = [
    Pct(dim=4, sweeps=2, domains={"items": Local()}),
    Neighbours(),
    Graph(dim=8),
    Window(),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.kind)
def test_what_was_asked_before_changes_no_answer(recipe: Pct) -> None:
    data = world()
    model: Model = recipe.fit(data, Run(threads=1))
    items = np.arange(3, data.n_items, 2)
    one, two = (data.query(np.arange(6) + first) for first in (0, 6))
    alone = [recipe.restore(model.state()).score(query, items) for query in (one, two)]
    for _ in range(2):
        for query, expected in zip((one, two), alone, strict=True):
            for name in ("reach", "embed_query"):
                ask = getattr(model, name, None)
                if ask is not None:
                    ask(query, *([0] if name == "embed_query" else []))
            np.testing.assert_allclose(model.score(query, items), expected, rtol=1e-5, atol=1e-7)
            model.score(query)
