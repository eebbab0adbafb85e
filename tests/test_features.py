"""Attribute columns → blocks: every kind, fitted on train only, guessed, saved, refused."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from m6rec.config import from_table
from m6rec.data import features
from m6rec.data.features import Features, FeatureSpec
from m6rec.errors import ConfigError, DataError

FRAME = pl.DataFrame(
    {
        "genres": ["Comedy|Drama", "Drama", None, "Action | Comedy", "Drama", ""],
        "tags": [["a", "b"], [], None, ["b", "b"], ["a"], ["zz"]],
        "color": ["red", "red", "blue", None, "red", "blue"],
        "price": [1.0, None, 3.0, 100.0, 2.0, 2.0],
        "blurb": ["a long way", None, "to tip", "", "x", "y"],
        "junk": [object.__name__] * 6,
    }
)
SPECS = {
    "genres": FeatureSpec(kind="multi", min_count=1),
    "tags": FeatureSpec(kind="multi", min_count=2),
    "color": FeatureSpec(kind="categorical", min_count=1),
    "price": FeatureSpec(kind="numeric", normalise="center"),
    "blurb": FeatureSpec(kind="text"),
    "junk": FeatureSpec(kind="skip"),
}


def test_blocks_and_names() -> None:
    fitted = features.fit(FRAME, SPECS)
    blocks = fitted.apply(FRAME)
    assert fitted.names["genres"] == ("genres=Drama", "genres=Comedy", "genres=Action")
    assert blocks["genres"].tolist() == [
        [1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 1], [1, 0, 0], [0, 0, 0]
    ]  # fmt: skip
    assert fitted.names["tags"] == ("tags=b", "tags=a", "tags=(other)")
    assert blocks["tags"].tolist() == [
        [1, 1, 0], [0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]
    ]  # fmt: skip
    np.testing.assert_allclose(blocks["price"][:, 0], [-20.6, 0, -18.6, 78.4, -19.6, -19.6], 1e-5)
    assert set(blocks) == {"genres", "tags", "color", "price"}
    assert all(block.dtype == np.float32 for block in blocks.values())
    assert fitted.text(FRAME) == ("a long way", "", "to tip", "", "x", "y")


def test_only_train_rows_are_learned_from() -> None:
    fitted = features.fit(FRAME, SPECS, np.array([0, 1, 4]))
    assert fitted.names["color"] == ("color=red",)
    assert not fitted.apply(FRAME)["color"][2].any()  # blue was never seen
    assert fitted.apply(FRAME)["price"][4, 0] == pytest.approx(2 - 1.5)
    changed = FRAME.with_columns(price=pl.Series([1.0, None, -9.0, -9.0, 2.0, -9.0]))
    again = features.fit(changed, SPECS, np.array([0, 1, 4]))
    assert again.state() == fitted.state()


def test_rare_values_share_a_column() -> None:
    spec = FeatureSpec(kind="categorical", min_count=1, max_categories=1)
    fitted = features.fit(FRAME.select("color"), {"color": spec})
    assert fitted.names["color"] == ("color=red", "color=(other)")
    assert fitted.apply(FRAME)["color"].sum(axis=0).tolist() == [3, 2]


@pytest.mark.parametrize(("impute", "expected"), [("mean", 21.6), ("median", 2.0)])
def test_missing_numbers(impute: str, expected: float) -> None:
    spec = from_table(FeatureSpec, {"kind": "numeric", "normalise": "none", "impute": impute})
    block = features.fit(FRAME.select("price"), {"price": spec}).apply(FRAME)["price"]
    assert block[1, 0] == pytest.approx(expected)


def test_missing_number_as_zero_after_normalising() -> None:
    spec = FeatureSpec(kind="numeric", normalise="minmax", impute="zero")
    block = features.fit(FRAME.select("price"), {"price": spec}).apply(FRAME)["price"]
    assert block[:, 0].min() == 0 and block[1, 0] == 0 and block[3, 0] == 1


def test_times_and_text_numbers() -> None:
    frame = pl.DataFrame({"day": ["2020-01-01", "2020-01-03"], "n": ["1", " 5"]}).with_columns(
        pl.col("day").str.to_date()
    )
    spec = FeatureSpec(kind="numeric", normalise="center")
    blocks = features.fit(frame, {"day": spec, "n": spec}).apply(frame)
    assert blocks["day"][:, 0].tolist() == [-1, 1]
    assert blocks["n"][:, 0].tolist() == [-2, 2]


def test_guesses() -> None:
    n = 200
    frame = pl.DataFrame(
        {
            "genres": ["Comedy|Drama", "Drama", "Action", "Action|Comedy"] * (n // 4),
            "title": [f"the film number {i}" for i in range(n)],
            "标题": [f"第{i}部电影" for i in range(n)],
            "year": [str(1990 + i % 20) for i in range(n)],
            "imdb_id": list(range(n)),
            "sku": [f"x{i:05}" for i in range(n)],
            "url": [f"http://example.org/{i}" for i in range(n)],
            "brand": ["a", "b", "c", None] * (n // 4),
            "new": [True, False] * (n // 2),
            "price": [float(i) for i in range(n)],
            "same": ["x"] * n,
            "tags": [["a"], ["a", "b"]] * (n // 2),
            "empty": pl.Series([None] * n, dtype=pl.String),
        }
    )
    kinds = {name: spec.kind for name, spec in features.fit(frame).guessed.items()}
    assert kinds == {
        "genres": "multi", "title": "text", "标题": "text", "year": "numeric", "imdb_id": "skip",
        "sku": "skip", "url": "skip", "brand": "categorical", "new": "categorical",
        "price": "numeric", "same": "skip", "tags": "multi", "empty": "skip",
    }  # fmt: skip


def test_state_is_json_and_gives_the_same_blocks() -> None:
    fitted = features.fit(FRAME, SPECS).select({"genres": np.array([True, False, True])})
    again = Features.restore(json.loads(json.dumps(fitted.state())))
    assert again.names == fitted.names
    for name, block in fitted.apply(FRAME).items():
        np.testing.assert_array_equal(again.apply(FRAME)[name], block)


def test_selection_narrows_blocks_and_names() -> None:
    fitted = features.fit(FRAME, SPECS)
    whole = fitted.apply(FRAME)["genres"]
    some = fitted.select({"genres": np.array([True, False, True]), "price": np.array([False])})
    assert some.names["genres"] == ("genres=Drama", "genres=Action")
    np.testing.assert_array_equal(some.apply(FRAME)["genres"], whole[:, [0, 2]])
    assert "price" not in some.apply(FRAME)
    one = some.select({"genres": np.array([False, True])})
    np.testing.assert_array_equal(one.apply(FRAME)["genres"], whole[:, [2]])


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match='no column "colour"; did you mean "color"'):
        features.fit(FRAME, {"colour": FeatureSpec(kind="skip")})
    with pytest.raises(DataError, match='"color" holds no number'):
        features.fit(FRAME.select("color"), {"color": FeatureSpec(kind="numeric")})
    with pytest.raises(DataError, match='no column "price"'):
        features.fit(FRAME, SPECS).apply(FRAME.drop("price"))
    with pytest.raises(ConfigError, match="separator must not be empty"):
        from_table(FeatureSpec, {"kind": "multi", "separator": ""})
