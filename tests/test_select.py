"""Feature selection keeps what tells something, drops noise and constants, and says why."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import polars as pl
import pytest

from m6rec.data.attributes import Attributes
from m6rec.data.features import Selection
from m6rec.data.frames import from_frames
from m6rec.data.select import masks, mutual_information, select
from world import GROUPS, world


def test_mutual_information_of_known_tables() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 4, 20_000)
    assert mutual_information(a, a) == pytest.approx(np.log(4), abs=0.01)
    assert mutual_information(a, rng.integers(0, 4, 20_000)) < 0.001
    assert mutual_information(a, a % 2) == pytest.approx(np.log(2), abs=0.01)
    assert mutual_information(a[:0], a[:0]) == 0


@pytest.mark.parametrize("of", ["users", "items"])
@pytest.mark.parametrize("explicit", [False, True])
def test_taste_is_kept_and_noise_is_dropped(of: str, explicit: bool) -> None:
    data = world(n_users=200, explicit=explicit)
    rng = np.random.default_rng(0)
    n = data.n_users if of == "users" else data.n_items
    group = np.eye(GROUPS, dtype=np.float32)[np.arange(n) % GROUPS]
    if explicit:  # a rating is foretold by a column only where one side is liked more
        group = group * 0
        mean = np.bincount(data.user if of == "users" else data.item, data.weight, n)
        group[:, 0] = mean / np.bincount(data.user if of == "users" else data.item, minlength=n)
        group = group[:, :1]
    blocks = {
        "group": group,
        "noise": rng.normal(size=(n, 2)).astype(np.float32),
        "constant": np.ones((n, 1), np.float32),
    }
    names = {name: [f"{name}{i}" for i in range(b.shape[1])] for name, b in blocks.items()}
    found = select(blocks, names, data, of, Selection(), rng)  # type: ignore[arg-type]
    told = {figure.name: figure.information for figure in found}
    assert [figure.name for figure in found] == [n for group in names.values() for n in group]
    assert told["constant0"] == 0
    best, noise = told["group0"], max(told["noise0"], told["noise1"])
    if not explicit:
        assert best > 5 * noise
    assert best > noise


def test_thresholds_become_masks() -> None:
    data = world()
    blocks = {
        "group": data.item_attributes["group"],
        "mixed": np.column_stack([np.arange(40) % GROUPS, np.ones(40)]).astype(np.float32),
    }
    names = {"group": list("abcd"), "mixed": ["good", "flat"]}
    rng = np.random.default_rng(0)
    found = select(blocks, names, data, "items", Selection(min_variance=1e-6), rng)
    assert {n: m.tolist() for n, m in masks(found).items()} == {
        "group": [True] * 4,
        "mixed": [True, False],
    }
    strict = select(blocks, names, data, "items", Selection(min_information=99.0), rng)
    assert not any(figure.kept for figure in strict)


def test_only_train_rows_count() -> None:
    data = world()
    some = dataclasses.replace(data.take(data.item < 20))
    column = np.zeros((40, 1), np.float32)
    column[20:] = 1.0
    figures = select({"late": column}, {"late": ["late"]}, some, "items", Selection(),
                     np.random.default_rng(0))  # fmt: skip
    assert figures[0].variance == 0 and figures[0].information == 0


def test_declared_selection_and_derived_features_are_attached_and_saved() -> None:
    data = world(n_users=200)
    log = {
        "user": data.users.decode(data.user),
        "item": data.items.decode(data.item),
        "time": data.time,
    }
    items = {
        "item": data.items.keys,
        "taste": [f"taste{i % GROUPS}" for i in range(40)],
        "noise": [f"noise{i // 4 % 2}" for i in range(40)],
    }
    features = {"select": {"min_information": 0.02}, "derived": True}
    prepared = from_frames(pl.DataFrame(log), pl.DataFrame(items), features=features)
    fitted = Attributes.fit(prepared, prepared.dataset)
    attached = fitted.attach(prepared.dataset, prepared)
    assert {name: block.shape[1] for name, block in attached.item_features.items()} == {
        "taste": GROUPS,
        "derived": 3,
    }
    kept = {figure.name: figure.kept for figure in fitted.figures if figure.of == "items"}
    assert kept["taste=taste0"] and not kept["noise=noise0"]
    again = Attributes.restore(json.loads(json.dumps(fitted.state())))
    assert again.figures == fitted.figures
    for name, block in again.attach(prepared.dataset, prepared).item_features.items():
        np.testing.assert_array_equal(block, attached.item_features[name])
