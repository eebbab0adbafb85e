"""Attributes become feature blocks whose statistics come from train rows alone."""

from __future__ import annotations

import json

import numpy as np
import polars as pl

import m6rec
from m6rec.data.attributes import Attributes
from m6rec.data.frames import from_frames


def test_fitted_on_train_only() -> None:
    log = pl.DataFrame({"user": ["a", "b", "c", "a"], "item": ["1", "2", "3", "2"]})
    users = pl.DataFrame({"user": ["a", "b", "c"], "age": [20.0, 30.0, 1000.0]})
    items = pl.DataFrame(
        {"item": ["1", "2", "3"], "title": ["One", "Two", None], "plot": ["p q", "r", "s t"],
         "genres": ["x|y", "x", "z"]}
    )  # fmt: skip
    features = {
        "items": {"genres": {"kind": "multi", "min_count": 1}, "plot": {"kind": "text"}},
        "users": {"age": {"kind": "numeric"}},
    }
    prepared = from_frames(log, items, users, features=features)
    data = prepared.dataset
    train = data.take(data.user != data.users.code("c"))
    fitted = Attributes.fit(prepared, train)
    full = fitted.attach(data, prepared)
    np.testing.assert_allclose(full.user_features["age"][:2, 0], [-1, 1], rtol=1e-5)
    assert full.user_features["age"][2, 0] > 100  # c is not in train and moved nothing
    assert fitted.items.names["genres"] == ("genres=x", "genres=y")
    assert full.item_features["genres"].tolist() == [[1, 1], [1, 0], [0, 0]]
    assert full.item_text == ("One p q", "Two r", "s t")
    again = Attributes.restore(json.loads(json.dumps(fitted.state())))
    np.testing.assert_array_equal(
        again.attach(data, prepared).user_features["age"], full.user_features["age"]
    )


def test_a_list_is_several_values_of_a_column_of_text() -> None:
    log = pl.DataFrame({"user": ["a", "b", "a", "b"], "item": ["x", "y", "y", "z"]})
    users = pl.DataFrame({"user": ["a", "b"], "likes": ["tea;jam", "jam;oats"]})
    likes = {"kind": "multi", "separator": ";", "min_count": 1}
    run = m6rec.fit(log, users=users, features={"users": {"likes": likes}}, model="popular")
    listed, joined = (
        run.attributes({"likes": given}, 1)["likes"] for given in (["jam", "tea"], "jam;tea")
    )
    assert listed.tolist() == joined.tolist() and listed.sum() == 2


def test_nothing_to_fit() -> None:
    prepared = from_frames(pl.DataFrame({"user": ["a"], "item": ["1"]}))
    full = Attributes.fit(prepared, prepared.dataset).attach(prepared.dataset, prepared)
    assert full.user_features == {}
    assert full.item_features == {}
    assert full.item_text is None
