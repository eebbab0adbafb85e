"""What follows what, against plain loops over the sequences."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from m6rec.data.dataset import Dataset
from m6rec.data.query import DAY
from m6rec.models.window import Window
from m6rec.tracking import Run
from world import world


def literal(data: Dataset, recipe: Window) -> np.ndarray:
    """Scores of every user by the formula in the docstring of Window."""
    n = data.n_items
    count = np.bincount(data.item, minlength=n)
    follow = np.zeros((n, n))
    sequences = []
    for u in range(data.n_users):
        rows = np.flatnonzero(data.user == u)
        if recipe.scope == "domain":
            domains = data.item_domain[data.item[rows]]
            sequences += [(u, rows[domains == d]) for d in range(data.n_domains)]
        else:
            sequences.append((u, rows))
    for _, rows in sequences:
        for p, a in enumerate(rows):
            for q, b in enumerate(rows):
                d = abs(q - p)
                if d == 0 or d > recipe.width:
                    continue
                w = d**-recipe.decay * (recipe.backward if q < p else 1.0)
                if recipe.half_life is not None:
                    w *= 0.5 ** (abs(data.time[a] - data.time[b]) / DAY / recipe.half_life)
                follow[data.item[a], data.item[b]] += w
    follow /= np.maximum(count, 1)[:, None] ** recipe.source * np.maximum(count, 1) ** recipe.target
    scores = np.zeros((data.n_users, n))
    for u, rows in sequences:
        for t, a in enumerate(rows[::-1]):
            scores[u] += (t + 1) ** -recipe.recency * follow[data.item[a]]
    return scores


@pytest.mark.parametrize(
    "recipe",
    [
        Window(k=40),
        Window(k=40, width=2, decay=0.7, recency=1.5, backward=0.0, source=0.2, target=0.3),
        Window(k=40, half_life=0.05),
        Window(k=40, scope="domain"),
    ],
)
def test_scores_are_the_formula(recipe: Window) -> None:
    data = world(n_users=40)
    scores = recipe.fit(data, Run()).score(data.query(np.arange(40)))
    np.testing.assert_allclose(scores, literal(data, recipe), rtol=1e-4, atol=1e-5)


def test_what_follows_scores_above_what_came_before() -> None:
    chain = Dataset.build(
        user=np.repeat(np.arange(20), 3),
        item=np.tile([0, 1, 2], 20),
        users=21,
        items=3,
        ordered=True,
    )
    model = Window(backward=0.1).fit(chain, Run())
    asked = Dataset.build(user=np.array([20]), item=np.array([1]), users=21, items=3, ordered=True)
    scores = model.score(asked.query(np.array([20])))[0]
    assert scores[2] > 2 * scores[0] > 0


def test_data_without_order_teaches_nothing() -> None:
    data = world(ordered=False)
    model = Window().fit(data, Run())
    assert np.isnan(model.score(data.query(np.arange(5)))).all()


def test_disliked_items_are_left_out() -> None:
    data = world()
    model = Window(k=40).fit(data, Run())
    query = data.query(np.array([0]))
    newest = int(query.sequence[0, -1])
    history = query.history.copy()
    history.data[history.indices == newest] = -1
    disliked = dataclasses.replace(query, history=history)
    sequence = query.sequence.copy()
    sequence[0, -1] = -1
    without = dataclasses.replace(query, sequence=sequence)
    np.testing.assert_allclose(model.score(disliked), model.score(without), rtol=1e-6)


def test_domain_scope_abstains_where_the_domain_has_no_sequence() -> None:
    data = world()
    model = Window(scope="domain").fit(data, Run())
    films = data.take(data.item_domain[data.item] == 0).query(np.arange(4))
    assert (np.isnan(model.score(films)) == (data.item_domain == 1)).all()


def test_explicit_domains_abstain() -> None:
    data = world(explicit=True)
    assert np.isnan(Window().fit(data, Run()).score(data.query(np.arange(4)))).all()


@pytest.mark.parametrize("options", [{"width": 0}, {"k": 0}, {"half_life": 0.0}])
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Window(**options)  # type: ignore[arg-type]
