"""The laws of the contract for the forms of closed-form models that its defaults do not reach."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load, save

from m6rec.data.dataset import Dataset
from m6rec.models.base import Explains, Recipe
from m6rec.models.graph import Graph
from m6rec.models.linear import Linear
from m6rec.models.neighbours import Neighbours, RP3Beta
from m6rec.models.window import Window
from m6rec.tracking import Run
from world import world

RANKINGS: list[Recipe] = [
    *(Neighbours(k=9, by="user", similarity=s) for s in ("cosine", "pearson", "adjusted")),  # type: ignore[arg-type]
    Neighbours(k=9, by="user", shrink=5.0, scope="domain"),
    Neighbours(k=9, similarity="adjusted", shrink=5.0, scope="domain"),
    RP3Beta(k=9, scope="domain"),
    Linear(reg=20.0, scope="domain"),
    Linear(reg=20.0, top=6),
    Linear(reg=20.0, binary=False, precision="float32"),
    Graph(dim=8, user_power=0.3, item_power=0.4, binary=False),
    Window(scope="domain", half_life=0.1),
]
RATINGS: list[Recipe] = [
    Neighbours(k=7, by=by, similarity=s, shrink=3.0, scope=scope)  # type: ignore[arg-type]
    for by in ("item", "user")
    for s, scope in (
        ("cosine", "all"),
        ("pearson", "domain"),
        ("adjusted", "all"),
        ("baseline", "all"),
    )
]
CASES = [(r, n, False) for r in RANKINGS for n in (120, 25)] + [(r, 60, True) for r in RATINGS]


@pytest.mark.parametrize(("recipe", "n_users", "explicit"), CASES, ids=lambda v: str(v)[:60])
def test_laws(recipe: Recipe, n_users: int, explicit: bool) -> None:
    data = world(n_users=n_users, explicit=explicit)
    model = recipe.fit(data, Run())
    query = data.query(np.arange(8))
    scores = model.score(query)
    scale = float(np.nanmax(np.abs(scores)))
    assert not np.isnan(scores).all(axis=1).any()
    items = np.array([39, 4, 4, 21])
    np.testing.assert_array_equal(model.score(query, items), scores[:, items])
    single = np.vstack([model.score(query.take(np.array([b]))) for b in range(8)])
    np.testing.assert_allclose(single, scores, atol=1e-5 * scale)
    state = {name: np.ascontiguousarray(value) for name, value in model.state().items()}
    restored = recipe.restore(load(save(state)))
    np.testing.assert_allclose(restored.score(query), scores, atol=1e-5 * scale)
    assert isinstance(model, Explains)
    asked = np.tile(np.array([2, -1, 38]), (8, 1))
    for b, row in enumerate(model.explain(query, asked)):
        assert row[1] == []
        for cell, item in ((row[0], 2), (row[2], 38)):
            total = sum(reason.value for reason in cell)
            assert total == pytest.approx(float(np.nan_to_num(scores[b, item])), abs=1e-4 * scale)


def test_negative_feedback_takes_no_part() -> None:
    data = world()
    weight = np.where(np.arange(len(data)) % 5 == 0, -1.0, 1.0).astype(np.float32)
    columns = {"user": data.user, "item": data.item, "users": data.users, "items": data.items}
    mixed = Dataset.build(weight=weight, **columns)  # type: ignore[arg-type]
    kept = weight > 0
    liked = Dataset.build(
        user=data.user[kept], item=data.item[kept], users=data.users, items=data.items
    )
    for recipe in (Neighbours(k=9), Linear(reg=20.0), Graph(dim=8), RP3Beta(k=9)):
        scores = recipe.fit(mixed, Run()).score(mixed.query(np.arange(9)))
        expected = recipe.fit(liked, Run()).score(liked.query(np.arange(9)))
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


def test_items_without_events_are_left_out_of_histories() -> None:
    data = world()
    model = Neighbours(k=9).fit(data.take(data.item != 7), Run())
    only_new = data.take(data.item == 7)
    fans = np.unique(only_new.user)[:3]
    assert np.isnan(model.score(only_new.query(fans))).all()
