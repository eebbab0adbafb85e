"""The event store on both databases: what goes in comes out, once, and is gone when erased."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m6rec.errors import DataError, StoreError
from m6rec.store import ApiKey, Event, Given, History, Hits, Item, Store, User, digest, log, shown
from m6rec.store.checks import LAST, event_row
from m6rec.store.database import BEGIN, LOCK
from stores import KINDS, POSTGRES, empty_store, event, place, template, wipe

END = 10**15  # µs, after every event here


@pytest.fixture(scope="module", params=KINDS)
def opened(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Store]:
    with empty_store(request.param, tmp_path_factory.mktemp("store")) as store:
        yield store


@pytest.fixture
def store(opened: Store) -> Store:
    wipe(opened)
    return opened


def pairs(store: Store, user: str = "ann", until: int = END) -> list[tuple[str, int]]:
    found = store.history(user, until)
    return list(zip(found.item, found.time, strict=True))


def given(request: str = "r1", position: int = 0, item: str = "films/a", **more: Any) -> Given:
    return Given(request=request, position=position, item=item,
                 **{"user": "ann", "time": 5, "run": "run", **more})  # fmt: skip


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


# Events


def test_history_is_oldest_first_and_blind_to_the_future(store: Store) -> None:
    assert store.empty()
    late, early = event(item="films/b", time=9, value=2.5), event(time=3, type="buy")
    assert store.add_events([late, early, event(item="films/c", time=3), event("bob")]) == 4
    assert not store.empty()
    assert store.history("ann", END) == History(
        ["films/a", "films/c", "films/b"], ["buy", "view", "view"], [None, None, 2.5], [3, 3, 9]
    )
    assert pairs(store, until=8) == [("films/a", 3), ("films/c", 3)]
    assert store.history("ann", END, limit=2).item == ["films/c", "films/b"]
    assert len(store.history("nobody", END)) == 0
    both = store.histories(["bob", "nobody", "ann"], END)
    assert both == [store.history(user, END) for user in ("bob", "nobody", "ann")]
    assert store.histories(["ann"], 8)[0] == store.history("ann", 8)
    some = ["bob", *(f"nobody {i}" for i in range(40)), "ann"]
    look = store.look([*some, "ann"], END, 2)
    assert list(look.histories) == some
    assert all(look.histories[user] == store.history(user, END, 2) for user in some)
    assert look.users == {user: store.user(user) for user in ("ann", "bob")}
    assert store.look() == (look.item_rev, look.user_rev, {}, {})


def test_of_two_people_the_newest_event_stands(store: Store) -> None:
    told = [
        ("ann", "s/bob", "block", 1), ("ann", "s/cat", "block", 1), ("ann", "s/cat", "view", 2),
        ("ann", "s/dan", "follow", 1), ("ann", "s/dan", "block", 1), ("ann", "s/eve", "block", 9),
        ("eve", "s/ann", "follow", 5), ("dan", "s/ann", "follow", 4), ("bob", "s/ann", "follow", 3),
        ("dan", "s/ann", "block", 6), ("bob", "s/ann", "block", 9),
    ]  # fmt: skip
    store.add_events([event(user, item, at, type=kind) for user, item, kind, at in told])
    assert sorted(store.standing_of("ann", {"block", "hide"}, 8)) == ["s/bob", "s/dan"]
    assert sorted(store.standing_of("ann", {"block"}, 9)) == ["s/bob", "s/dan", "s/eve"]
    assert store.standing_on("s/ann", {"block"}, 8) == [("dan", "block", None, 6)]
    links = [("bob", "follow", None, 3), ("eve", "follow", None, 5)]
    assert sorted(store.standing_on("s/ann", {"follow"}, 8)) == links
    assert store.standing_on("s/ann", {"follow"}, 8, 2) == links[1:]
    assert store.standing_on("s/ann", {"follow"}, 8, 1) == links[1:]


def test_users_and_items_of_events_are_made(store: Store) -> None:
    store.put_items([Item(key="films/a", title="A")])
    store.add_events([event(), event("bob", "books/a")])
    assert [item.key for item in store.items()[0]] == ["books/a", "films/a"]
    assert store.item("films/a").title == "A"  # type: ignore[union-attr]
    assert [user.key for user in store.users()[0]] == ["ann", "bob"]
    assert store.keys_by_bare(["a"]).get("a", []) == ["books/a", "films/a"]
    assert store.keys_by_bare(["b"]).get("b", []) == []


def test_a_key_counts_once(store: Store) -> None:
    assert store.add_events([event(key="k1"), event(key="k1"), event(), event()]) == 3
    assert store.add_events([event("bob", key="k1"), event("bob", key="k2")]) == 1
    assert len(store.history("ann", END)) == 3
    assert len(store.history("bob", END)) == 1
    assert store.add_events([]) == 0


def test_replacing(store: Store) -> None:
    store.add_events([event(value=1.0), event(value=2.0), event(type="buy"), event("bob")])
    new = event(time=7, value=4.0, key="k")
    assert store.replace_events([event(time=6), new]) == 2
    assert store.history("ann", END) == History(
        ["films/a", "films/a"], ["buy", "view"], [None, 4.0], [1, 7]
    )
    assert store.replace_events([event(item="films/b", key="k")]) == 0
    assert len(store.history("ann", END)) == 2
    assert len(store.history("bob", END)) == 1


def test_deleting_events(store: Store) -> None:
    store.add_events([event(), event(time=2), event(type="buy"), event(item="films/b")])
    assert store.delete_events("ann", "films/a", "view") == 2
    assert store.delete_events("ann", "films/a") == 1
    assert store.delete_events("ann", "films/a") == 0
    assert pairs(store) == [("films/b", 1)]


def test_lists_of_events(store: Store) -> None:
    log = [event(f"u{i % 3}", f"films/{i % 4}", time=i // 2, type="ab"[i % 2]) for i in range(20)]
    store.add_events(log)
    ids = store.last_event()
    every = [e for page in pages(store.events, n=3, newest=False) for e in page]
    assert [(e.user, e.item, e.type, e.time) for e in every] == [
        (e.user, e.item, e.type, e.time) for e in log
    ]
    assert every[-1].id == ids
    assert [e for page in pages(store.events, n=7) for e in page] == every[::-1]
    found, cursor = store.events(users=["u1"], items=["films/1"], types=["b"], since=2, until=7)
    assert cursor == ""
    assert found == [
        e for e in every[::-1]
        if (e.user, e.item, e.type) == ("u1", "films/1", "b") and 2 <= e.time <= 7
    ]  # fmt: skip
    assert found and store.events(users=[])[0] == []


def pages(ask: Any, **options: Any) -> Iterator[list[Any]]:
    cursor = ""
    while True:
        page, cursor = ask(cursor=cursor, **options)
        yield page
        if not cursor:
            return


def test_feedback_is_the_sum(store: Store) -> None:
    store.add_events(
        [
            event(time=4, value=2.0, comment="second"),
            event(time=2, comment="first"),
            event(time=9, value=7.0, comment="later"),
            event(type="buy", time=3),
            event("bob", time=3),
        ]
    )
    (one,), _ = store.feedback(users=["ann"], items=["films/a"], types=["view"], until=8)
    assert (one.value, one.time, one.first, one.comment) == (3.0, 4, 2, "second")
    every = [f for page in pages(store.feedback, n=1) for f in page]
    assert [(f.user, f.type, f.value) for f in every] == [
        ("ann", "buy", 1.0), ("ann", "view", 10.0), ("bob", "view", 1.0),
    ]  # fmt: skip
    assert store.feedback(n=3) == (every, "")


CURSORS = ["x", "W10=", "WzEsMl0=", "////", "é", "bnVsbA==", "W1tb" * 1500]  # the last is deep


@pytest.mark.parametrize("cursor", CURSORS)
def test_a_wrong_cursor_is_said(store: Store, cursor: str) -> None:
    for ask in (store.feedback, store.users, store.items):
        with pytest.raises(DataError, match="is not one that the store gave"):
            ask(cursor=cursor)


def test_a_page_has_rows(store: Store) -> None:
    for ask in (store.events, store.feedback, store.users, store.items):
        for n in (0, -1, 2**80):
            with pytest.raises(DataError, match="must be at least 1"):
                ask(n=n)


# Users and items


def test_popular_are_the_newest_events_that_are_due(store: Store) -> None:
    items = ("films/a", "films/b", "films/b", "films/c", "films/c", "films/c")
    store.add_events([event(item=item, time=i) for i, item in enumerate(items)])
    store.add_events([event(item="films/a", type="hate", time=9), event(time=20)])
    assert list(store.popular(10, 100).items()) == [("films/c", 3), ("films/a", 2), ("films/b", 2)]
    assert store.popular(10, 4, without=["hate", "other"]) == {"films/c": 3}
    assert store.popular(30, 1) == {"films/a": 1}


def test_keys_are_found_many_at_once(store: Store) -> None:
    keys = ("films/a", "books/a", "books/b/c")
    store.put_items([Item(key=key, time=-1) for key in keys])
    assert store.keys_by_bare(["a", "b/c", "no"]) == {
        "a": ["books/a", "films/a"], "b/c": ["books/b/c"],
    }  # fmt: skip
    assert store.keys_by_bare([]) == {}
    store.put_users([User(key="ann"), User(key="bob")])
    assert store.known_users(["ann", "eve"]) == {"ann"}


def test_items_come_back_as_they_were(store: Store) -> None:
    film = Item(
        key="films/ä/1", title="Ä\n", text="long", attributes={"year": 1995, "genres": ["a", None]},
        categories=("x", "y"), hidden=True, time=7, comment="c",
    )  # fmt: skip
    assert store.put_items([Item(key=film.key), film]) == 1
    found = store.item(film.key)
    assert found is not None and found.rev == store.look().item_rev == 1
    assert found == Item(**{n: getattr(film, n) for n in film.__slots__ if n != "rev"}, rev=1)
    assert store.keys_by_bare(["ä/1"]).get("ä/1", []) == [film.key]
    assert store.patch_item(film.key, hidden=False, categories=("z",))
    changed = store.item(film.key)
    assert changed is not None and (changed.hidden, changed.categories) == (False, ("z",))
    assert changed.title == film.title and changed.rev == 2
    assert not store.patch_item("films/none", title="x")
    with pytest.raises(DataError, match='"rating" cannot be changed'):
        store.patch_item(film.key, rating=1)
    with pytest.raises(DataError, match='"key" cannot be changed'):
        store.patch_item(film.key, key="films/2")


def test_users_come_back_as_they_were(store: Store) -> None:
    store.put_users([User(key="ann", attributes={"age": 3}, comment="c"), User(key="bob")])
    assert store.patch_user("ann", comment="d")
    assert store.user("ann") == User(key="ann", attributes={"age": 3}, comment="d", rev=2)
    assert store.user("nobody") is None
    assert not store.patch_user("nobody", comment="d")
    assert store.look().user_rev == 2 and store.look().item_rev == 0


def test_pages_of_items(store: Store) -> None:
    keys = [f"{domain}/{i}" for domain in ("a", "a-", "b", "ä") for i in range(5)]
    store.put_items([Item(key=key) for key in keys])
    for n in (1, 4, 20):
        found = [item.key for page in pages(store.items, n=n) for item in page]
        assert found == sorted(keys)
    assert [i.key for i in store.items(domain="a")[0]] == [f"a/{i}" for i in range(5)]
    assert [i.key for i in store.items(domain="ä")[0]] == [f"ä/{i}" for i in range(5)]
    assert store.items(domain="none") == ([], "")


def test_changes_are_found_by_rev(store: Store) -> None:
    store.put_items([Item(key="a/1"), Item(key="a/2")])
    rev, items, gone = store.changed_items(0)
    assert (rev, [i.key for i in items], gone) == (1, ["a/1", "a/2"], [])
    store.patch_item("a/1", title="new")
    store.delete_item("a/2")
    store.add_events([event(item="a/3")])
    now, items, gone = store.changed_items(rev)
    assert (now, [i.key for i in items], gone) == (4, ["a/1", "a/3"], ["a/2"])
    assert store.changed_items(now) == (4, [], [])
    store.put_items([Item(key="a/2")])
    assert store.changed_items(rev)[2] == []
    store.add_events([event(item="a/3", time=2)])
    assert store.look().item_rev == 5


def test_a_deleted_user_leaves_no_trace(store: Store) -> None:
    key = "ann@example.org"
    store.put_users([User(key=key, attributes={"mail": key})])
    store.add_events([event(key, comment=f"by {key}", key=f"{key}/1"), event("bob")])
    store.add_given([given(user=key), given("r2", user="bob")])
    store.set_seeds("user", [key, "bob"])
    store.opinions.set_watch_list(key, ["Nokia", "SAP"])
    counts = store.delete_user(key)
    assert counts == {"users": 1, "events": 1, "given": 1, "seeds": 1, "watched": 2}
    assert store.opinions.watch_list(key) == []
    assert store.user(key) is None and len(store.history(key, END)) == 0
    assert store.seeds("user") == ["bob"] and store.given("r1") == []
    assert [u.key for u in store.changed_users(0)[1]] == ["bob"]
    assert store.changed_users(0)[2] == [digest(key)]
    assert traces(store, key) == 0
    assert store.delete_user(key) == dict.fromkeys(counts, 0)
    assert store.erased_users([key, "bob"]) == {key}
    store.put_users([User(key=key)])  # somebody else, of whom a run may know the key
    assert store.changed_users(0)[2] == [digest(key)]
    assert store.erased_users([key, "bob"]) == {key}


def test_a_deleted_person_leaves_no_trace_as_an_item(store: Store) -> None:
    key, item = "ann@example.org", "social/ann@example.org"
    store.put_users([User(key=key)])
    store.add_events([event("bob", item), event(key, "social/bob")])
    store.delete_item(item)  # which leaves the key
    store.add_events([event("bob", item)])
    counts = store.delete_user(key, [item])
    assert counts == {"users": 1, "items": 1, "events": 2, "given": 0, "seeds": 0, "watched": 0}
    assert traces(store, key) == 0
    assert store.changed_items(0)[2] == [digest(item)]
    store.put_items([Item(key=item)])
    assert store.changed_items(0)[2] == []
    store.merge_users("bob", "cat", [("social/bob", "social/cat")])
    assert store.changed_items(0)[2] == [digest("social/bob")]


def test_what_was_given_to_somebody_unknown_is_not_written_after_their_deletion(
    store: Store,
) -> None:
    assert not any(store.delete_user("ann").values())
    assert store.add_given([given(user="ann"), given("r2", user="bob")]) == 1


def traces(store: Store, key: str) -> int:
    """How often a text stands in the files of SQLite, or in the rows of PostgreSQL."""
    url = store._database.engine.url
    if url.get_backend_name() == "sqlite":
        folder, name = Path(str(url.database)).parent, Path(str(url.database)).name
        return sum(f.read_bytes().count(key.encode()) for f in folder.glob(f"{name}*"))
    from m6rec.store.schema import METADATA

    with store._database.engine.connect() as connection:
        rows = [r for t in METADATA.tables.values() for r in connection.execute(t.select())]
    return sum(key in str(row) for row in rows)


def test_a_deleted_item_is_gone(store: Store) -> None:
    store.add_events([event(), event(item="films/b")])
    store.add_given([given(), given(position=1, item="films/b")])
    store.set_seeds("item", ["films/a"])
    assert store.delete_item("films/a") == {"items": 1, "events": 1, "given": 1, "seeds": 1}
    assert pairs(store) == [("films/b", 1)]
    assert [g.item for g in store.given("r1")] == ["films/b"]
    assert store.delete_item("films/none")["items"] == 0
    assert store.changed_items(0)[2] == ["films/a"]


def test_merging_users(store: Store) -> None:
    store.put_users([User(key="old", attributes={"age": 1, "town": "x"}, comment="c"),
                     User(key="new", attributes={"age": 2})])  # fmt: skip
    store.add_events([event("old", time=1), event("new", time=2), event("old", time=3)])
    store.add_given([given(user="old")])
    store.set_seeds("user", ["old", "new", "ann"])
    assert store.merge_users("old", "new") == 2
    assert store.history("new", END).time == [1, 2, 3]
    merged = store.user("new")
    assert merged is not None and merged.attributes == {"age": 2, "town": "x"}
    assert merged.comment == "c" and store.user("old") is None
    assert store.seeds("user") == ["new", "ann"]
    assert [g.user for g in store.given("r1")] == ["new"]
    assert store.changed_users(0)[2] == [digest("old")]
    with pytest.raises(DataError, match='user "old": is not there'):
        store.merge_users("old", "new")
    with pytest.raises(DataError, match="into itself"):
        store.merge_users("new", "new")
    assert store.merge_users("new", "other") == 3


# Seeds, recommendations, API keys


def test_seeds(store: Store) -> None:
    store.set_seeds("item", ["films/b", "films/a", "films/b"])
    store.set_seeds("user", ["ann"])
    assert store.seeds("item") == ["films/b", "films/a"]
    with pytest.raises(DataError, match='"x": must be of "user" or "item"'):
        store.set_seeds("x", [])  # type: ignore[arg-type]
    store.set_seeds("item", [])
    assert store.seeds("item") == [] and store.seeds("user") == ["ann"]


def test_given_and_hits(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [given(position=p, item=f"films/{p}", arm="a", explored=p == 1) for p in range(3)]
    assert store.add_given([*rows, given("r2", item="books/1", time=8)]) == 4
    assert store.add_given([rows[1], given("r1", 3, arm="a")]) == 1
    assert store.given("r1") == [*rows, given("r1", 3, arm="a")]
    assert store.given("none") == []
    assert [g.request for g in store.given_to("ann", 2)] == ["r2", "r1"]
    store.add_events(
        [
            event(item="films/1", request="r1", time=9),
            event(item="films/1", request="r1", time=10),
            event(item="films/1", request="r1", type="buy"),
            event(item="films/2", request="r2"),
            event(item="films/2"),
        ]
    )
    assert store.hits(0) == [
        Hits(domain="books", arm="", given=1, answered={}),
        Hits(domain="films", arm="a", given=4, answered={"view": 1, "buy": 1}),
    ]
    assert [h.domain for h in store.hits(6)] == ["books"]
    monkeypatch.setattr(shown, "PORTION", 3)
    assert store.forget_given(6) == 4
    assert store.given("r1") == [] and store.given("r2") != []


def test_api_keys(store: Store) -> None:
    key = ApiKey(hash="h", name="shop", scope="write", created=3)
    store.add_key(key)
    with pytest.raises(DataError, match='API key "shop": is there already'):
        store.add_key(key)
    assert store.keys() == [key]
    assert store.revoke_key("h", 9) and not store.revoke_key("h", 10)
    assert not store.revoke_key("none", 9)
    assert store.keys()[0].revoked == 9


# What cannot be taken


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (event(""), "user '': must be text that is not empty"),
        (event(3), "user 3: must be text"),  # type: ignore[arg-type]
        (event("x" * 513), "has 513 characters, 512 at most"),
        (event("a\0b"), "without NUL"),
        (event("\ud800"), "is not valid Unicode"),
        (event(item="a"), 'item "a": must be written "domain/key"'),
        (event(item="/a"), "must be written"),
        (event(item="a/"), "must be written"),
        (event(type=""), "event type ''"),
        (event(value=float("nan")), "value nan: must be a number from"),
        (event(value=10**400), "must be a number from"),
        (event(value="1"), "must be a number from"),
        (event(time=-1), "time -1: must lie within the years 1970 to 9999"),
        (event(time=LAST + 1), "must lie within"),
        (event(time=1.5), "must be a whole number of µs"),  # type: ignore[arg-type]
        (event(key=""), "idempotency key ''"),
        (event(request="\0"), "request '.x00'"),
        (event(comment="\0"), "comment '.x00'"),
        (event(comment=None), "comment None: must be text"),
        (User(key="x", attributes={"a": float("inf")}), "attributes: cannot be written as JSON"),
        (User(key="x", attributes=[1]), "attributes: must be names with values"),  # type: ignore[arg-type]
        (User(key="x", attributes={"a": nested(40)}), "nested more than 32 levels"),
        (User(key="x", attributes={"a": nested(10**5)}), "nested more than 32 levels"),
        (User(key="日" * 267), "has 801 bytes, 800 at most"),
        (User(key="x", attributes={"a": {1}}), "cannot be written as JSON"),
        (User(key="x", attributes={"a": "\ud800"}), "attributes .* is not valid Unicode"),
        (Item(key="a"), "must be written"),
        (Item(key="a/b", hidden=1), "hidden 1: must be true or false"),  # type: ignore[arg-type]
        (Item(key="a/b", categories="abc"), "must be a list of names"),  # type: ignore[arg-type]
        (Item(key="a/b", categories=("",)), "category ''"),
        (Item(key="a/b", title="\0"), "title"),
        (given(position=-1), "position -1"),
    ],
)
def test_bad_rows_are_one_sentence_and_nothing_is_written(
    store: Store, bad: Any, message: str
) -> None:
    add: Any = {Event: store.add_events, User: store.put_users, Item: store.put_items,
                Given: store.add_given}[type(bad)]  # fmt: skip
    good = {Event: event(), User: User(key="ann"), Item: Item(key="a/a"), Given: given()}[type(bad)]
    with pytest.raises(DataError, match=message) as caught:
        add([good, bad])
    assert f"{type(bad).__name__.lower()} 2: " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert store.empty() and store.given("r1") == []


def test_limits_can_be_reached(store: Store) -> None:
    store.add_events([event("x" * 512, "a/" + "ü" * 399, time=LAST, value=1e9)])
    assert store.history("x" * 512, LAST).value == [1e9]
    mixed = np.random.default_rng(0).permutation(0x10000)  # or PostgreSQL packs them
    long = ["".join(map(chr, 0x10000 + mixed[i : i + 199])) for i in (0, 199, 398)]
    store.add_events([event(f"{long[0]}xxxx", f"a/{long[1]}", type=f"{long[2]}xxxx", time=0)])
    assert [u.key for u in store.users()[0]] == ["x" * 512, f"{long[0]}xxxx"]


def test_odd_questions_are_no_crash(store: Store) -> None:
    for ask in (store.user, store.item, lambda key: store.history(key, 5)):
        with pytest.raises(DataError):
            ask("\ud800")
    with pytest.raises(DataError):
        store.history("ann", 2**70)


@pytest.mark.parametrize("rolled_back", [False, True])  # by the database itself
def test_a_failed_write_leaves_no_lock(store: Store, rolled_back: bool) -> None:
    def fail(connection: Any, jobs: Any) -> Any:
        log.add(connection, [[event_row(event())]])
        if rolled_back:
            connection.exec_driver_sql("ROLLBACK")
        connection.exec_driver_sql("select 1 from nowhere")

    for _ in range(20):
        with pytest.raises(StoreError, match=r"cannot be written: .*nowhere"):
            store._writer.write(fail, None)
    assert store.empty()
    assert store.add_events([event()]) == 1


# Many at once


def test_writes_of_many_threads_and_stores_are_each_acknowledged(store: Store) -> None:
    second = Store.open(store._database.engine.url.render_as_string(hide_password=False))

    def post(worker: int) -> int:
        own, done = (store, second)[worker % 2], 0
        for i in range(20):
            key = f"{worker // 2}/{i}"  # each key comes from two workers
            done += own.add_events([event(f"u{worker}", f"a/{i}", time=i, key=key)])
        return done

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(post, range(8))) == 80
    second.close()
    assert len({e.key for e in store.events(n=1000)[0]}) == 80
    assert len(store.items()[0]) == 20


def test_one_bad_write_of_a_batch_fails_alone(store: Store) -> None:
    store.add_key(ApiKey(hash="h", name="x", scope="read", created=1))
    start = threading.Barrier(9)

    def post(worker: int) -> bool:
        start.wait()
        try:
            if worker == 4:
                store.add_key(ApiKey(hash="h", name="x", scope="read", created=1))
            else:
                store.add_events([event(f"u{worker}")])
        except DataError:
            return False
        return True

    for _ in range(5):
        with ThreadPoolExecutor(9) as pool:
            assert Counter(pool.map(post, range(9))) == {True: 8, False: 1}
    assert len(store.events(n=1000)[0]) == 40


def test_waiting_writes_share_a_commit(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    inside, go = threading.Event(), threading.Event()
    commit = store._writer._commit

    def slow(writes: Any) -> None:
        sizes.append(len(writes))
        inside.set()
        go.wait(10)
        commit(writes)

    monkeypatch.setattr(store._writer, "_commit", slow)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(store.add_events, [event()])
        inside.wait(10)
        rest = [pool.submit(store.add_events, [event(f"u{i}")]) for i in range(8)]
        while len(store._writer._waiting) < 8:
            pass
        go.set()
        assert [each.result() for each in (first, *rest)] == [1] * 9
    assert sizes == [1, 8]


def test_a_poller_of_revs_misses_nothing(opened: Store) -> None:
    wipe(opened)
    seen: dict[str, str] = {}
    stop = threading.Event()

    def poll() -> None:
        rev, last = 0, False
        while not last:
            last = stop.is_set()
            rev, items, gone = opened.changed_items(rev)
            seen.update({item.key: item.title for item in items})
            for key in gone:
                seen.pop(key, None)

    def put(worker: int) -> None:
        for i in range(15):
            opened.put_items([Item(key=f"a/{worker}-{i}", title=str(i)), Item(key=f"a/{i % 3}")])
            if i % 5 == 0:
                opened.delete_item(f"a/{worker}-{i}")

    with ThreadPoolExecutor(5) as pool:
        poller = pool.submit(poll)
        try:
            list(pool.map(put, range(4)))
        finally:
            stop.set()
        poller.result()
    assert seen == {item.key: item.title for item in opened.items(n=1000)[0]}


@pytest.mark.skipif(not POSTGRES, reason="no PostgreSQL")
def test_a_write_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import psycopg

    soon = BEGIN["postgresql"].replace("'30s'", "'200ms'")
    monkeypatch.setitem(BEGIN, "postgresql", soon)
    with empty_store("postgresql", tmp_path) as store:
        with psycopg.connect(POSTGRES) as other:  # a machine that died in a transaction
            other.execute(f"select pg_advisory_xact_lock({LOCK})")
            for _ in range(9):  # more than there are connections
                with pytest.raises(StoreError, match=r"cannot be written: .*lock timeout"):
                    store.add_events([event()])
        assert store.add_events([event()]) == 1
        with store._database.engine.connect() as own:
            assert own.exec_driver_sql("SHOW lock_timeout").scalar() == "0"
            found = own.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar()
    assert found == "1min"


@pytest.mark.skipif(not POSTGRES, reason="SQLite has no connection to lose")
def test_a_lost_connection_is_made_anew(tmp_path: Path) -> None:
    import psycopg

    with empty_store("postgresql", tmp_path) as store:

        def lose() -> None:
            with store._database.engine.connect() as own:
                pid = own.exec_driver_sql("select pg_backend_pid()").scalar()
            with psycopg.connect(POSTGRES, autocommit=True) as other:
                other.execute("select pg_terminate_backend(%s, 5000)", [pid])

        assert store.add_events([event()]) == 1
        lose()
        assert store.add_events([event()]) == 1
        lose()
        assert len(store.history("ann", END)) == 2


# Opening


@pytest.mark.parametrize("kind", KINDS)
def test_several_open_a_new_store_at_once(kind: str, tmp_path: Path) -> None:
    with place(kind, tmp_path) as url:
        with ThreadPoolExecutor(4) as pool:
            stores = list(pool.map(Store.open, [url] * 4))
        for i, store in enumerate(stores):
            store.add_events([event(f"u{i}")])
        assert all(len(store.events()[0]) == 4 for store in stores)
        for store in stores:
            store.close()


@pytest.mark.parametrize("kind", KINDS)
def test_migrations_make_the_tables_of_the_schema(kind: str, tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from m6rec.store.schema import METADATA, VERSION

    with empty_store(kind, tmp_path) as store, store._database.engine.connect() as connection:
        options = {"version_table": VERSION, "include_name": lambda name, kind, _: (
            kind != "table" or name.startswith("m6rec_"))}  # fmt: skip
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, METADATA) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_newer_store_is_refused(kind: str, tmp_path: Path) -> None:
    with empty_store(kind, tmp_path) as store:
        with store._database.transaction() as connection:
            connection.exec_driver_sql("update m6rec_version set version_num = '9999'")
        url = store._database.engine.url.render_as_string(hide_password=False)
        with pytest.raises(StoreError, match=r"newer m6rec .*9999.*; upgrade m6rec"):
            Store.open(url)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "not a database URL"),
        ("mysql://x:secret@y/z", "neither sqlite nor postgresql"),
        ("sqlite://", "needs a file"),
        ("sqlite:////no/such/folder/a.db", "cannot be opened: unable to open database file"),
        ("postgresql://ann:secret@127.0.0.1:9/none", "postgresql://127.0.0.1:9/none: cannot be"),
        ("postgresql://127.0.0.1:9/none?password=secret", "cannot be opened"),
        ("postgresql://127.0.0.1:x/none?password=secret", "not a database URL"),
        ("postgresql://127.0.0.1/none?nosuch=secret", "cannot be opened: invalid"),
    ],
)
def test_what_cannot_be_opened_is_one_sentence(url: str, message: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        Store.open(url)
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_text("no database " * 1000)
    with pytest.raises(StoreError, match="file is not a database"):
        Store.open(f"sqlite:///{tmp_path}/a.db")


def test_sqlite_is_durable() -> None:
    store = Store.open(f"sqlite:///{template()}")
    with store._database.engine.connect() as connection:
        found = [connection.exec_driver_sql(f"pragma {name}").scalar()
                 for name in ("journal_mode", "synchronous", "secure_delete")]  # fmt: skip
    store.close()
    assert found == ["wal", 2, 1]
