"""Derived user features end to end: one block in training, in evaluation and in live requests."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import m6rec
from m6rec import pipeline
from m6rec.data import derived
from m6rec.data.attributes import Attributes
from m6rec.data.dataset import Dataset
from m6rec.data.derived import DERIVED, LIMIT, USER_NAMES, as_of, derived_user, newest_requests
from m6rec.data.frames import from_frames
from m6rec.data.holdout import holdout
from m6rec.data.prepare import Prepared
from m6rec.data.query import Query
from m6rec.errors import ConfigError, DataError
from m6rec.experiment import load
from m6rec.models import confident, deepfm, tower_inputs
from m6rec.models.calibration import calibrate
from m6rec.models.compose import Blend, BlendModel, learn_weights
from m6rec.models.pct import Pct
from m6rec.models.pct_model import PctModel
from m6rec.models.popular import Popular, PopularModel
from m6rec.models.search import quality
from m6rec.models.transfer import Judge, Local
from m6rec.pool import HERE
from m6rec.recommender import Recommender
from m6rec.tracking import Run
from shop import write_shop
from world import world

OPTIONS = {"films": Local(reg=0.5, nu=0.5), "books": Local(reg=0.5, nu=0.5)}
TOML = ["data.features.derived=true", "data.features.price='year'", "data.features.group='group'"]


def shop(**features: Any) -> Prepared:
    """The world with a price on every item but i1, and genres of which the first is the taste."""
    data = world(n_users=60)
    log = {"user": data.users.decode(data.user), "item": data.items.decode(data.item)}
    items = {
        "item": data.items.keys,
        "price": [None if i == 1 else 10.0 + i for i in range(40)],
        "genres": [f"g{i % 4}|common" for i in range(40)],
        "empty": pl.Series([None] * 40, dtype=pl.String),
    }
    return from_frames(
        pl.DataFrame({**log, "time": data.time}), pl.DataFrame(items), features=features
    )


def attached(prepared: Prepared, train: Dataset | None = None) -> Dataset:
    train = prepared.dataset if train is None else train
    return Attributes.fit(prepared, train).attach(train, prepared)


def test_block_is_standardised_on_train_and_zero_without_history() -> None:
    prepared = shop(derived=True, price="price", group="genres")
    data = attached(prepared, prepared.dataset.take(prepared.dataset.user != 0))
    block = data.user_features[DERIVED]
    assert block.shape == (60, len(USER_NAMES)) and block.dtype == np.float32
    assert not block[0].any()
    assert np.abs(block).max() <= LIMIT
    number = np.array([int(key.split("i")[-1]) for key in data.items.keys])
    price = np.where(number == 1, np.nan, number + 10.0)
    (query,) = newest_requests(data)
    raw = derived_user(query, number % 4, 4, price).astype(np.float64)
    varied = raw.std(axis=0) > 1e-6
    z = (raw - raw.mean(axis=0)) / np.where(varied, raw.std(axis=0), 1)
    np.testing.assert_allclose(block[1:, varied], z.clip(-LIMIT, LIMIT)[:, varied], atol=1e-3)
    assert not block[:, ~varied].any()
    assert {"diversity", "price level"} < {USER_NAMES[c] for c in np.flatnonzero(varied)}


def test_without_price_there_is_no_price_level_and_domains_are_the_groups() -> None:
    data = attached(shop(derived=True))
    assert data.user_features[DERIVED].shape == (60, 5)
    assert data.derivation is not None
    np.testing.assert_array_equal(data.derivation.item_group, data.item_domain)
    assert DERIVED not in attached(shop()).user_features


def test_an_unknown_price_is_the_mean_price() -> None:
    data = attached(shop(derived=True, price="price"))
    price = data.items.code(next(key for key in data.items.keys if key.endswith("/i1")))
    rows = np.flatnonzero(data.item == price)[:1]
    (block,) = data.take(rows).query(data.user[rows]).features[DERIVED]
    assert block[USER_NAMES.index("price level")] == 0
    assert block[USER_NAMES.index("activity")] != 0


def test_every_row_is_that_of_the_request_before_the_newest_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = attached(shop(derived=True, price="price"))
    whole = data.user_features[DERIVED]
    rows = data.start[1:] - 1
    before = data.take(np.setdiff1d(np.arange(len(data)), rows))
    asked = before.query(np.arange(60), now=data.time[rows])
    np.testing.assert_array_equal(whole, asked.features[DERIVED])
    monkeypatch.setattr(derived, "BATCH", 7)
    again = dataclasses.replace(data)  # nothing computed yet
    np.testing.assert_array_equal(again.user_features[DERIVED], whole)


def test_training_and_serving_agree() -> None:
    """A known user, and somebody new with the same history, times and now, are described alike."""
    prepared = shop(derived=True, price="price", group="genres")
    data = prepared.dataset
    same = dataclasses.replace(
        prepared, dataset=dataclasses.replace(data, time=np.full(len(data), data.now))
    )
    run = pipeline.fit(m6rec.experiment.Experiment(model=Pct(domains={"items": Local()})), same)
    recommender = Recommender(run)
    for user in ("u3", "u41"):
        code = data.users.code(user)
        items = data.items.decode(data.item[data.start[code] : data.start[code + 1]])
        known = recommender.query([user]).features[DERIVED]
        assert known.any()
        np.testing.assert_array_equal(known, run.dataset.query(np.array([code])).features[DERIVED])
        new = recommender.query([None, None], history=items)
        np.testing.assert_array_equal(new.features[DERIVED], np.repeat(known, 2, axis=0))
    described = recommender.query([None], attributes={})
    assert described.features[DERIVED].shape == known.shape
    assert not described.features[DERIVED].any()


def test_as_of_an_event_nothing_later_counts() -> None:
    data = attached(shop(derived=True, price="price", group="genres"))
    row = np.array([data.start[9] + 4])
    block = as_of(data, row).features[DERIVED]
    assert block.any()
    earlier = data.take(np.arange(len(data)) < row[0])
    live = earlier.query(data.user[row], now=data.time[row])
    np.testing.assert_array_equal(live.features[DERIVED], block)
    item, weight = data.item.copy(), data.weight.copy()
    item[row[0] :], weight[row[0] :] = 0, 9
    changed = dataclasses.replace(data, item=item, weight=weight)
    np.testing.assert_array_equal(as_of(changed, row).features[DERIVED], block)
    assert (as_of(data, row + 1).features[DERIVED] != block).any()


def test_the_block_of_train_knows_nothing_of_the_test() -> None:
    prepared = shop(derived=True, price="price", group="genres")
    data = prepared.dataset
    held = data.item % 5 == 0
    train = data.take(~held)
    whole, part = attached(prepared), attached(prepared, train)
    assert (whole.user_features[DERIVED] != part.user_features[DERIVED]).any()
    assert whole.derivation is not None and part.derivation is not None
    assert whole.derivation.user_scale[0].center != part.derivation.user_scale[0].center
    item = data.item.copy()
    item[held] = 0
    changed = dataclasses.replace(prepared, dataset=dataclasses.replace(data, item=item))
    np.testing.assert_array_equal(
        attached(changed, changed.dataset.take(~held)).user_features[DERIVED],
        part.user_features[DERIVED],
    )
    inner = part.take(part.item % 3 != 0)  # a holdout inside train is taken out of the block too
    for name in ("user_features", "item_features"):
        assert (getattr(inner, name)[DERIVED] != getattr(part, name)[DERIVED]).any()
    assert not inner.item_features[DERIVED][np.bincount(inner.item, minlength=40) == 0].any()


def test_state_is_json_and_gives_the_same_block() -> None:
    prepared = shop(derived=True, price="price", group="genres")
    fitted = Attributes.fit(prepared, prepared.dataset)
    again = Attributes.restore(json.loads(json.dumps(fitted.state())))
    before, after = (a.attach(prepared.dataset, prepared) for a in (fitted, again))
    np.testing.assert_array_equal(before.user_features[DERIVED], after.user_features[DERIVED])


def test_a_holdout_asks_when_what_it_holds_happened() -> None:
    """Asked at the end of the log, nearly everybody would have been idle for long."""
    data = attached(shop(derived=True))
    rng = np.random.default_rng(0)
    split = holdout(data, rng, fraction=0.5)
    popular = Popular().fit(split.train, Run())
    heard: list[Query] = []

    class Ear(PopularModel):
        def score(self, query: Query, items: Any = None) -> Any:
            heard.append(query)
            return super().score(query, items)

    ear = Ear(popular.recipe, popular.popularity)
    even = {d.name: ((1.0,),) * 4 for d in data.domains}
    blend = Blend(parts=(Popular(),), weights=even).fit(split.train, Run())
    assert isinstance(blend, BlendModel)
    for domain, ask in (
        (None, lambda: quality(ear, split, Run())),
        (0, lambda: Judge(split, popular, rng, HERE)(ear, 0)),
        (0, lambda: next(confident._asked(ear, split, rng))),
        (1, lambda: learn_weights(
            blend.with_parts(blend.recipe, [ear]), split, 1, "ndcg@10", 0.02, Run())),
    ):  # fmt: skip
        heard.clear()
        ask()
        held = split.test.take(
            (split.test.item_domain[split.test.item] == domain) | (domain is None)
        )
        for query in heard:
            first = np.array([held.time[held.user == user].min() for user in query.user])
            np.testing.assert_array_equal(query.now, first)
            assert (query.now < data.now).sum() > 10
    heard.clear()
    calibrate(ear, split.train, rng)
    for query in heard:
        np.testing.assert_array_equal(query.now, query.times.max(axis=1))


def test_a_group_that_train_lacks_is_no_group() -> None:
    prepared = shop(derived=True, group="genres")
    data = prepared.dataset
    of_key = np.array([int(key.split("i")[-1]) % 4 for key in data.items.keys])
    part = attached(prepared, data.take(of_key[data.item] != 2))
    assert part.derivation is not None and part.derivation.n_groups == 3
    expected = np.array([0, 1, -1, 2])[of_key]
    np.testing.assert_array_equal(part.derivation.item_group, expected)


def test_pct_uses_the_block_and_still_abstains_of_nobody() -> None:
    data = attached(shop(derived=True, price="price"))
    bare = dataclasses.replace(data, item_attributes={}, item_text=None)
    local = {domain.name: Local(reg=0.5, nu=0.5) for domain in data.domains}
    recipe = Pct(dim=8, domains=local, transfer=False)
    model = recipe.fit(bare, Run())
    assert isinstance(model, PctModel)
    query = bare.query(np.arange(-1, 6))
    scores = model.score(query)
    assert np.isnan(scores[0]).all() and not np.isnan(scores[1:]).any()
    single = np.vstack([model.score(query.take(np.array([b]))) for b in range(7)])
    np.testing.assert_allclose(scores, single, atol=1e-5)
    without = dataclasses.replace(bare, derivation=None)
    plain = recipe.fit(without, Run()).score(without.query(np.arange(6)))
    assert not np.allclose(plain, scores[1:], atol=1e-3)
    reasons = model.explain(query, np.full((7, 1), 2))
    assert reasons[0][0] == []
    named = {reason.name for reason in reasons[1][0] if reason.kind == "attribute"}
    assert {"frequency", "price level"} <= named <= set(USER_NAMES)
    total = sum(reason.value for reason in reasons[1][0])
    assert total == pytest.approx(float(scores[1, 2]), abs=1e-4 * float(np.abs(scores[1:]).max()))


def test_a_column_of_that_name_is_renamed() -> None:
    log = pl.DataFrame({"user": ["a", "b"], "item": ["1", "2"], "time": [1, 2]})
    users = pl.DataFrame({"user": ["a", "b"], "derived": [1.0, 2.0]})
    data = attached(from_frames(log, users=users, features={"derived": True}))
    assert {name: b.shape for name, b in data.user_features.items()} == {
        "derived_": (2, 1),
        DERIVED: (2, 5),
    }


def test_mistakes_are_named() -> None:
    for features, message in (
        ({"price": "prise"}, r'features\] price = "prise".*did you mean "price"'),
        ({"group": "genre"}, r'features\] group = "genre".*did you mean "genres"'),
    ):
        with pytest.raises(ConfigError, match=message):
            attached(shop(derived=True, **features))
    with pytest.raises(DataError, match='price = "genres": the column holds no number'):
        attached(shop(derived=True, price="genres"))
    with pytest.raises(DataError, match='group = "empty": the column is empty'):
        attached(shop(derived=True, group="empty"))


def test_from_toml_to_a_loaded_run(tmp_path: Path) -> None:
    experiment = load(write_shop(tmp_path), [*TOML, "model={kind='pct', dim=8}"])
    trained = pipeline.save(experiment, tmp_path / "runs")
    assert trained.fitted.path is not None
    before, after = Recommender(trained.fitted), m6rec.open(trained.fitted.path)
    for request in ({"user": "u5"}, {"history": ["films/i1", "books/i21"]}):
        one, two = before.query([None], **_new(request)), after.query([None], **_new(request))
        np.testing.assert_array_equal(one.features[DERIVED], two.features[DERIVED])
        assert one.features[DERIVED].shape == (1, 6)
        found = after.recommend(**request, k=5, explain=True)  # type: ignore[arg-type]
        assert found.equals(before.recommend(**request, k=5, explain=True))  # type: ignore[arg-type]
    (why,) = after.explain(["books/i25"], history=["films/i1", "films/i5"])
    labels = {c.label for c in why.contributions if c.kind == "attribute"}
    assert "price level" in labels
    evaluated = m6rec.evaluate(after)
    assert evaluated["ndcg@10"] == trained.evaluations["pct"]["ndcg@10"]
    with pytest.raises(ConfigError, match='did you mean "year"'):
        pipeline.train(load(tmp_path / "shop.toml", [*TOML, "data.features.price='yaer'"]))


def _new(request: dict[str, Any]) -> dict[str, Any]:
    return {"history": request.get("history", ["films/i2"])}


def test_networks_are_not_told_what_they_are_asked() -> None:
    """What describes a user in training is as of before the event that is learned."""
    data = attached(shop(derived=True, price="price", group="genres"))
    row = np.arange(len(data))
    for told in (
        lambda d: tower_inputs.users_told(d, row, True),
        lambda d: tower_inputs.users_told(d, deepfm.first_events(d, d.user, d.item), True),
    ):
        block, of = told(data)
        for event in (3, 40, len(data) - 1):
            expected = as_of(data, np.array([event])).features[DERIVED][0]
            np.testing.assert_array_equal(block[of[event]][: len(expected)], expected)
            assert data.derivation is not None and data.derivation.price is not None
            price = data.derivation.price.copy()
            price[data.item[event]] = 1e6  # of the item that is asked for
            dearer = dataclasses.replace(data.derivation, price=price)
            other = dataclasses.replace(data, derivation=dearer)
            np.testing.assert_array_equal(told(other)[0][of[event]], block[of[event]])
    plain = dataclasses.replace(data, derivation=None)
    block, of = tower_inputs.users_told(plain, row, True)
    assert len(block) == plain.n_users and (of == plain.user).all()
