"""New items under options that the contract tests do not set."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from m6rec.data.dataset import Dataset
from m6rec.models.base import Model, Recipe, updated
from m6rec.models.pct_model import PctModel
from m6rec.tracking import Run
from test_contract import about, against_all, assert_close
from world import alike, world

LOCAL = {"reg": 0.5, "nu": 0.5}
ALONE = {"films": LOCAL, "books": LOCAL}
JOINT = {"films": LOCAL, "books": {**LOCAL, "omega": {"films": 0.5}}}
COLD = {"films": LOCAL, "books": {**LOCAL, "omega": {"films": 1.0}, "warm": False}}
PCT = {"kind": "pct", "dim": 8, "domains": ALONE}
TOWERS = {"kind": "towers", "epochs": 1, "dim": 16, "text_dim": 8}
X = 39  # listed, without events

CASES: list[tuple[dict[str, Any], bool]] = [
    ({"kind": "popular", "scope": "domain", "half_life": 30.0}, False),
    ({"kind": "neighbours", "by": "user", "similarity": "pearson"}, False),
    ({"kind": "neighbours", "by": "user", "similarity": "pearson", "scope": "domain"}, True),
    ({"kind": "linear", "scope": "domain", "top": 5}, False),
    ({"kind": "window", "scope": "domain"}, False),
    ({"kind": "text", "scope": "domain"}, False),
    ({**PCT, "domains": JOINT}, False),
    ({**PCT, "domains": JOINT}, True),
    ({**PCT, "domains": COLD}, False),
    ({**PCT, "attributes": False}, False),
    ({"kind": "normalised", "by": "item", "scale": "quantile", "part": PCT}, True),
    ({"kind": "normalised", "by": "item", "scale": "zscore", "part": PCT}, True),
    ({**TOWERS, "pct": PCT, "hybrid": "residual", "scope": "domain"}, False),
    ({**TOWERS, "head": "additive"}, False),
    ({"kind": "deepfm", "epochs": 1, "user_ids": True, "hidden": []}, False),
]


@pytest.mark.parametrize(("table", "explicit"), CASES, ids=lambda case: str(case)[:60])
def test_a_new_item_is_one_without_events(table: dict[str, Any], explicit: bool) -> None:
    model, data = cold(table, explicit)
    longer = data.extended(alike(data, X, 1))
    newer = updated(model, longer)
    before, after = model.score(data.query(np.arange(9))), newer.score(longer.query(np.arange(9)))
    assert_close(before, after[:, :40])
    assert_close(*against_all(after[:, :41], X, 40))
    assert np.isnan(after[:, 41]).all() == np.isnan(after[:, 40]).all()
    assert_close(*(newer.score(about(longer, 3, 30, i)) for i in (X, 40)))
    again = newer.recipe.restore(newer.state())
    assert_close(after, again.score(longer.query(np.arange(9))))


def cold(table: dict[str, Any], explicit: bool = False) -> tuple[Model, Dataset]:
    """A model of the world in which X has no events."""
    data = world(explicit=explicit)
    data = data.take(data.item != X)
    return Recipe.from_table(table).fit(data, Run(seed=1)), data


def test_a_new_item_is_found_by_its_attributes_alone() -> None:
    model, data = cold(PCT)
    new = alike(data, 1, 2, 3)
    longer = data.extended(new)
    scores = updated(model, longer).score(longer.query(np.arange(40)), np.array([40, 41, 42]))
    for user in range(1, 40):
        if user % 4:
            assert scores[user].argmax() == user % 4 - 1  # its taste group


def test_onnx_abstains_where_what_makes_keys_is_not_in_the_graph() -> None:
    pytest.importorskip("onnxruntime")
    for head, silent in (("dot", False), ("additive", True)):
        model, data = cold({"kind": "onnx", "towers": {**TOWERS, "head": head}})
        longer = data.extended(alike(data, X))
        scores = updated(model, longer).score(longer.query(np.arange(3)))
        assert np.isnan(scores[:, 40]).all() == silent
        assert not np.isnan(scores[:, X]).any()


def test_an_item_of_which_nothing_is_known_is_left_to_popularity() -> None:
    model, data = cold(PCT)
    nothing = alike(data, X)
    blank = {name: np.zeros_like(block) for name, block in nothing.item_attributes.items()}
    longer = data.extended(dataclasses.replace(nothing, item_attributes=blank, item_text=None))
    assert longer.item_text is not None and longer.item_text[-1] == ""
    newer = updated(model, longer)
    assert isinstance(newer, PctModel)
    assert np.isnan(newer.score(longer.query(np.arange(3)))[:, 40]).all()
