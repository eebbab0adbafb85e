"""Derived features: values worked out by hand, and no leak of the target event."""

from __future__ import annotations

import dataclasses

import numpy as np

from m6rec.data.dataset import Dataset
from m6rec.data.derived import ITEM_NAMES, USER_NAMES, as_of, derived_item, derived_user
from m6rec.data.query import DAY
from world import world


def small() -> Dataset:
    """User 0 had items 0, 1 on day 0 and item 2 on day 4; user 1 had item 0 on day 9."""
    return Dataset.build(
        user=np.array([0, 0, 0, 1]), item=np.array([0, 1, 2, 0]), users=3, items=4,
        weight=np.array([1, 2, 3, 1], np.float32), time=np.array([0, 10, 4 * DAY, 9 * DAY]),
    )  # fmt: skip


def test_user_features_by_hand() -> None:
    query = small().query(np.array([0, 1, 2]))
    group = np.array([0, 0, 1, -1])
    price = np.array([10.0, np.nan, 30.0, np.nan])
    block = derived_user(query, group, 2, price)
    assert block.dtype == np.float32
    entropy = -(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3)) / np.log(2)
    expected = {
        "activity": [np.log(4), np.log(2), np.nan],
        "frequency": [np.log(1 + 3 / 2), np.log(2), np.nan],
        "recency": [1 / 6, 1, np.nan],
        "diversity": [entropy, 0, np.nan],
        "mean value": [2, 1, np.nan],
        "price level": [20, 10, np.nan],
    }
    for column, name in enumerate(USER_NAMES):
        np.testing.assert_allclose(block[:, column], expected[name], rtol=1e-6, err_msg=name)


def test_user_features_without_times() -> None:
    data = Dataset.build(user=np.array([0, 0]), item=np.array([0, 1]), users=1, items=2)
    block = derived_user(data.query(np.array([0])), np.array([0, 1]), 2)
    np.testing.assert_allclose(block[0], [np.log(3), np.nan, np.nan, 1, 1], rtol=1e-6)


def test_item_features_by_hand() -> None:
    block = dict(zip(ITEM_NAMES, derived_item(small()).T, strict=True))
    np.testing.assert_allclose(block["popularity"], [*np.log([3, 2, 2]), np.nan], rtol=1e-6)
    days = np.array([9, 9 - 10 / DAY, 5])
    np.testing.assert_allclose(block["age"], [*np.log1p(days), np.nan], rtol=1e-5)
    np.testing.assert_allclose(block["freshness"], [1, *(1 / (1 + days[1:])), np.nan], rtol=1e-5)


def test_as_of_holds_only_what_was_before() -> None:
    data = world(n_users=12)
    rows = np.array([0, 5, 17, 40, len(data) - 1])
    query = as_of(data, rows)
    for b, row in enumerate(rows):
        before = data.item[data.start[data.user[row]] : row]
        sequence = query.sequence[b][query.sequence[b] >= 0]
        np.testing.assert_array_equal(sequence, before)
        assert set(query.history[[b]].indices) == set(before)
    np.testing.assert_array_equal(query.now, data.time[rows])
    np.testing.assert_array_equal(
        query.features["taste"], data.user_attributes["taste"][query.user]
    )


def test_later_events_change_nothing() -> None:
    data = world(n_users=12)
    row = np.array([4])
    domain = data.item_domain
    before = derived_user(as_of(data, row), domain, data.n_domains)
    item = data.item.copy()
    item[4:] = (item[4:] + 7) % data.n_items
    changed = dataclasses.replace(data, item=item)
    np.testing.assert_array_equal(derived_user(as_of(changed, row), domain, 2), before)


def test_training_and_live_agree() -> None:
    """As of an event in the log = a live request with only the earlier events in the store."""
    data = world(n_users=12)
    row = 17
    earlier = data.take(np.arange(len(data)) < row)
    live = earlier.query(data.user[[row]], now=data.time[[row]])
    np.testing.assert_array_equal(
        derived_user(as_of(data, np.array([row])), data.item_domain, 2),
        derived_user(live, data.item_domain, 2),
    )
