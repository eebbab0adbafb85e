"""Evaluation against a slow, literal one; protocols, slices, ratings, comparison."""

from __future__ import annotations

import dataclasses
import json
from typing import ClassVar

import numpy as np
import pytest

from m6rec.data.dataset import Dataset
from m6rec.data.query import Query
from m6rec.data.schema import EventType
from m6rec.data.splits import Split, leave_last
from m6rec.errors import ConfigError, DataError
from m6rec.evaluation import compare, evaluate
from m6rec.models.base import Model, Recipe
from m6rec.tracking import Run
from world import world


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fixed(Recipe):
    kind: ClassVar[str] = "fixed"

    def fit(self, train: Dataset, run: Run) -> Model:
        raise NotImplementedError

    def restore(self, state: dict[str, np.ndarray]) -> Model:
        return Table(state["table"])


class Table(Model):
    """Scores looked up by user and item; keeps the queries it was asked."""

    def __init__(self, table: np.ndarray) -> None:
        self.recipe, self.table, self.n_items = Fixed(), table.astype(np.float32), table.shape[1]
        self.asked: list[Query] = []

    def score(self, query: Query, items: np.ndarray | None = None) -> np.ndarray:
        self.asked.append(query)
        rows = self.table[query.user]
        return rows if items is None else rows[:, items]

    def state(self) -> dict[str, np.ndarray]:
        return {"table": self.table}


def halves(data: Dataset, seed: int = 0, fraction: float = 0.3) -> Split:
    return Split.by_mask(data, np.random.default_rng(seed).random(len(data)) < fraction)


def noise(data: Dataset, seed: int = 1) -> Table:
    rng = np.random.default_rng(seed)
    table = rng.integers(0, 12, (data.n_users, data.n_items)).astype(np.float32)
    table[rng.random(table.shape) < 0.1] = np.nan
    return Table(table)


def oldest(data: Dataset) -> Dataset:
    """The first event of each user."""
    return data.take(data.start[:-1])


def pairs(data: Dataset) -> set[tuple[int, int]]:
    return set(zip(data.user.tolist(), data.item.tolist(), strict=True))


def literal_recall(split: Split, table: np.ndarray, k: int) -> dict[tuple[int, int], float]:
    """Recall@k by (user, domain), by plain loops over a list in the worst order."""
    seen, asked = pairs(split.context), pairs(split.test)
    found = {}
    for user in range(split.train.n_users):
        for domain in range(split.train.n_domains):
            items = [
                i
                for i in np.flatnonzero(split.train.item_domain == domain)
                if (user, i) not in seen and not split.train.hidden[i]
            ]
            targets = {i for i in items if (user, i) in asked}
            if targets:
                score = np.nan_to_num(table[user], nan=-np.inf)
                items.sort(key=lambda i, s=score, t=targets: (-s[i], i in t))
                found[user, domain] = len(targets & set(items[:k])) / len(targets)
    return found


@pytest.mark.parametrize("batch", [None, 7])
def test_full_protocol_equals_plain_loops(batch: int | None) -> None:
    data = world()
    hidden = np.zeros(data.n_items, np.bool_)
    hidden[[2, 33]] = True
    split = halves(dataclasses.replace(data, hidden=hidden))
    model = noise(data)
    rows = evaluate(model, split, metrics=["recall@4"], batch=batch).slices["all"]
    expected = literal_recall(split, model.table, 4)
    keys = list(zip(rows.user.tolist(), rows.domain.tolist(), strict=True))
    assert sorted(keys) == sorted(expected)
    np.testing.assert_allclose(rows.values["recall@4"], [expected[key] for key in keys])


def test_events_that_could_not_be_shown_are_counted() -> None:
    data = world()
    hidden = np.zeros(data.n_items, np.bool_)
    hidden[5] = True
    split = halves(dataclasses.replace(data, hidden=hidden))
    expected = int((split.test.item == 5).sum())
    assert evaluate(noise(data), split).dropped == expected
    repeated = Split(train=data, context=data, test=data.take(data.user < 3))
    with pytest.raises(DataError, match="no positive event"):
        evaluate(noise(data), Split(train=data, context=data, test=data.take(data.user < 0)))
    assert evaluate(noise(data), repeated).dropped == len(repeated.test)


def test_queries_carry_the_context_as_of_the_first_test_event() -> None:
    split = halves(world())
    model = noise(split.train)
    evaluate(model, split, metrics=["hit@1"])
    test = split.test
    for domain, query in enumerate(model.asked):
        np.testing.assert_array_equal(
            query.history.toarray(), split.context.matrix[query.user].toarray()
        )
        mine = test.item_domain[test.item] == domain
        for user, now in zip(query.user, query.now, strict=True):
            assert now == test.time[mine & (test.user == user)].min()


def test_slices_part_the_rows() -> None:
    split = halves(world(), fraction=0.8)
    found = evaluate(noise(split.train), split, metrics=["ndcg@5"])
    whole = found.slices["all"]
    for names in (["films", "books"], ["cold users", "warm users"]):
        assert sum(len(found.slices[name]) for name in names) == len(whole)
    activity = [name for name in found.slices if name.startswith("activity")]
    assert sum(len(found.slices[name]) for name in activity) == len(whole)
    counts = split.context.query(whole.user).activity(split.train.item_domain, 2)
    of_row = counts[np.arange(len(whole)), whole.domain]
    assert len(found.slices["cold users"]) == (of_row == 0).sum() > 0
    assert len(found.slices["activity 1-4"]) == ((of_row >= 1) & (of_row < 5)).sum()


def test_cold_items_are_measured_apart() -> None:
    data = world()
    held = np.isin(data.item, [4, 25]) | (np.random.default_rng(0).random(len(data)) < 0.2)
    split = Split.by_mask(data, held)
    table = np.zeros((data.n_users, data.n_items))
    table[:, [4, 25]] = 1.0
    found = evaluate(Table(table), split, metrics=["recall@1"])
    assert found.slices["cold items"].mean("recall@1") == 1.0
    assert found.slices["warm items"].mean("recall@1") == 0.0
    assert "cold items" not in evaluate(Table(table), split, by=["domain"]).slices


def test_sampled_protocol_averages_draws_of_each_event() -> None:
    split = halves(world())
    model = noise(split.train)
    found = evaluate(model, split, metrics=["hit@2", "ndcg@2"], protocol="sampled:8", seeds=4)
    rows = found.slices["all"]
    assert len(rows) == len(split.test)  # world holds no event twice
    assert rows.draws["hit@2"].shape == (4, len(rows))
    np.testing.assert_allclose(rows.values["hit@2"], rows.draws["hit@2"].mean(axis=0))
    means = rows.draws["hit@2"].mean(axis=1)
    assert rows.spread("hit@2") == pytest.approx(means.std(ddof=1))
    full = evaluate(model, split, metrics=["hit@2"])
    assert found["hit@2"] > full["hit@2"]  # fewer rivals
    again = evaluate(model, split, metrics=["hit@2"], protocol="sampled:8", seeds=4, batch=5)
    np.testing.assert_array_equal(again.slices["all"].draws["hit@2"], rows.draws["hit@2"])


def test_ratings_are_compared_pair_by_pair() -> None:
    split = halves(world(explicit=True))
    model = noise(split.train)
    found = evaluate(model, split)
    assert found.metrics == ("rmse", "mae")
    train, test = split.train, split.test
    mean = [train.weight[train.item_domain[train.item] == d].mean() for d in (0, 1)]
    predicted = model.table[test.user, test.item]
    filled = np.where(np.isnan(predicted), np.take(mean, train.item_domain[test.item]), predicted)
    error = filled - test.weight
    assert found["rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-6)
    assert found["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-6)


def test_only_liked_ratings_are_ranking_targets() -> None:
    split = halves(world(explicit=True))
    perfect = np.zeros((split.train.n_users, split.train.n_items))
    test, train = split.test, split.train
    for domain in (0, 1):
        mean = train.weight[train.item_domain[train.item] == domain].mean()
        liked = (test.weight >= mean) & (test.item_domain[test.item] == domain)
        perfect[test.user[liked], test.item[liked]] = 1.0
    assert evaluate(Table(perfect), split, metrics=["ndcg@5"])["ndcg@5"] == pytest.approx(1.0)


def test_cold_items_of_sampled_ratings_have_only_rows_with_a_target() -> None:
    data = world(explicit=True)
    held = np.isin(data.item, [4, 25]) | (np.random.default_rng(0).random(len(data)) < 0.2)
    split = Split.by_mask(data, held)
    slices = evaluate(noise(data), split, protocol="sampled:5", metrics=["hit@1"]).slices
    for name in ("all", "cold items", "warm items"):
        assert not np.isnan(slices[name].values["hit@1"]).any()
    assert len(slices["cold items"]) + len(slices["warm items"]) == len(slices["all"])


def test_negative_events_are_no_targets() -> None:
    data = world()
    disliked = np.random.default_rng(2).random(len(data)) < 0.2
    weight = np.where(disliked, -1, 1).astype(np.float32)
    split = halves(dataclasses.replace(data, weight=weight))
    found = evaluate(noise(data), split, protocol="sampled:5")
    assert len(found.slices["all"]) == int((split.test.weight > 0).sum())


def test_answers_do_not_grow_old() -> None:
    data = world()
    event = EventType(name="event", half_life=1e-3)
    split = halves(dataclasses.replace(data, events=(event,)))
    assert len(evaluate(noise(data), split, protocol="sampled:5").slices["all"]) == len(split.test)


def test_lists_are_measured_by_what_is_shown() -> None:
    split = halves(world())
    table = np.tile(np.arange(40.0), (120, 1))  # everybody is shown the last items
    metrics = ["coverage@3", "gini@3", "novelty@3", "diversity@3"]
    same = evaluate(Table(table), split, metrics=metrics)
    rows = same.slices["all"]
    shown = np.unique(rows.lists)
    assert same["coverage@3"] == pytest.approx(len(shown) / 40)
    various = evaluate(Table(np.random.default_rng(0).random((120, 40))), split, metrics=metrics)
    assert various["coverage@3"] == 1.0
    assert various["gini@3"] < same["gini@3"] < 1
    group = np.eye(4)[rows.lists % 4]  # the "group" attribute: alike or not at all
    alike = (np.einsum("rkd,rld->r", group, group) - 3) / 6
    np.testing.assert_allclose(rows.values["diversity@3"], 1 - alike, atol=1e-6)


def test_comparison_needs_the_same_rows_and_finds_the_better_model() -> None:
    split = halves(world())
    test = split.test
    good = np.random.default_rng(0).random((120, 40))
    good[test.user, test.item] += 0.3
    a, b = evaluate(Table(good), split), evaluate(noise(split.train), split)
    lines = compare(a, b, "ndcg@10")
    assert [line.slice for line in lines] == list(a.slices)
    assert lines[0].difference == pytest.approx(a["ndcg@10"] - b["ndcg@10"])
    assert lines[0].low > 0
    assert lines[0].p <= lines[0].p_holm < 0.05
    with pytest.raises(ConfigError, match="different test rows"):
        compare(a, dataclasses.replace(evaluate(Table(good), halves(world(), seed=9)), asked=""))
    with pytest.raises(ConfigError, match='did you mean "ndcg@10"'):
        compare(a, b, "ndcg@1")


def test_comparison_needs_the_same_protocol_and_test_events() -> None:
    """All have one row a user; only what was asked tells them apart."""
    data = dataclasses.replace(world(), domains=world().domains[:1], item_domain=np.zeros(40, int))
    split = leave_last(data)
    model = noise(data)
    found = evaluate(model, split)
    for options, other in (
        ({"protocol": "sampled:9"}, split),
        ({}, leave_last(data, 2)),
        ({}, dataclasses.replace(split, test=oldest(data))),
    ):
        with pytest.raises(ConfigError, match=r"did not ask the same.*test events.*test events"):
            compare(found, evaluate(model, other, **options))
    drawn = evaluate(model, split, protocol="sampled:9", seeds=2)
    with pytest.raises(ConfigError, match=r"seeds = 2.*seeds = 3"):
        compare(drawn, evaluate(model, split, protocol="sampled:9", seeds=3))
    less = dataclasses.replace(split, train=split.train.take(split.train.user % 2 == 0))
    others = evaluate(noise(data, seed=2), less, metrics=["ndcg@10", "hit@1"], seeds=2)
    assert {line.metric for line in compare(found, others)} == {"ndcg@10"}


def test_json_and_table_hold_every_slice() -> None:
    split = halves(world())
    found = evaluate(noise(split.train), split, metrics=["ndcg@5", "coverage@5"])
    plain = json.loads(json.dumps(found.to_json()))
    entry = plain["slices"]["films"]["ndcg@5"]
    assert entry["low"] < entry["value"] < entry["high"]
    table = found.to_table()
    assert table["slice"].to_list() == list(found.slices)
    assert table["ndcg@5"][0] == pytest.approx(found["ndcg@5"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["ndgc@3"]}, 'did you mean "ndcg"'),
        ({"protocol": "sample:3"}, 'write "full" or "sampled:999"'),
        ({"protocol": "sampled:0"}, 'write "full" or "sampled:999"'),
        ({"protocol": "sampled:3", "seeds": 0}, "at least 1 draw"),
        ({"by": ["activty"]}, 'did you mean "activity"'),
        ({"metrics": ["rmse"], "protocol": "sampled:3"}, 'needs protocol = "full"'),
    ],
)
def test_wrong_options_are_one_sentence(options: dict[str, object], message: str) -> None:
    split = halves(world())
    with pytest.raises(ConfigError, match=message):
        evaluate(noise(split.train), split, **options)


def test_a_dislike_does_not_wear_off_into_a_like() -> None:
    likes, hides = EventType(name="like"), EventType(name="hide", sign="negative", half_life=1.0)
    day = np.array([0, 1, 400]) * 86_400
    data = Dataset.build(
        user=np.zeros(3), item=np.array([0, 0, 1]), weight=np.array([1, -1, 1]), time=day,
        event=np.array([0, 1, 0]), users=1, items=2, events=(likes, hides),
    )  # fmt: skip
    history = data.query(np.array([0])).history.toarray()[0]
    assert history[0] < 0 < history[1]
    assert data.positives.indices.tolist() == [1]
