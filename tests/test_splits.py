"""Splits: nothing lost, nothing leaked, order respected; the holdout inside train."""

from __future__ import annotations

import dataclasses
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m6rec.config import from_table
from m6rec.data import splits
from m6rec.data.dataset import Dataset
from m6rec.data.holdout import familiar, holdout
from m6rec.data.schema import Domain
from m6rec.data.splits import Kind, Split, SplitConfig, make_split
from m6rec.data.vocab import Vocab
from m6rec.errors import ConfigError, DataError
from world import world

DOMAINS = (Domain(name="films"), Domain(name="books"))


@st.composite
def datasets(draw: st.DrawFn, ordered: bool | None = None) -> Dataset:
    """Up to 60 events of 8 users on 10 items of two domains; weights number the rows."""
    n = draw(st.integers(2, 60))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    timed = draw(st.booleans()) if ordered is None else ordered
    data = Dataset.build(
        user=rng.integers(0, 8, n),
        item=rng.integers(0, 10, n),
        users=8,
        items=10,
        time=rng.integers(0, 30, n) if timed else None,
        domains=DOMAINS,
        item_domain=np.arange(10) % 2,
    )
    return dataclasses.replace(data, weight=np.arange(1, n + 1, dtype=np.float32))


def rows(data: Dataset) -> set[int]:
    return set((data.weight - 1).astype(int).tolist())


def check(data: Dataset, split: Split) -> None:
    """Train, test and what only the context holds make up all rows, once."""
    extra = rows(split.context) - rows(split.train)
    parts = [rows(split.train), rows(split.test), extra]
    assert sum(len(part) for part in parts) == len(data)
    assert set.union(*parts) == rows(data)
    assert rows(split.train) <= rows(split.context)
    for part in (split.train, split.test, split.context):
        assert (np.diff(part.user) >= 0).all()


@settings(max_examples=80, deadline=None)
@given(datasets(ordered=True), st.floats(0.05, 0.9))
def test_temporal(data: Dataset, fraction: float) -> None:
    split = splits.temporal(data, fraction)
    check(data, split)
    assert len(split.test) >= 1
    if len(split.train):
        assert split.train.time.max() < split.test.time.min()
        newer = (data.time > split.test.time.min()).sum()
        assert newer < max(1, round(fraction * len(data)))


def test_temporal_at_a_time() -> None:
    data = Dataset.build(
        user=np.array([0, 0, 0]), item=np.array([0, 1, 2]), users=1, items=3,
        time=np.array([0, 86_400, 2 * 86_400]),
    )  # fmt: skip
    assert splits.temporal(data, time="1970-01-02").test.item.tolist() == [1, 2]
    assert splits.temporal(data, time="1970-01-02T01:00:00+01:00").test.item.tolist() == [1, 2]
    with pytest.raises(ConfigError, match='time = "tomorrow"'):
        splits.temporal(data, time="tomorrow")


@settings(max_examples=80, deadline=None)
@given(datasets(ordered=True), st.integers(1, 3), st.sampled_from(["user", "domain"]))
def test_leave_last(data: Dataset, n: int, per: str) -> None:
    split = splits.leave_last(data, n, per)  # type: ignore[arg-type]
    check(data, split)
    for user in range(data.n_users):
        for domain in (0, 1) if per == "domain" else (None,):
            whole, test = (
                d.take((d.user == user) & ((domain is None) | (d.item % 2 == domain)))
                for d in (data, split.test)
            )
            assert len(test) == (n if len(whole) > n else 0)
            newest = whole.weight[len(whole) - len(test) :]
            np.testing.assert_array_equal(test.weight, newest)


@settings(max_examples=40, deadline=None)
@given(datasets(), st.floats(0.05, 0.9), st.integers(0, 99))
def test_random_and_folds(data: Dataset, fraction: float, seed: int) -> None:
    split = splits.random(data, fraction, np.random.default_rng(seed))
    check(data, split)
    assert len(split.test) == round(fraction * len(data))
    folds = splits.folds(data, 4, np.random.default_rng(seed))
    for fold in folds:
        check(data, fold)
    assert sorted(r for fold in folds for r in rows(fold.test)) == list(range(len(data)))
    sizes = [len(fold.test) for fold in folds]
    assert max(sizes) - min(sizes) <= 1


@settings(max_examples=80, deadline=None)
@given(datasets(), st.floats(0.05, 0.9), st.floats(0, 0.95), st.integers(0, 99))
def test_cold_user(data: Dataset, fraction: float, context: float, seed: int) -> None:
    split = splits.cold_user(data, fraction, np.random.default_rng(seed), context)
    check(data, split)
    held = np.unique(split.test.user)
    assert len(held) == max(1, round(fraction * len(np.unique(data.user))))
    assert not np.isin(split.train.user, held).any()
    for user in held:
        seen = split.context.take(split.context.user == user)
        asked = split.test.take(split.test.user == user)
        size = len(seen) + len(asked)
        assert len(seen) == min(np.ceil(context * size), size - 1)
        if data.ordered and len(seen):
            assert seen.weight.max() < asked.weight.min()  # rows are numbered oldest first


@settings(max_examples=40, deadline=None)
@given(datasets(), st.floats(0.05, 0.9), st.integers(0, 99))
def test_cold_item(data: Dataset, fraction: float, seed: int) -> None:
    split = splits.cold_item(data, fraction, np.random.default_rng(seed))
    check(data, split)
    assert len(split.test)
    assert not np.isin(split.train.item, split.test.item).any()


@settings(max_examples=40, deadline=None)
@given(datasets(), st.sampled_from([0.5, 1.0]), st.integers(0, 99))
def test_target_domain(data: Dataset, fraction: float, seed: int) -> None:
    split = splits.target_domain(data, "books", fraction, np.random.default_rng(seed))
    check(data, split)
    assert (split.test.item % 2 == 1).all()
    held = np.unique(split.test.user)
    of_held = split.train.take(np.isin(split.train.user, held))
    assert (of_held.item % 2 == 0).all()
    assert np.isin(held, of_held.user).all()  # they are asked with what they did elsewhere
    if fraction == 1:
        left = split.train.take(split.train.item % 2 == 1)
        assert not np.isin(left.user, split.train.user[split.train.item % 2 == 0]).any()


@settings(max_examples=100, deadline=None)
@given(datasets(), st.integers(0, 99), st.booleans())
def test_holdout(data: Dataset, seed: int, attributes: bool) -> None:
    if attributes:
        data = dataclasses.replace(data, item_attributes={"a": np.ones((10, 1), np.float32)})
    split = holdout(data, np.random.default_rng(seed), fraction=0.3, cold_items=0.2)
    check(data, split)
    assert len(split.train) and len(split.test)
    again = holdout(data, np.random.default_rng(seed), fraction=0.3, cold_items=0.2)
    assert rows(again.test) == rows(split.test)


@settings(max_examples=60, deadline=None)
@given(datasets(), st.integers(0, 99))
def test_holdout_leaves_users_an_event(data: Dataset, seed: int) -> None:
    split = holdout(data, np.random.default_rng(seed), fraction=0.5, cold_users=0)
    several = np.bincount(data.user, minlength=8) > 1
    left = np.bincount(split.train.user, minlength=8) > 0
    if several.any():
        assert (left == (np.bincount(data.user, minlength=8) > 0)).all()
    if data.ordered:
        cell = data.user * 2 + data.item % 2
        last = {int(np.flatnonzero(cell == c)[-1]) for c in np.unique(cell)}
        assert rows(split.test) <= last


def test_holdout_covers_cold_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    data = Dataset.build(
        user=np.repeat(np.arange(400), 10), item=rng.integers(0, 100, 4000), users=400, items=100,
        time=np.arange(4000), domains=DOMAINS, item_domain=np.arange(100) % 2,
        item_attributes={"a": np.ones((100, 1), np.float32)},
    )  # fmt: skip
    split = holdout(data, rng, cold_users=0.1, cold_items=0.05)
    gone = np.setdiff1d(data.item, split.train.item)
    assert 1 <= len(gone) <= 15 and np.isin(gone, split.test.item).all()
    cells = {(u, d) for u in range(400) for d in (0, 1)}
    left = set(zip(split.train.user.tolist(), (split.train.item % 2).tolist(), strict=True))
    assert 20 <= len(cells - left) <= 80
    monkeypatch.setattr("m6rec.data.holdout.LEAST", 0)
    bounded = holdout(data, rng, cold_users=0.1, cold_items=0.05, max_events=40)
    assert 20 <= len(bounded.test) <= 120


@pytest.mark.parametrize("ordered", [False, True])
def test_a_bound_leaves_small_domains_enough(
    monkeypatch: pytest.MonkeyPatch, ordered: bool
) -> None:
    monkeypatch.setattr("m6rec.data.holdout.LEAST", 50)
    large, small = np.repeat(np.arange(4000), 5), np.repeat(np.arange(200), 5)
    data = Dataset.build(
        user=np.r_[large, small], item=np.r_[np.arange(20_000) % 90, 90 + np.arange(1000) % 10],
        users=4000, items=100, domains=DOMAINS, item_domain=np.arange(100) // 90, ordered=ordered,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    held = holdout(data, rng, fraction=0.2, cold_users=0, max_events=100).test
    in_small = int((held.item >= 90).sum())
    assert 30 <= in_small <= 70 and len(held) - in_small <= 150
    whole = holdout(data, rng, fraction=0.02, cold_users=0).test
    assert len(whole) <= 550 and (whole.item >= 90).sum() <= 50  # no more than unbounded


def test_a_holdout_that_would_be_empty_takes_the_newest_event_of_the_busiest_user() -> None:
    data = Dataset.build(
        user=np.array([0, 1, 1, 1]), item=np.array([0, 1, 2, 3]), users=2, items=4, ordered=True
    )
    split = holdout(data, np.random.default_rng(0), fraction=1e-9)
    assert split.test.item.tolist() == [3]


def test_holdout_of_single_events_is_not_empty() -> None:
    data = Dataset.build(user=np.arange(5), item=np.arange(5), users=5, items=5, ordered=True)
    split = holdout(data, np.random.default_rng(0))
    assert len(split.test) == 1 and len(split.train) == 4
    with pytest.raises(DataError, match="train has 1 events"):
        holdout(data.take(np.array([0])), np.random.default_rng(0))


def test_repeats_are_left_out() -> None:
    data = Dataset.build(
        user=np.array([0, 0, 0, 1, 1]), item=np.array([0, 1, 0, 0, 1]), users=2, items=2,
        ordered=True,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    assert make_split(data, SplitConfig(), rng).test.user.tolist() == [1]
    assert make_split(data, SplitConfig(repeats=True), rng).test.user.tolist() == [0, 1]


def test_every_kind_can_be_made() -> None:
    rng = np.random.default_rng(0)
    data = Dataset.build(
        user=rng.integers(0, 30, 600), item=rng.integers(0, 60, 600), users=30, items=60,
        time=np.arange(600), domains=DOMAINS, item_domain=np.arange(60) % 2,
    )  # fmt: skip
    for kind in get_args(Kind):
        config = from_table(SplitConfig, {"kind": kind, "target": "books"})
        first, second = (make_split(data, config, np.random.default_rng(1)) for _ in range(2))
        assert len(first.train) and len(first.test)
        np.testing.assert_array_equal(first.test.item, second.test.item)


def test_given_files_over_one_vocabulary() -> None:
    train = Dataset.build(
        user=np.array([0, 1]), item=np.array([0, 1]), users=Vocab(["ann", "bob"]),
        items=Vocab(["x", "y"]), user_attributes={"age": np.ones((2, 1), np.float32)},
    )  # fmt: skip
    test = Dataset.build(
        user=np.array([0, 0, 1]), item=np.array([0, 1, 2]), users=Vocab(["cid", "bob"]),
        items=Vocab(["new", "y", "x"]),
    )  # fmt: skip
    split = splits.given(train, test)
    asked = zip(
        split.test.users.decode(split.test.user),
        split.test.items.decode(split.test.item),
        strict=True,
    )
    assert sorted(asked) == [("bob", "x"), ("cid", "y")]
    assert split.train.users is split.test.users and split.train.items is split.test.items
    assert split.train.user_features["age"].tolist() == [[1], [1], [0]]


def test_familiar_tests_no_item_that_train_never_saw() -> None:
    data = Dataset.build(user=np.array([0, 0, 1, 1]), item=np.array([0, 1, 0, 2]), users=2, items=3)
    split = Split.by_mask(data, np.array([True, False, False, True]))
    kept = familiar(split)
    assert kept.test.item.tolist() == [0] and len(kept.train) == 2
    none = Split.by_mask(data, np.array([False, False, False, True]))
    assert familiar(none) is none


def test_mistakes_are_named() -> None:
    data = Dataset.build(user=np.array([0, 0]), item=np.array([0, 1]), users=1, items=2)
    rng = np.random.default_rng(0)
    with pytest.raises(ConfigError, match="has no times"):
        make_split(data, SplitConfig(kind="temporal"), rng)
    with pytest.raises(ConfigError, match="ordered = true"):
        make_split(data, SplitConfig(kind="leave-last"), rng)
    with pytest.raises(ConfigError, match='no such domain; did you mean "items"'):
        make_split(data, SplitConfig(kind="target-domain", target="item"), rng)
    with pytest.raises(DataError, match="leaves no event for train"):
        make_split(data, SplitConfig(kind="cold-user"), rng)
    with pytest.raises(ConfigError, match="needs target"):
        from_table(SplitConfig, {"kind": "target-domain"}, "split")
    with pytest.raises(ConfigError, match="fraction = 0"):
        from_table(SplitConfig, {"fraction": 0}, "split")


@pytest.mark.parametrize("ordered", [False, True])
def test_a_further_domain_changes_no_holdout_of_the_others(ordered: bool) -> None:
    data = world(ordered=ordered)
    rng = np.random.default_rng(1)
    more = Dataset.build(
        user=np.r_[data.user, rng.integers(0, 120, 500)],
        item=np.r_[data.item, 40 + rng.integers(0, 10, 500)],
        time=np.r_[data.time, rng.integers(data.now, size=500)] if ordered else None,
        users=data.users,
        items=50,
        domains=(*data.domains, Domain(name="guest")),
        item_domain=np.r_[data.item_domain, np.full(10, 2, np.int16)],
        ordered=ordered,
        item_attributes={"group": np.r_[data.item_attributes["group"], np.zeros((10, 4))]},
    )  # fmt: skip
    found = []
    for each in (data, more):
        test = holdout(each, np.random.default_rng(0), cold_users=0).test
        inside = test.item < 40
        found.append(set(zip(test.user[inside].tolist(), test.item[inside].tolist(), strict=True)))
    assert found[0] == found[1]
    assert len(found[0]) > 50
