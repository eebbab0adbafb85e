"""Retraining: on what the store holds, judged on events that neither model has seen."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from m6rec import artifacts, experiment, pipeline
from m6rec.errors import RunError, StoreError
from m6rec.experiment import RetrainConfig
from m6rec.recommender import Recommender
from m6rec.serving.retrain import FILE, Translated, Worse, from_store, retrain
from m6rec.serving.schedule import LOCK, Schedule, alone
from m6rec.store import Event, Item, Store, User
from shop import write_shop
from world import GROUPS

LATER = 1_780_000_000  # seconds: after all events of the shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("retrain")
    toml = write_shop(folder)
    assignments = [f'run.out="{folder / "runs"}"', "evaluate.baselines=[]"]
    pipeline.save(experiment.load(toml, assignments))
    return folder / "runs"


@pytest.fixture
def store(shop: Path, tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path / 'm6rec.db'}")
    opened.import_run(artifacts.load(artifacts.resolve(shop / "current")))
    yield opened
    opened.close()


def later_events(n_users: int = 60) -> list[Event]:
    """Events of new users who like their group, as in the shop."""
    rng = np.random.default_rng(5)
    found = []
    for u in range(n_users):
        liked = rng.choice(np.arange(u % GROUPS, 40, GROUPS), 7, replace=False)
        for place, i in enumerate(liked):
            domain = "films" if i < 20 else "books"
            at = (LATER + 60 * place + u) * 1_000_000
            found.append(Event(user=f"late{u}", item=f"{domain}/i{i}", type="event", time=at))
    return found


def test_a_retrained_run_knows_what_came_and_is_current(shop: Path, store: Store) -> None:
    old = artifacts.resolve(shop / "current")
    store.add_events(later_events())
    store.put_items([Item(key="films/fresh", title="Fresh", attributes={"group": "g1"})])
    store.put_users([User(key="late0", attributes={"age": 33})])
    path, judged = retrain(old, store)
    assert artifacts.resolve(shop / "current") == path != old
    assert judged.rows > 50 and judged.new > 0.2
    assert json.loads((path / FILE).read_text())["metric"] == "ndcg@10"
    fresh = Recommender.open(path)
    assert fresh.dataset.users.code("late0") >= 0 and fresh.knows("Fresh")
    before, after = Recommender.open(old).dataset, fresh.dataset
    assert len(after) == len(before) + len(later_events())
    assert fresh.fitted.items.columns == Recommender.open(old).fitted.items.columns
    artifacts.set_current(old)


def test_events_survive_the_way_through_the_store(shop: Path, store: Store) -> None:
    """Without new events the retrained data are those that the run was trained on."""
    old = artifacts.resolve(shop / "current")
    path, judged = retrain(old, store)
    assert judged.rows == 0
    before, after = artifacts.load(old), artifacts.load(path)
    assert after.manifest["data"] == before.manifest["data"]
    assert after.dataset.item_text == before.dataset.item_text
    assert after.items.equals(before.items)
    artifacts.set_current(old)


def test_a_worse_model_is_not_published(shop: Path, store: Store) -> None:
    old = artifacts.load(artifacts.resolve(shop / "current"))
    poor = dict(old.config) | {"model": {"kind": "popular"}}
    path = artifacts.save(replace(old, config=poor), shop / "good-model-poor-recipe")
    store.add_events(later_events())
    with pytest.raises(Worse, match="not published: ndcg@10"):
        retrain(path, store)
    assert artifacts.resolve(shop / "current") == old.path
    assert not list(shop.glob(".draft-*"))


def test_one_odd_value_does_not_change_a_column(shop: Path, store: Store) -> None:
    old = artifacts.resolve(shop / "current")
    store.put_items([Item(key="films/i1", title="T", attributes={"year": "abc", "more": [1]})])
    path, _ = retrain(old, store)
    before, after = artifacts.load(old).items, artifacts.load(path).items
    assert after.schema["year"] == before.schema["year"]
    assert after.filter(pl.col("key") == "films/i1")["year"].to_list() == [None]
    assert after["year"].null_count() == 1
    artifacts.set_current(old)


def test_what_the_service_reads_of_an_attribute_is_what_is_trained(
    shop: Path, store: Store
) -> None:
    told = {"group": ["g1", "g2"], "year": 1980.5}
    store.put_items(
        [Item(key="films/i1", attributes=told), Item(key="films/i2", attributes={"group": 7})]
    )
    store.put_users([User(key="late", attributes={"age": "34"})])
    old = artifacts.load(artifacts.resolve(shop / "current"))
    prepared = from_store(store, pipeline.reopened(old).data, old)
    items = {row["key"]: row for row in prepared.items.to_dicts()}
    assert (items["films/i1"]["group"], items["films/i1"]["year"]) == ("g1|g2", 1980.5)
    assert items["films/i2"]["group"] == "7"
    (late,) = prepared.users.filter(pl.col("key") == "late").to_dicts()
    assert late["age"] == 34


def test_a_huge_number_in_an_attribute_breaks_nothing(shop: Path, store: Store) -> None:
    old = Recommender.open(artifacts.resolve(shop / "current"))
    store.put_users([User(key="late", attributes={"age": 2**130, "odd": 2**130})])
    prepared = from_store(store, pipeline.reopened(old.fitted).data, old.fitted)
    (row,) = prepared.users.filter(pl.col("key") == "late").to_dicts()
    assert float(row["odd"]) == pytest.approx(2.0**130) and row["age"] is None


def test_an_old_model_answers_in_new_codes(shop: Path) -> None:
    old = Recommender.open(artifacts.resolve(shop / "current"))
    data = old.dataset
    shuffled = np.random.default_rng(0).permutation(data.n_items)
    keys = [data.items.key(i) for i in shuffled]
    new = replace(data, items=type(data.items)([*keys, "books/unknown"]))
    place = np.argsort(shuffled)
    users = np.arange(5)
    asked = data.query(users)
    history = asked.history[:, shuffled]
    history.resize(len(users), data.n_items + 1)
    moved = replace(
        asked,
        history=history,
        sequence=np.where(asked.sequence >= 0, place[asked.sequence], -1),
    )
    scores = Translated(old, new).score(moved)
    assert np.isnan(scores[:, -1]).all()
    np.testing.assert_allclose(scores[:, :-1], old.model.score(asked)[:, shuffled], rtol=1e-5)


def test_one_retraining_at_a_time(shop: Path, store: Store) -> None:
    with alone(shop, store), pytest.raises(RunError, match="going on already"):
        retrain(artifacts.resolve(shop / "current"), store)


def test_an_attempt_that_failed_does_not_end_all_retraining(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = Schedule(RetrainConfig(after_events=1), tmp_path, store)
    before = (tmp_path / LOCK).read_text()

    def away() -> int:
        raise StoreError("is away")

    with monkeypatch.context() as patch, pytest.raises(StoreError):
        patch.setattr(store, "last_event", away)
        with alone(tmp_path, store):
            pass
    assert (tmp_path / LOCK).read_text() == before
    (tmp_path / LOCK).write_text("")  # whoever wrote it was killed
    assert not schedule.due()
    store.add_events(later_events()[:1])
    assert schedule.due()


def test_workers_that_start_at_once_all_start(store: Store, tmp_path: Path) -> None:
    config = RetrainConfig(every_hours=24)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: Schedule(config, tmp_path, store).due(), range(8)))
    assert found == [False] * 8


def test_it_is_due_by_events_or_by_the_clock(shop: Path, store: Store, tmp_path: Path) -> None:
    by_events = Schedule(RetrainConfig(after_events=10), tmp_path, store)
    by_clock = Schedule(RetrainConfig(every_hours=0.05 / 3600), tmp_path, store)
    assert not by_events.due()
    store.add_events(later_events()[:10])
    assert by_events.due()
    time.sleep(0.06)
    assert by_clock.due()
    with alone(tmp_path, store):
        pass
    assert not by_events.due()
