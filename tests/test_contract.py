"""The laws of the design, checked for every entry of KINDS on worlds with a known answer."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from safetensors.numpy import load, save

from m6rec import config
from m6rec.data.dataset import Dataset
from m6rec.models.base import KINDS, Explains, Model, Recipe
from m6rec.tracking import Run
from world import own_group_share, world

# What each kind needs beside its defaults to be meaningful on 40 items and 120 users.
OPTIONS: dict[str, dict[str, object]] = {
    "neighbours": {"k": 10},
    "rp3beta": {"k": 10},
    "graph": {"dim": 8},
    "linear": {"reg": 20.0},
    "pct": {"dim": 16},
    "normalised": {"part": {"kind": "neighbours", "k": 10}},
    "deepfm": {"dim": 8, "hidden": [16], "training": {"batch": 64, "lr": 0.01, "epochs": 20}},
    "blend": {"parts": [{"kind": "neighbours", "k": 10}, {"kind": "pct", "dim": 16}]},
    "fallback": {"parts": [{"kind": "neighbours", "k": 10}, {"kind": "popular"}]},
    "m6rec": {"parts": [{"kind": "neighbours", "k": 10}, {"kind": "pct", "dim": 16}]},
}
ANSWERS_NOBODY = {"popular", "seeds", "fallback", "m6rec"}  # kinds that answer an empty query
KNOWS_NOTHING_PERSONAL = {"popular", "seeds"}
# kinds that predict ratings
EXPLICIT = ["popular", "neighbours", "pct", "normalised", "blend", "m6rec"]
EXPLICIT = [
    "popular",
    "neighbours",
    "pct",
    "deepfm",
    "blend",
    "m6rec",
]  # kinds that predict ratings

CASES = [(kind, False) for kind in KINDS] + [(kind, True) for kind in EXPLICIT]
_fitted: dict[tuple[str, bool], tuple[Model, Dataset]] = {}


def recipe_of(kind: str) -> Recipe:
    return Recipe.from_table({"kind": kind, **OPTIONS.get(kind, {})})


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{'explicit' if case[1] else 'implicit'}")
def fitted(request: pytest.FixtureRequest) -> tuple[Model, Dataset]:
    case = request.param
    if case not in _fitted:
        data = world(explicit=case[1])
        _fitted[case] = (recipe_of(case[0]).fit(data, Run(seed=1)), data)
    return _fitted[case]


def assert_close(a: np.ndarray, b: np.ndarray, tolerance: float = 1e-5) -> None:
    assert a.shape == b.shape
    assert (np.isnan(a) == np.isnan(b)).all()
    scale = np.nan_to_num(np.abs(a)).max(axis=1, keepdims=True, initial=1e-9)
    assert (np.abs(np.nan_to_num(a - b)) <= tolerance * np.maximum(scale, 1e-9)).all()


def test_items_select_columns(fitted: tuple[Model, Dataset]) -> None:
    model, data = fitted
    query = data.query(np.arange(10))
    items = np.array([3, 0, 39, 17, 3])
    everything = model.score(query)
    assert everything.shape == (10, data.n_items)
    assert everything.dtype == np.float32
    assert_close(model.score(query, items), everything[:, items])


def test_batch_equals_one_by_one(fitted: tuple[Model, Dataset]) -> None:
    model, data = fitted
    query = data.query(np.arange(8))
    single = np.vstack([model.score(query.take(np.array([i]))) for i in range(8)])
    assert_close(model.score(query), single)


def test_saved_equals_before(fitted: tuple[Model, Dataset]) -> None:
    model, data = fitted
    state = {name: np.ascontiguousarray(value) for name, value in model.state().items()}
    again = recipe_restored(model.recipe).restore(load(save(state)))
    query = data.query(np.arange(10))
    assert_close(model.score(query), again.score(query))


def recipe_restored(recipe: Recipe) -> Recipe:
    """The recipe after a round trip through TOML text."""
    import tomllib

    again = Recipe.from_table(tomllib.load(io.BytesIO(config.dumps(recipe).encode())))
    assert again == recipe
    return again


def test_same_seed_same_model(fitted: tuple[Model, Dataset]) -> None:
    model, data = fitted
    again = recipe_of(model.recipe.kind).fit(data, Run(seed=1))
    for name, value in model.state().items():
        np.testing.assert_array_equal(value, again.state()[name], err_msg=name)


def test_fit_does_not_mutate(fitted: tuple[Model, Dataset]) -> None:
    model, data = fitted
    before = {name: value.copy() for name, value in model.state().items()}
    model.score(data.query(np.arange(5)))
    for name, value in model.state().items():
        np.testing.assert_array_equal(value, before[name])
    assert dataclasses.is_dataclass(model.recipe)


def test_unknown_user_with_history_is_scored(fitted: tuple[Model, Dataset]) -> None:
    model, data = fitted
    known = data.query(np.arange(40))
    unknown = dataclasses.replace(known, user=np.full(40, -1, np.int32))
    scores = model.score(unknown)
    assert not np.isnan(scores).all(axis=1).any()
    if model.recipe.kind not in KNOWS_NOTHING_PERSONAL:
        seen = known.history.toarray() != 0
        assert own_group_share(scores, np.arange(40), seen) > 0.8  # chance is 0.2


def test_nothing_personal_abstains(fitted: tuple[Model, Dataset]) -> None:
    model, data = fitted
    scores = model.score(data.query(np.array([-1])))
    if model.recipe.kind in ANSWERS_NOBODY:
        assert not np.isnan(scores).any()
    else:
        assert np.isnan(scores).all()


def test_reasons_add_up(fitted: tuple[Model, Dataset]) -> None:
    model, data = fitted
    if not isinstance(model, Explains):
        pytest.fail(f'"{model.recipe.kind}" has no explain')
    query = data.query(np.arange(6))
    items = np.tile(np.array([1, 38, 12, -1]), (6, 1))
    reasons = model.explain(query, items)
    scores = model.score(query)
    scale = np.nanmax(np.abs(scores))
    for b in range(6):
        assert reasons[b][3] == []
        for c in range(3):
            total = sum(reason.value for reason in reasons[b][c])
            expected = scores[b, items[b, c]]
            if np.isnan(expected):
                assert reasons[b][c] == []
            else:
                assert abs(total - expected) <= 1e-4 * scale
