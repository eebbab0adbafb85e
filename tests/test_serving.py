"""The service: what was acknowledged counts in the very next answer, and every answer says why."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from shutil import rmtree

import numpy as np
import polars as pl
import pytest
from fastapi.testclient import TestClient
from scipy.sparse import csr_array

import m6rec
from m6rec import artifacts
from m6rec.errors import StoreError
from m6rec.serving.app import create
from m6rec.serving.asks import Answer, Ask, Ranked
from m6rec.serving.engine import Engine
from m6rec.serving.settings import Settings
from m6rec.store import Event, Item, Store
from service import local_client, made_run, purchases_run
from world import world


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run of a small shop, which CURRENT names."""
    return made_run(tmp_path_factory.mktemp("serving")).parent


@pytest.fixture
def http(runs: Path, tmp_path: Path) -> Iterator[TestClient]:
    settings = Settings(run=str(runs / "current"), store=f"sqlite:///{tmp_path / 'm6rec.db'}")
    with local_client(create(settings)) as client:
        yield client


def items(answer: dict) -> list[str]:
    return [row["item"] for row in answer["items"]]


def ask(http: TestClient, **body: object) -> dict:
    answer = http.post("/v1/recommend", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_known_user_is_answered_with_reasons_and_weights(http: TestClient) -> None:
    found = ask(http, user="u1", domain="books", k=3)
    assert len(found["items"]) == 3 and found["history"] > 5
    assert {row["domain"] for row in found["items"]} == {"books"}
    assert sum(found["parts"]["books"].values()) == pytest.approx(1, abs=1e-3)
    for row in found["items"]:
        assert row["because"].startswith("because") and row["reasons"]
    assert found["run"] and len(found["request"]) == 32


def test_reasons_hold_up_nobody_else(http: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    made, begun, go_on = Engine._why, threading.Event(), threading.Event()

    def slow(*given: object) -> object:
        begun.set()
        go_on.wait(10)
        return made(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(Engine, "_why", staticmethod(slow))
    found: list[dict] = []
    thread = threading.Thread(target=lambda: found.append(ask(http, user="u1", k=3)))
    thread.start()
    assert begun.wait(10)
    assert ask(http, user="u2", k=3, explain=False)["items"] and not found
    go_on.set()
    thread.join()
    assert all(row["because"] for row in found[0]["items"])


def test_an_event_changes_the_very_next_answer(http: TestClient) -> None:
    before = ask(http, user="new", k=5)
    liked = before["items"][0]["item"]
    event = {"user": "new", "item": liked, "request": before["request"]}
    assert http.post("/v1/events", json=event).json() == {"added": 1, "got": 1, "warnings": []}
    after = ask(http, user="new", k=5)
    assert after["history"] == 1
    assert liked not in items(after) and items(after) != items(before)[1:]


def test_a_value_below_0_is_no_opinion(http: TestClient) -> None:
    item = ask(http, user="newcomer", k=1)["items"][0]["item"]
    http.post("/v1/events", json={"user": "newcomer", "item": item, "value": -25})
    answer = ask(http, user="newcomer", k=1)
    assert answer["history"] == 0 and items(answer) != [item]


def test_pages_do_not_repeat(http: TestClient) -> None:
    shown: list[str] = []
    page = ""
    for _ in range(3):
        found = ask(http, user="u2", k=5, page=page, explore=0.3)
        shown += items(found)
        page = found["page"]
    assert len(shown) == len(set(shown)) == 15
    live = http.app.state.service.engine.live  # type: ignore[attr-defined]
    assert "fingerprints" in vars(live)  # made once, and not for each page


def test_a_new_item_can_be_recommended_at_once(http: TestClient) -> None:
    body = {
        "title": "Dragon Rising",
        "text": "dragon castle sword",
        "attributes": {"group": "g0", "year": 2001},
    }
    assert http.put("/v1/items/films/new", json=body).status_code == 200
    found = ask(http, user="u0", domain="films", k=20, filter="year == 2001")
    assert "films/new" in items(found)
    assert http.delete("/v1/items/films/new").status_code == 200
    assert "films/new" not in items(ask(http, user="u0", domain="films", k=20))


def test_an_erased_user_is_a_new_one(http: TestClient, runs: Path) -> None:
    erased = http.delete("/v1/users/u3").json()
    assert erased["erased"]["events"] > 0
    assert erased["runs"] == [artifacts.resolve(runs / "current").name]
    assert http.get("/v1/users/u3").status_code == 404
    broken = runs / "half"  # nobody can tell whom it holds
    broken.mkdir()
    (broken / "manifest.json").write_text("{}")
    try:
        assert "half" in http.delete("/v1/users/u3").json()["runs"]
    finally:
        rmtree(broken)
    assert ask(http, user="u3")["history"] == 0


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"user": "u1", "domain": "boks"}, 400, 'did you mean "books"'),
        ({"user": "u1", "filter": "price < 3"}, 400, "price"),
        ({"user": "u1", "k": 0}, 422, "k"),
        ({"user": "u1", "kk": 3}, 422, "kk"),
        ({"history": ["no such thing"]}, 400, "no such thing"),
        ({"user": "u1", "page": "!"}, 400, "page"),
        ({"history": {"films/i1": 1e30}}, 422, "films/i1"),
    ],
)
def test_what_is_wrong_is_said(
    http: TestClient, body: dict[str, object], status: int, says: str
) -> None:
    answer = http.post("/v1/recommend", json=body)
    assert answer.status_code == status
    assert says in answer.json()["error"]


def test_a_broken_run_is_refused_and_the_old_one_stays(http: TestClient, runs: Path) -> None:
    broken = runs / "broken"
    broken.mkdir(exist_ok=True)
    answer = http.post("/v1/models/reload", params={"run": "broken"})
    assert answer.status_code == 409 and "broken" in answer.json()["error"]
    assert ask(http, user="u1")["items"]


def test_two_runs_share_the_users_and_are_compared(runs: Path, tmp_path: Path) -> None:
    """Users stay with their arm; what b shows is liked more often, and the trial says so."""
    old = artifacts.load(artifacts.resolve(runs / "current"))
    rival = artifacts.save(old, runs / "20300101-000000-rival")
    settings = Settings(
        run=str(runs / "current"), rival=str(rival), share=0.4,
        store=f"sqlite:///{tmp_path / 'm6rec.db'}",
    )  # fmt: skip
    events, arms = [], []
    with local_client(create(settings)) as http:
        for u in range(100):
            found = ask(http, user=f"u{u}", k=3, explain=False)
            assert ask(http, user=f"u{u}", k=3, explain=False)["arm"] == found["arm"]
            assert (found["run"] == rival.name) == (found["arm"] == "b")
            arms.append(found["arm"])
            if found["arm"] == "b" or u % 5 == 0:
                first = found["items"][0]["item"]
                event = {"user": f"u{u}", "item": first, "request": found["request"]}
                events.append(event)
        assert http.post("/v1/events", json=events).json()["added"] == len(events)
        assert 25 <= arms.count("b") <= 55
        time.sleep(1)  # what was shown is written down in the background
        told = http.get("/v1/trial").json()
    assert told["arms"]["a"]["users"] == arms.count("a")
    assert told["arms"]["b"]["hit_rate"] == pytest.approx(0.5)  # one of two lists
    assert told["arms"]["a"]["hit_rate"] < 0.2
    assert told["verdict"] == "b is better" and told["difference"]["p"] < 0.01


def test_a_store_of_another_run_is_said(
    runs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'm6rec.db'}")
    store.put_items([Item(key=f"films/i{i}", title="T") for i in range(20)])
    store.put_items([Item(key="books/i20", title="T")])
    Engine(store, artifacts.resolve(runs / "current")).close()
    (said,) = [each.message for each in caplog.records if "the store has" in each.message]
    assert 'of the first 20 items of domain "books" the store has 1, ' in said
    store.close()


def test_history_counts_where_the_toml_declares_event_types(tmp_path: Path) -> None:
    run, store = str(purchases_run(tmp_path)), f"sqlite:///{tmp_path / 'm6rec.db'}"
    with local_client(create(Settings(run=run, store=store))) as http:
        assert ask(http, history=["films/i1", "films/i5"])["history"] == 2
        assert http.get("/v1/similar", params={"item": "films/i1"}).json()["items"]
        http.post("/v1/events", json={"user": "n", "item": "films/i1"})
        http.post("/v1/events", json={"user": "n", "item": "films/i5", "type": "undeclared"})
        found = ask(http, user="n")
        assert found["history"] == 1 and "films/i5" not in items(found)


def test_an_item_is_what_it_is_now_for_every_worker(http: TestClient, runs: Path) -> None:
    """Whether a worker first saw it bare, or whole, or with what it no longer says."""
    http.post("/v1/events", json={"user": "u1", "item": "films/late"})
    ask(http, user="u0")  # takes it in
    body = {"title": "Late", "text": "dragon castle sword", "attributes": {"group": "g0"}}
    http.put("/v1/items/films/late", json=body)
    http.put("/v1/items/films/i3", json={"title": "New name", "attributes": {"year": 2001}})
    ask(http, user="u0")
    http.put("/v1/items/films/i3", json={"attributes": {}})
    found = ask(http, user="u0", domain="films", k=100, explain=False)
    fresh = Engine(http.app.state.service.store, artifacts.resolve(runs / "current"))  # type: ignore[attr-defined]
    (other,) = fresh.recommend([Ask(user="u0", domain="films", k=100, explain=False)])
    fresh.close()
    assert isinstance(other, Answer)
    scores = {row["item"]: row["score"] for row in found["items"]}
    assert scores == pytest.approx({item.item: item.score for item in other.items}, rel=1e-5)
    assert "films/late" in scores
    titles = {row["item"]: row["title"] for row in found["items"]}
    assert titles.get("films/i3", "films/i3") == "films/i3"
    assert not items(ask(http, user="u0", domain="films", k=100, filter="year == 2001"))


def test_who_was_erased_does_not_come_back_with_the_key(http: TestClient) -> None:
    engine = http.app.state.service.engine  # type: ignore[attr-defined]
    ask(http, user="u9")
    http.delete("/v1/users/u9")
    time.sleep(0.5)
    assert engine.store.given_to("u9") == []
    http.post("/v1/events", json={"user": "u9", "item": "films/i1"})
    asker = engine._asker(engine.live, Ask(user="u9"), time.time())
    assert asker.code == -1 and len(asker.item) == 1
    assert "u9" not in [user for user, _ in engine.like_minded("u1", 100)]


def test_keys_with_a_slash_and_attributes_with_odd_names(http: TestClient) -> None:
    http.post("/v1/events", json={"user": "a/b", "item": "films/i1"})
    assert http.put("/v1/users/a%2Fb", json={"attributes": {"key": "x"}}).status_code == 200
    assert http.get("/v1/users/a%2Fb").json()["attributes"] == {"key": "x"}
    assert ask(http, user="a/b")["history"] == 1
    assert http.post("/v1/users/a%2Fb/merge", params={"into": "c"}).json() == {"moved": 1}
    assert http.delete("/v1/users/a%2Fb").json()["erased"]["events"] == 0
    assert http.get("/v1/items/i3").json()["item"] == "films/i3"


def test_seeds_are_those_of_the_run_until_some_are_stored(http: TestClient) -> None:
    of_run = http.get("/v1/seeds").json()["items"]
    assert {key.partition("/")[0] for key in of_run} == {"films", "books"}
    chosen = ["films/i3", "books/i22"]
    assert http.put("/v1/seeds", json={"items": ["i3", "books/i22"]}).json() == {"items": chosen}
    assert http.get("/v1/seeds").json()["items"] == chosen
    http.put("/v1/seeds", json={"items": []})
    assert http.get("/v1/seeds").json()["items"] == of_run


def test_boosts_are_measured_on_the_scores_as_they_were(http: TestClient) -> None:
    def score(*boosts: dict[str, object]) -> float:
        found = ask(http, user="u0", boost=list(boosts), k=100, explain=False)
        return next(row["score"] for row in found["items"] if row["item"] == "books/i22")

    small, large = {"filter": "year == 2002", "by": 1}, {"filter": "year == 1990", "by": 50}
    assert score(large, small) == pytest.approx(score(small), rel=1e-5)
    assert score(small) > score()


def test_a_store_that_fails_is_not_the_clients_fault(
    http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise StoreError("postgresql://db.internal:5432/m6rec: gone")

    store = http.app.state.service.store  # type: ignore[attr-defined]
    monkeypatch.setattr(store, "look", failing)
    for answer in (
        http.post("/v1/recommend", json={"user": "u1"}),
        http.get("/v1/health/ready"),
        http.get("/api/health/ready"),
    ):
        assert answer.status_code == 503
        assert "internal" not in answer.text


def test_who_came_after_the_training_is_alike_too(runs: Path, tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'm6rec.db'}")
    engine = Engine(store, artifacts.resolve(runs / "current"))
    now = time.time_ns() // 1000
    past = store.history("u1", now)
    store.add_events(Event(user="late", item=item, type="event", time=now) for item in past.item)
    store.add_events([Event(user="other", item="films/new", type="event", time=now)])
    found = dict(engine.like_minded("u1", 5))
    assert max(found, key=found.__getitem__) == "late" and found["late"] > 0.95
    assert "u1" in dict(engine.like_minded("late", 5)) and "other" not in found
    fewer = csr_array(np.ones((1, 3), np.float32))  # a request from before the newest items
    assert len(engine._nearest(engine.live).best(fewer, 5)[0])
    engine.close()
    store.close()


def test_what_was_given_is_written_down_again_after_a_failure(
    http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    store: Store = http.app.state.service.store  # type: ignore[attr-defined]
    works, failed = store.add_given, threading.Event()

    def fails(rows: object) -> int:
        failed.set()
        raise ValueError("of no kind that is expected")

    monkeypatch.setattr(store, "add_given", fails)
    ask(http, user="u3")
    assert failed.wait(5)
    monkeypatch.setattr(store, "add_given", works)
    request = ask(http, user="u3")["request"]
    for _ in range(50):
        if store.given(request):
            return
        time.sleep(0.1)
    raise AssertionError("nothing was written down")


def test_one_answer_that_cannot_be_written_down_leaves_the_others(http: TestClient) -> None:
    service = http.app.state.service  # type: ignore[attr-defined]
    row = Ranked(item="films/i1", domain="films", title="", score=float("inf"))
    odd = Answer(request="odd", run="r", user="u1", history=0, items=(row,), parts={}, page="")
    fine = replace(odd, request="fine", items=(replace(row, score=1.0),))
    for answer in (odd, fine, replace(odd, request="odd too", user="a\0b")):
        service.engine.journal.note(answer, time.time())
    service.engine.journal.close()
    assert [given.score for given in service.store.given("fine")] == [1.0]
    assert not service.store.given("odd")


def test_what_may_be_a_slip_is_said(http: TestClient) -> None:
    item = ask(http, user="u1", k=1)["items"][0]["item"]
    events = [
        {"user": "slips", "item": item, "value": 99},
        {"user": "slips", "item": "films/no-such"},
        {"user": "slips", "item": "films/no-such"},
    ]
    (warning,) = http.post("/v1/events", json=events).json()["warnings"]  # no film is rated
    assert warning.startswith('item "films/no-such" is new')
    assert http.post("/v1/events", json=events[1:]).json()["warnings"] == []
    below = {"user": "slips", "item": item, "value": -3}
    (warning,) = http.post("/v1/events", json=below).json()["warnings"]
    assert warning.startswith(f'item "{item}": -3 is below 0 and counts like 0, as only seen')
    early = {"user": "slips", "item": item, "time": 20250301}
    (warning,) = http.post("/v1/events", json=early).json()["warnings"]
    assert "time 20250301 lies in the years 1970 to 1973" in warning


def test_ratings_beyond_the_scale_are_said(tmp_path: Path) -> None:
    data = world(explicit=True)
    log = pl.DataFrame(
        {"user": data.users.decode(data.user), "item": data.items.decode(data.item),
         "value": data.weight}
    )  # fmt: skip
    fitted = m6rec.fit(log, model="popular", feedback="explicit", columns={"value": "value"})
    settings = Settings(
        run=str(fitted.save(tmp_path / "run")), store=f"sqlite:///{tmp_path / 'rated.db'}"
    )
    with local_client(create(settings)) as rated:
        item = rated.get("/v1/recommend", params={"user": "u1"}).json()["items"][0]["item"]
        event = {"user": "u1", "item": item, "value": 99}
        (warning,) = rated.post("/v1/events", json=event).json()["warnings"]
        assert warning == f'item "{item}": 99 lies beyond the ratings of the run, 1 to 5'


def test_an_empty_list_says_why(http: TestClient) -> None:
    full = ask(http, user="u1", k=1)
    assert full["items"] and full["warnings"] == []
    none = ask(http, user="u1", k=1, filter="year == 1")
    assert none["items"] == [] and "no item is left" in none["warnings"][0]
