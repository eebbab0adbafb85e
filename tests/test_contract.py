"""The laws of the design, checked for every entry of KINDS on worlds with a known answer."""

from __future__ import annotations

import dataclasses
import io
import pickle

import numpy as np
import pytest
from safetensors.numpy import load, save

from m6rec import config
from m6rec.arrays import State
from m6rec.data.dataset import Dataset
from m6rec.data.query import Query, make_query
from m6rec.data.vocab import Vocab
from m6rec.models.base import KINDS, Explains, Model, Recipe, updated
from m6rec.models.bayes import Bayes
from m6rec.tracking import Run
from world import alike, listed, own_group_share, world

# What each kind needs beside its defaults to be meaningful on 40 items and 120 users.
OPTIONS: dict[str, dict[str, object]] = {
    "neighbours": {"k": 10},
    "rp3beta": {"k": 10},
    "graph": {"dim": 8},
    "linear": {"reg": 20.0},
    "pct": {"dim": 16},
    "peers": {"others": 1.0, "rarity": 0.25, "size": 0.5},
    "normalised": {"part": {"kind": "neighbours", "k": 10}},
    "deepfm": {"dim": 8, "hidden": [16], "training": {"batch": 64, "lr": 0.01, "epochs": 20}},
    "blend": {"parts": [{"kind": "neighbours", "k": 10}, {"kind": "pct", "dim": 16}]},
    "fallback": {"parts": [{"kind": "neighbours", "k": 10}, {"kind": "popular"}]},
    "m6rec": {"parts": [{"kind": "neighbours", "k": 10}, {"kind": "pct", "dim": 16}]},
    "confident": {"part": {"kind": "neighbours", "k": 10}},
}
ANSWERS_NOBODY = {"popular", "seeds", "fallback", "m6rec"}  # kinds that answer an empty query
KNOWS_NOTHING_PERSONAL = {"popular", "seeds"}
# kinds that predict ratings
EXPLICIT = ["popular", "neighbours", "pct", "normalised", "deepfm", "blend", "m6rec"]

# Kinds whose training changes by the mere listing of an item without events: texts of all items
# fit an encoder, calibration is over all unseen items, and initial weights are drawn for all.
HEARS_OF_NEW_ITEMS = {
    "text", "questions", "intent", "towers", "distilled", "onnx", "deepfm", "blend", "fallback",
    "m6rec", "confident",
}  # fmt: skip
ROUNDED = {"distilled"}  # kinds in which items at the fit are rounded and later ones are not
X = 39  # an item, the last, that is listed but has no events

CASES = [(kind, False) for kind in KINDS] + [(kind, True) for kind in EXPLICIT]
_fitted: dict[tuple[str, bool], tuple[Model, Dataset]] = {}
_without_events: dict[tuple[str, bool], tuple[Model, Dataset]] = {}


def recipe_of(kind: str) -> Recipe:
    return Recipe.from_table({"kind": kind, **OPTIONS.get(kind, {})})


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{'explicit' if case[1] else 'implicit'}")
def fitted(request: pytest.FixtureRequest) -> tuple[Model, Dataset]:
    case = request.param
    if case not in _fitted:
        data = of_people() if case[0] == "peers" else world(explicit=case[1])
        _fitted[case] = (recipe_of(case[0]).fit(data, Run(seed=1)), data)
    return _fitted[case]


def of_people() -> Dataset:
    """The world with the users themselves in the place of the books, X aside, who is nobody."""
    data = world()
    keys = [f"books/u{i}" if 20 <= i < X else key for i, key in enumerate(data.items.keys)]
    domains = tuple(dataclasses.replace(d, people=d.name == "books") for d in data.domains)
    return dataclasses.replace(data, items=Vocab(keys), domains=domains)


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


def test_it_travels_to_other_processes(fitted: tuple[Model, Dataset]) -> None:
    """As pieces of work on a cluster take it; nothing is ever stored so."""
    model, data = fitted
    query = data.query(np.arange(6))
    assert_close(pickle.loads(pickle.dumps(model)).score(query), model.score(query), 1e-6)


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
    check_reasons(model, data.query(np.arange(6)), np.array([1, 38, 12, -1]))


def check_reasons(model: Model, query: Query, row: np.ndarray) -> None:
    """The reasons of three items add up, and -1 has none."""
    if not isinstance(model, Explains):
        pytest.fail(f'"{model.recipe.kind}" has no explain')
    items = np.tile(row, (len(query), 1))
    reasons = model.explain(query, items)
    scores = model.score(query)
    scale = np.nanmax(np.abs(scores))
    for b in range(len(query)):
        assert reasons[b][3] == []
        for c in range(3):
            total = sum(reason.value for reason in reasons[b][c])
            expected = scores[b, items[b, c]]
            if np.isnan(expected):
                assert reasons[b][c] == []
            else:
                assert abs(total - expected) <= 1e-4 * scale


@pytest.fixture
def cold(fitted: tuple[Model, Dataset]) -> tuple[Model, Dataset]:
    """The model, its choices fixed, of the world in which X has no events."""
    model, data = fitted
    case = model.recipe.kind, bool(data.explicit.all())
    if case not in _without_events:
        known = data.take(data.item != X)
        _without_events[case] = model.recipe.fit(known, Run(seed=1)), known
    return _without_events[case]


def test_a_new_item_scores_like_one_known_without_events(cold: tuple[Model, Dataset]) -> None:
    model, data = cold
    longer = data.extended(alike(data, X))
    newer = updated(model, longer)
    assert newer.n_items == data.n_items + 1
    before, after = model.score(data.query(np.arange(20))), newer.score(longer.query(np.arange(20)))
    assert_close(before, after[:, :-1])
    assert_close(*against_all(after, X, -1), tolerance_of(model))


def against_all(scores: np.ndarray, x: int, y: int) -> tuple[np.ndarray, np.ndarray]:
    """All scores but y's, and the same with y's in the place of x's."""
    other = scores[:, :-1].copy()
    other[:, x] = scores[:, y]
    return scores[:, :-1], other


def tolerance_of(model: Model) -> float:
    return 0.1 if model.recipe.kind in ROUNDED else 1e-5


def test_a_new_item_scores_as_if_it_had_been_listed(cold: tuple[Model, Dataset]) -> None:
    model, data = cold
    recipe = model.recipe
    if recipe.kind in HEARS_OF_NEW_ITEMS:
        pytest.skip("its training changes by the mere listing of an item")
    if recipe.kind == "pct":  # in which the texts, and the number of rated items, tell
        data = dataclasses.replace(data, item_text=None)
        recipe = dataclasses.replace(recipe, ratings=Bayes(presence=0))
    fewer = listed(data, X)
    newer = updated(recipe.fit(fewer, Run(seed=1)), data)
    query = data.query(np.arange(20))
    assert_close(recipe.fit(data, Run(seed=1)).score(query), newer.score(query))


def test_an_updated_model_is_saved_and_updated_again(cold: tuple[Model, Dataset]) -> None:
    model, data = cold
    one = data.extended(alike(data, X))
    three = one.extended(alike(data, X, 3))
    newest = updated(updated(model, one), three)
    query = three.query(np.arange(10))
    scores = newest.score(query)
    assert scores.shape == (10, data.n_items + 3)
    assert_close(scores, updated(model, three).score(query))
    assert_close(scores[:, [1, -3, -1]], newest.score(query, np.array([1, 40, 42])))
    state = {name: np.ascontiguousarray(value) for name, value in newest.state().items()}
    again = newest.recipe.restore(load(save(state)))
    assert_close(scores, again.score(query))
    four = three.extended(alike(data, 5))
    assert_close(
        updated(newest, four).score(four.query(np.arange(10))),
        updated(again, four).score(four.query(np.arange(10))),
    )


def test_reasons_of_new_items_add_up(cold: tuple[Model, Dataset]) -> None:
    model, data = cold
    longer = data.extended(alike(data, X, 2))
    newer = updated(model, longer)
    check_reasons(newer, longer.query(np.arange(4)), np.array([1, 40, 41, -1]))
    check_reasons(newer, about(longer, 40, 3), np.array([1, 40, 41, -1]))


def test_new_items_in_a_history_count_as_known_ones_without_events(
    cold: tuple[Model, Dataset],
) -> None:
    model, data = cold
    longer = data.extended(alike(data, X))
    newer = updated(model, longer)
    for rest in ((), (3, 7)):
        known, new = (newer.score(about(longer, *rest, i)) for i in (X, 40))
        assert_close(known, new, tolerance_of(model))
        assert rest == () or not np.isnan(new).all()


def about(data: Dataset, *items: int) -> Query:
    """The request of somebody of whom only these items are known."""
    n = len(items)
    return make_query(
        row=np.zeros(n, np.int64),
        item=np.array(items),
        weight=np.full(n, 5.0 if data.explicit.all() else 1.0, np.float32),
        time=np.full(n, data.now),
        event=np.zeros(n, np.int16),
        user=np.array([-1]),
        now=np.array([data.now]),
        n_items=data.n_items,
        events=data.events,
        explicit=data.explicit,
        features={"taste": np.zeros((1, 4), np.float32)},
    )


def test_a_run_older_than_updates_takes_in_new_items_too(cold: tuple[Model, Dataset]) -> None:
    model, data = cold
    state = {name: np.ascontiguousarray(value) for name, value in older(model.state()).items()}
    again = model.recipe.restore(load(save(state)))
    longer = data.extended(alike(data, X))
    query = data.query(np.arange(5))
    assert_close(model.score(query), again.score(query))
    scores = updated(again, longer).score(longer.query(np.arange(5)))
    assert_close(model.score(query), scores[:, :-1])


def older(state: State) -> State:
    """The state without what is kept for new items only."""
    kept: State = {}
    for name, value in state.items():
        *folders, last = name.split("/")
        beside = "/".join([*folders, "trained"])
        if last == "n_items" and beside in state:
            continue
        if last == "new" and value.dtype == np.float32:
            continue
        if not {"new", "guess"} & {*folders} and last not in ("second", "spread"):
            kept[name] = value
    return kept
