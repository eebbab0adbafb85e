"""Runs into a store; stores into files and back; what holds for any log of events."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m6rec.artifacts import Fitted
from m6rec.data.dataset import Dataset
from m6rec.data.drops import Drops
from m6rec.data.prepare import Prepared
from m6rec.data.schema import DataConfig, Domain, EventType
from m6rec.data.vocab import Vocab
from m6rec.errors import DataError, StoreError
from m6rec.models.popular import Popular
from m6rec.store import Event, Item, Store, User
from m6rec.tracking import Run
from stores import KINDS, empty_store, event, wipe

END = 10**15


@pytest.fixture(scope="module", params=KINDS)
def opened(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Store]:
    with empty_store(request.param, tmp_path_factory.mktemp("store")) as store:
        yield store


@pytest.fixture
def store(opened: Store) -> Store:
    wipe(opened)
    return opened


def fitted(*, timed: bool = True, user: str = "ann") -> Fitted:
    """A film seen, one bought twice, the same returned by another user, and a book rated."""
    data = Dataset.build(
        user=np.array([0, 0, 1, 0]),
        item=np.array([2, 1, 1, 0]),
        users=Vocab([user, "bob"]),
        items=Vocab(["books/a/1", "films/a", "films/b"]),
        weight=np.array([0.3, 1.4, -0.5, 3.3], np.float32),
        event=np.array([0, 1, 2, 0]),
        time=np.array([30, 20, 10, 40]) if timed else None,
        domains=(Domain(name="books", feedback="explicit"), Domain(name="films")),
        item_domain=np.array([0, 1, 1]),
        events=(
            EventType(name="view", weight=0.3),
            EventType(name="buy", weight=0.7),
            EventType(name="return", weight=0.5, sign="negative"),
        ),
        item_text=("", "words", "\0odd"),
        hidden=np.array([False, True, False]),
        ordered=True,
    )
    keys = {"users": data.users.keys, "items": data.items.keys}
    prepared = Prepared(
        dataset=data,
        users=pl.DataFrame(
            {"key": keys["users"], "age": [31.5, float("nan")], "town": ["x", None]}
        ),
        items=pl.DataFrame(
            {
                "key": keys["items"],
                "domain": ["books", "films", "films"],
                "title": ["Book", None, "Film"],
                "hidden": data.hidden,
                "genres": [["a", "b"], None, []],
                "out": pl.Series([None, "1995-01-02", None]).str.to_date(),
            }
        ),
        drops=Drops(),
        config=DataConfig(),
    )
    model = Popular().fit(data, Run())
    return Fitted(model=model, prepared=prepared, twins=np.full(3, -1))


def test_a_run_is_imported_once(store: Store) -> None:
    assert store.import_run(fitted())
    ann = store.history("ann", END)
    assert ann.item == ["films/a", "films/b", "books/a/1"]
    assert ann.type == ["buy", "view", "view"]
    assert ann.value == [2.0, None, 3.3]
    assert ann.time == [20_000_000, 30_000_000, 40_000_000]
    assert store.history("bob", END).value == [None]  # one return
    assert store.users()[0] == [
        User(key="ann", attributes={"age": 31.5, "town": "x"}),
        User(key="bob", attributes={"age": None}),
    ]
    items, _ = store.items()
    assert items == [
        Item(key="books/a/1", title="Book", attributes={"genres": ["a", "b"]}),
        Item(key="films/a", text="words", hidden=True, attributes={"out": "1995-01-02"}),
        Item(key="films/b", title="Film", text="odd", attributes={"genres": []}),
    ]
    assert store.keys_by_bare(["a/1"]).get("a/1", []) == ["books/a/1"]
    assert store.changed_items(0) == (0, [], [])
    assert store.changed_items(-1)[1] == items
    before = store.last_event()
    assert not store.import_run(fitted())
    assert store.last_event() == before
    store.add_events([event(item="films/a", time=50_000_000)])
    assert store.look().item_rev == 0


def test_a_run_without_times_keeps_its_order(store: Store) -> None:
    assert store.import_run(fitted(timed=False))
    ann = store.history("ann", END)
    assert ann.item == ["films/b", "films/a", "books/a/1"] and ann.time == [-1] * 3
    store.add_events([event(item="films/b", time=0)])
    assert store.history("ann", END, limit=2).item == ["books/a/1", "films/b"]


def test_a_run_with_a_key_that_cannot_be_kept_is_refused(store: Store) -> None:
    with pytest.raises(DataError, match=r"user 'xxxx.*: its key has more than 512 characters"):
        store.import_run(fitted(user="x" * 513))
    with pytest.raises(DataError, match=r"its key has more than 800 bytes"):
        store.import_run(fitted(user="日" * 267))
    with pytest.raises(DataError, match="is empty or holds a NUL"):
        store.import_run(fitted(user="a\0"))
    assert store.empty()


def test_runs_are_imported_by_the_first_of_several(store: Store) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(store.import_run, [fitted()] * 4)) == [False] * 3 + [True]
    assert len(store.events()[0]) == 4


LOG = [
    event(time=3, value=2.5, comment='"ä\n'),
    event(time=3, key="k", request="r"),
    event("bob", "books/x/y"),
]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_files_bring_everything_back(store: Store, tmp_path: Path, ending: str) -> None:
    store.import_run(fitted(timed=False))
    store.add_events(LOG)
    store.put_items([Item(key="films/c", title="C", categories=("x", "y"), time=5, comment="c")])
    store.patch_user("bob", attributes={"deep": {"a": [1, None]}}, comment="c")
    names = ("users", "items", "events")
    counts = [getattr(store, f"export_{name}")(tmp_path / f"{name}.{ending}") for name in names]
    assert counts == [2, 5, 7]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(f"{n}.{ending}" for n in names)
    before = contents(store)
    assert store.import_events(tmp_path / f"events.{ending}") == 0  # they are all here
    assert contents(store) == before
    with_another_id(store)
    wipe(store)
    for _ in range(2):
        for name in names:
            getattr(store, f"import_{name}")(tmp_path / f"{name}.{ending}")
        assert contents(store) == before
    store.delete_events("bob", "books/x/y")
    assert store.import_events(str(tmp_path / f"events.{ending}")) == 1


def contents(store: Store) -> list[Any]:
    """Everything but ids, revs and keys that an export gave."""
    found, _ = store.events(newest=False)
    return [
        [replace(u, rev=0) for u in store.users()[0]],
        [replace(i, rev=0) for i in store.items()[0]],
        [replace(e, id=0, key=e.key if e.key == "k" else None) for e in found],
    ]


def with_another_id(store: Store) -> None:
    with store._database.transaction() as connection:
        connection.exec_driver_sql("update m6rec_about set value = 'other'")


def test_large_files_are_streamed(store: Store, tmp_path: Path) -> None:
    store.add_events(
        [event(f"u{i % 50}", f"a/{i % 70}", time=i, key=str(i)) for i in range(12_000)]
    )
    for ending in ("jsonl", "parquet"):
        assert store.export_events(tmp_path / f"e.{ending}") == 12_000
        assert store.import_events(tmp_path / f"e.{ending}") == 0
    wipe(store)
    assert store.import_events(tmp_path / "e.parquet") == 12_000


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"e\.jsonl, row 2: is not JSON"),
        ("[]", "row 2: is not an object"),
        ('{"user": "a", "item": "a/b", "type": "t"}', "row 2: needs user, item, type and time"),
        ('{"user": "a", "item": "b", "type": "t", "time": 1}', 'row 2: item "b": must be'),
        ('{"user": "a", "item": "a/b", "type": "t", "time": -2}', "row 2: time -2: must lie"),
        ('{"users": "a"}', 'row 2: "users" is not among user, item'),
    ],
)
def test_bad_rows_of_files_are_named(store: Store, tmp_path: Path, line: str, message: str) -> None:
    good = json.dumps({"user": "a", "item": "a/b", "type": "t", "time": 1, "value": None})
    (tmp_path / "e.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(DataError, match=message):
        store.import_events(tmp_path / "e.jsonl")
    assert store.empty()


def test_files_that_cannot_be_are_said(store: Store, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must end in \.jsonl or \.parquet"):
        store.export_events(tmp_path / "e.csv")
    with pytest.raises(StoreError, match="cannot be written"):
        store.export_events(tmp_path / "no" / "e.jsonl")
    for ending in ("jsonl", "parquet"):
        with pytest.raises(DataError, match="cannot be read"):
            store.import_events(tmp_path / f"none.{ending}")


# Laws

USERS, ITEMS = ("a", "b", "ü"), ("x/1", "x/2", "y/1")
EVENTS = st.builds(
    Event,
    user=st.sampled_from(USERS),
    item=st.sampled_from(ITEMS),
    type=st.sampled_from(("view", "buy")),
    value=st.none() | st.floats(-1e6, 1e6),
    time=st.integers(0, 50),
    key=st.none() | st.sampled_from("klmnop"),
    comment=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5),
)
LAW = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def log_of(events: list[Event]) -> list[Event]:
    """What a store keeps of them: of each key the first."""
    keys: set[str] = set()
    kept = []
    for each in events:
        if each.key is None or each.key not in keys:
            kept.append(each)
        if each.key is not None:
            keys.add(each.key)
    return kept


@given(batches=st.lists(st.lists(EVENTS, max_size=8), max_size=4))
@LAW
def test_any_log_is_kept_once_and_summed(opened: Store, batches: list[list[Event]]) -> None:
    wipe(opened)
    added = sum(opened.add_events(batch) for batch in batches)
    log = log_of([each for batch in batches for each in batch])
    assert added == len(log)
    keyed = [each for batch in batches for each in batch if each.key is not None]
    assert opened.add_events(keyed) == 0
    for user in USERS:
        own = sorted((e for e in log if e.user == user), key=lambda e: e.time)
        found = opened.history(user, END)
        assert found.item == [e.item for e in own] and found.value == [e.value for e in own]
        assert opened.history(user, END, limit=3).time == [e.time for e in own][-3:]
    sums: dict[tuple[str, str, str], list[Event]] = defaultdict(list)
    for each in log:
        sums[each.user, each.item, each.type].append(each)
    feedback, _ = opened.feedback()
    assert [(f.user, f.item, f.type) for f in feedback] == sorted(sums)
    for row in feedback:
        of = sums[row.user, row.item, row.type]
        assert row.value == pytest.approx(sum(1 if e.value is None else e.value for e in of))
        assert (row.first, row.time) == (min(e.time for e in of), max(e.time for e in of))
        assert row.comment == [e.comment for e in of if e.time == row.time][-1]


@given(log=st.lists(EVENTS, max_size=12))
@LAW
def test_a_merge_keeps_all_events(opened: Store, log: list[Event]) -> None:
    wipe(opened)
    opened.put_users([User(key=user) for user in USERS])
    opened.add_events(log)
    before = opened.histories(["a", "b"], END)
    rest = opened.history("ü", END)
    assert opened.merge_users("a", "b") == len(before[0])
    after = opened.history("b", END)
    assert sorted(after.time) == after.time == sorted(before[0].time + before[1].time)
    assert sorted(after.item) == sorted(before[0].item + before[1].item)
    assert len(opened.history("a", END)) == 0 and opened.history("ü", END) == rest


@given(log=st.lists(EVENTS, max_size=12), put=st.lists(EVENTS, max_size=6))
@LAW
def test_a_replaced_event_is_the_only_one(
    opened: Store, log: list[Event], put: list[Event]
) -> None:
    wipe(opened)
    opened.add_events(log)
    opened.replace_events(put)
    known = {e.key for e in log_of(log) if e.key is not None}
    new = [e for e in log_of(put) if e.key is None or e.key not in known]
    last = {(e.user, e.item, e.type): e for e in new}
    every, _ = opened.events()
    for triple, e in last.items():
        of = [(f.value, f.time) for f in every if (f.user, f.item, f.type) == triple]
        assert of == [(e.value, e.time)]
    others = [e for e in log_of(log) if (e.user, e.item, e.type) not in last]
    assert len(every) == len(others) + len(last)
