"""Items that arrive after training: a run takes them in, and answers for them at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import m6rec
from m6rec import artifacts
from m6rec.arrivals import changed, extended
from m6rec.artifacts import Fitted
from m6rec.data.derived import DERIVED
from m6rec.data.frames import from_frames
from m6rec.errors import ConfigError, DataError, QueryError
from m6rec.experiment import Experiment
from m6rec.models.base import Model, Recipe
from m6rec.pipeline import fit
from m6rec.recommender import Recommender
from world import WORDS, world

PARTS = {
    "kind": "m6rec",
    "parts": [{"kind": "neighbours", "k": 10}, {"kind": "pct", "dim": 16}, {"kind": "text"}],
}
NEW = pl.DataFrame(
    {
        "key": ["books/new", "films/new"],
        "title": ["Robots Far Away", "Wedding of the Year"],
        "text": ["robot laser planet", "kiss wedding heart"],
        "group": ["g1", "g2"],
        "tags": [["g1", "common"], ["g2"]],
        "colour": ["red", "blue"],
    }
)


def fitted(**features: Any) -> Fitted:
    data = world()
    key = [key.split("/")[1] for key in data.items.keys]
    domain = ["films" if d == 0 else "books" for d in data.item_domain]
    log = {
        "user": data.users.decode(data.user),
        "item": [key[i] for i in data.item],
        "domain": [domain[i] for i in data.item],
        "time": data.time,
    }
    items = {
        "item": key,
        "domain": domain,
        "title": [f"{text.title()}, The" for text in data.item_text or ()],
        "group": [f"g{i % 4}" for i in range(40)],
        "tags": [f"g{i % 4};common" for i in range(40)],
        "year": [1980 + i for i in range(40)],
    }
    features = {"derived": True, "price": "year", "group": "group", **features}
    prepared = from_frames(pl.DataFrame(log), pl.DataFrame(items), features=features)
    return fit(Experiment(model=Recipe.from_table(PARTS), seed=1), prepared)


@pytest.fixture(scope="module")
def before() -> Fitted:
    return fitted()


@pytest.fixture(scope="module")
def after(before: Fitted) -> Fitted:
    return extended(before, NEW)


def test_codes_and_rows(before: Fitted, after: Fitted) -> None:
    assert after.dataset.items.keys.to_list() == [*before.dataset.items.keys, *NEW["key"]]
    assert after.items["key"].to_list() == after.dataset.items.keys.to_list()
    assert after.items.columns == before.items.columns  # no colour
    assert after.items["domain"].tail(2).to_list() == ["books", "films"]
    assert after.items["tags"].tail(2).to_list() == ["g1;common", "g2"]  # as the column is written
    assert after.items["year"].tail(2).to_list() == [None, None]
    assert after.twins.tolist() == [*before.twins, -1, -1]
    assert before.dataset.n_items == 40 and before.model.n_items == 40
    assert "books/new" not in before.dataset.items


def test_the_dataset_is_that_of_all_rows(after: Fitted) -> None:
    whole = after.attributes.attach(after.prepared.dataset, after.prepared)
    data = after.dataset
    assert data.item_text is not None and data.item_text == whole.item_text
    for name in ("item_domain", "hidden", "explicit"):
        np.testing.assert_array_equal(getattr(data, name), getattr(whole, name))
    assert {*data.item_features} == {*whole.item_features} and DERIVED in data.item_features
    for name, block in whole.item_features.items():
        np.testing.assert_array_equal(data.item_features[name], block)
        np.testing.assert_array_equal(data.new_item_features(40)[name], block[40:])
    assert data.derivation is not None and whole.derivation is not None
    np.testing.assert_array_equal(data.derivation.item_group, whole.derivation.item_group)
    np.testing.assert_array_equal(data.derivation.price, whole.derivation.price)
    users, again = (d.query(np.arange(5)).features for d in (data, whole))
    np.testing.assert_array_equal(users[DERIVED], again[DERIVED])


def test_new_items_are_recommended_by_words_and_taste(after: Fitted) -> None:
    rec = Recommender(after)
    found = rec.recommend("u1", domain="books", k=20)  # of taste group 1
    place = found["item"].to_list().index("books/new")
    others = [int(key.split("/i")[1]) % 4 != 1 for key in found["item"] if key != "books/new"]
    assert place < others.index(True) + 1  # before what is not of the taste
    assert rec.recommend(text=WORDS[2], domain="films", k=20)["item"].is_in(["films/new"]).any()


def test_new_items_are_known_by_key_and_title(after: Fitted) -> None:
    rec = Recommender(after)
    assert rec.items(["books/new", "robots far away", "films/new"]).tolist() == [40, 40, 41]
    near = rec.similar("Robots Far Away", k=5)
    assert "books/new" not in near["item"].to_list()
    assert sum(int(key.split("/i")[1]) % 4 == 1 for key in near["item"]) >= 4
    [told] = rec.explain(["books/new"], "u1")
    score = rec.score(["books/new"], "u1")["score"][0]
    assert str(told) and told.score == pytest.approx(score, rel=1e-4)


def test_a_recommender_with_items_knows_old_and_new_titles(before: Fitted) -> None:
    asked, fresh = Recommender(before), Recommender(before)
    assert asked.knows("i1") and not asked.knows("Robots Far Away")  # titles were looked up
    for rec in (asked.with_items(NEW), fresh.with_items(NEW)):
        assert rec.items(["Robots Far Away", "books/new"]).tolist() == [40, 40]
        with pytest.raises(QueryError, match="say which: books/new, films/new"):
            rec.items(["new"])
        assert rec.knows("i1")
    assert not asked.knows("Robots Far Away")


def test_filters_see_new_items(after: Fitted) -> None:
    rec = Recommender(after)
    assert rec.allowed(filter="group == 'g1'")[40:].tolist() == [True, False]
    hidden = extended(after, pl.DataFrame({"key": ["films/secret"], "hidden": [True]}))
    assert not Recommender(hidden).allowed()[42]


def test_saved_and_opened(after: Fitted, tmp_path: Path) -> None:
    path = artifacts.save(after, tmp_path / "run")
    again = m6rec.open(path)
    expected = Recommender(after).recommend("u1", k=10)
    assert again.recommend("u1", k=10)["item"].equals(expected["item"])
    third = extended(again.fitted, pl.DataFrame({"key": ["books/third"], "title": ["Laser"]}))
    assert third.dataset.item_text is not None and third.dataset.item_text[-1] == "Laser"
    assert third.model.n_items == third.dataset.n_items == 43


def test_changed_rows(after: Fitted) -> None:
    rows = pl.DataFrame(
        {"key": ["books/new", "films/i1"], "title": ["Other", None], "hidden": [None, True]}
    )
    made = changed(after, rows)
    code = after.dataset.items.code("films/i1")
    assert made.items["title"].gather([40, code]).to_list() == ["Other", None]
    assert made.dataset.hidden[[40, code]].tolist() == [False, True]
    assert made.items["group"].equals(after.items["group"])
    assert made.items["key"].equals(after.items["key"])
    assert Recommender(made).items(["other"]).tolist() == [40]
    assert not Recommender(made).allowed()[code] and Recommender(after).allowed()[code]
    with pytest.raises(DataError, match='no item "books/none" to change'):
        changed(after, pl.DataFrame({"key": ["books/none"]}))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"key": ["film/x"]}, 'did not know; did you mean "films"'),
        ({"key": ["x"]}, "write it as domain/key"),
        ({"key": ["books/i20"]}, '"books/i20" is not new'),
        ({"key": ["books/x", "books/x"]}, '"books/x" comes twice'),
        ({"key": [None]}, "a row has no key"),
        ({"keys": ["books/x"]}, 'no column "key"; did you mean "keys"'),
        ({"key": ["books/x"], "year": ["late"]}, "year = 'late' is not of type Int64"),
    ],
)
def test_what_does_not_fit_is_refused(before: Fitted, rows: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        extended(before, pl.DataFrame(rows))


def test_a_model_without_update_says_so(before: Fitted) -> None:
    class Fixed(Model):
        recipe, n_items = before.model.recipe, 40

        def score(self, query: Any, items: Any = None) -> Any:
            return before.model.score(query, items)

        def state(self) -> Any:
            return {}

    own = Fitted(model=Fixed(), prepared=before.prepared, twins=before.twins)
    with pytest.raises(ConfigError, match=r'"m6rec" has no update.*add-a-model'):
        extended(own, NEW)
