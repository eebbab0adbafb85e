"""Gorse's door: its Python client works unmodified, every method, sync and async; and the edges."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from gorse import AsyncGorse, Gorse, GorseException, Score

from m6rec.errors import QueryError
from m6rec.serving.api_gorse import times
from m6rec.serving.app import create
from m6rec.serving.settings import Settings
from service import local_client, made_run, serving

WHEN = "2022-08-07T00:26:46Z"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_run(tmp_path_factory.mktemp("gorse"))


@pytest.fixture
def http(run: Path, tmp_path: Path) -> Iterator[TestClient]:
    settings = Settings(run=str(run), store=f"sqlite:///{tmp_path / 'm6rec.db'}")
    with local_client(create(settings)) as client:
        yield client


class Called:
    """A client of either kind, whose methods are called alike; it notes which were."""

    def __init__(self, client: Gorse | AsyncGorse) -> None:
        self.client = client
        self.names: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.names.add(name)
        method = getattr(self.client, name)

        def call(*args: Any, **named: Any) -> Any:
            found = method(*args, **named)
            return asyncio.run(found) if asyncio.iscoroutine(found) else found

        return call


@pytest.mark.parametrize("kind", [Gorse, AsyncGorse])
def test_pygorse_works_unmodified(kind: type, run: Path, tmp_path: Path) -> None:
    with serving(run, f"sqlite:///{tmp_path / 'm6rec.db'}") as server:
        client = Called(kind(server.url, "any key"))
        users(client)
        items(client)
        feedback(client)
        recommendations(client)
        methods = {name for name in vars(kind) if not name.startswith("_")}
        assert methods == client.names


def users(client: Called) -> None:
    user = {"UserId": "100", "Labels": ["a", "b", "c"], "Comment": "comment"}
    assert client.insert_user(user) == {"RowAffected": 1}
    assert client.get_user("100") == user
    others = [{"UserId": f"10{i}", "Labels": {"age": 20 + i}, "Comment": ""} for i in range(1, 4)]
    assert client.insert_users(others) == {"RowAffected": 3}
    found, cursor = client.get_users(3)
    assert [each["UserId"] for each in found] == ["100", "101", "102"] and cursor
    more, cursor = client.get_users(1, cursor)
    assert more == others[2:] and cursor
    assert client.delete_user("100") == {"RowAffected": 1}
    with pytest.raises(GorseException) as error:
        client.get_user("100")
    assert error.value.status_code == 404
    assert error.value.message == 'user "100" not found'


def items(client: Called) -> None:
    item = {
        "ItemId": "100",
        "IsHidden": True,
        "Labels": {"title": "Dragon Rising", "year": 2001, "embedding": [0.1, 0.2]},
        "Categories": ["films", "new"],
        "Timestamp": WHEN,
        "Comment": "comment",
    }
    assert client.insert_item(item) == {"RowAffected": 1}
    assert client.get_item("100") == client.get_item("films%2F100") == item
    assert client.update_item("100", is_hidden=False, labels=["a"]) == {"RowAffected": 1}
    changed = {**item, "IsHidden": False, "Labels": ["a"]}
    assert client.get_item("100") == changed
    again = {"comment": "c", "timestamp": "2023-01-01T00:00:00Z", "categories": ["old", "films"]}
    client.update_item("100", labels={"title": "Dragon Falling"}, **again)
    assert client.get_item("100")["Categories"] == ["old", "films"]
    assert [each["ItemId"] for each in client.search_items("dragon fall")] == ["100"]
    found, cursor = client.get_items(7)
    rest, end = client.get_items(1000, cursor)
    assert len(found) == 7 and len(rest) == 34 and end == ""
    assert not {each["ItemId"] for each in found} & {each["ItemId"] for each in rest}
    assert client.delete_item("100") == {"RowAffected": 1}
    with pytest.raises(GorseException, match="404"):
        client.delete_item("100")


def feedback(client: Called) -> None:
    liked = [
        {"FeedbackType": "like", "UserId": "bob", "ItemId": item, "Timestamp": WHEN, "Value": 2}
        for item in ("i1", "i2", "i3")
    ]
    assert client.insert_feedbacks(liked) == {"RowAffected": 3}
    assert client.insert_feedback("read", "bob", "i1", "2023-01-01T00:00:00Z") == {"RowAffected": 1}
    (read,) = client.list_feedbacks("read", "bob")
    assert read == {
        "FeedbackType": "read", "UserId": "bob", "ItemId": "i1", "Value": 1.0, "Comment": "",
        "Timestamp": "2023-01-01T00:00:00Z", "Updated": "2023-01-01T00:00:00Z",
    }  # fmt: skip
    found, cursor = client.get_feedbacks(2)
    assert cursor and [each["UserId"] for each in found] == ["bob", "bob"]
    rest, _ = client.get_feedbacks(2, cursor)
    assert rest[0] not in found
    assert client.delete_feedback("bob", "i1") == {"RowAffected": 2}
    assert client.list_feedbacks("read", "bob") == []


def recommendations(client: Called) -> None:
    best = client.get_recommend("bob", n=4)
    assert all(isinstance(each, Score) for each in best)
    assert [each.score for each in best] == sorted((each.score for each in best), reverse=True)
    ids = [each.id for each in best]
    assert not {"i2", "i3"} & set(ids) and len(set(ids)) == 4
    assert [each.id for each in client.get_recommend("bob", n=2, offset=2)] == ids[2:]
    books = client.get_recommend("bob", category="books", n=3)
    assert all("books" in client.get_item(each.id)["Categories"] for each in books)
    client.get_recommend("bob", n=2, write_back_type="seen", write_back_delay="0h0m0s")
    assert [each.id for each in client.get_recommend("bob", n=2)] == ids[2:]
    session = [{"FeedbackType": "like", "UserId": "x", "ItemId": "i2", "Timestamp": WHEN}]
    answer = client.session_recommend(session, n=3)
    assert len(answer) == 3 and "i2" not in [each["Id"] for each in answer]
    near = client.get_neighbors("i2", n=4)
    assert [each["Id"] for each in client.get_neighbors("i2", 2, 2)] == [e["Id"] for e in near[2:]]


def get(http: TestClient, path: str, **query: Any) -> Any:
    answer = http.get(f"/api/{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def like(item: str, user: str = "bob", **more: Any) -> dict[str, Any]:
    return {"FeedbackType": "like", "UserId": user, "ItemId": item} | more


@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        ("GET", "user/nobody", 404, 'user "nobody" not found'),
        ("PATCH", "user/nobody", 404, 'user "nobody" not found'),
        ("GET", "item/nothing", 404, 'item "nothing" not found'),
        ("GET", "item/films%2Fnothing", 404, 'item "films/nothing" not found'),
        ("PATCH", "item/nothing", 404, 'item "nothing" not found'),
        ("DELETE", "item/nothing", 404, 'item "nothing" not found'),
        ("PUT", "item/nothing/category/a", 404, 'item "nothing" not found'),
        ("GET", "item/nothing/neighbors", 404, 'item "nothing" not found'),
        ("GET", "user/nobody/neighbors", 404, 'user "nobody" not found'),
        ("GET", "feedback/like/nobody/i1", 404, 'no feedback "like"'),
        ("GET", "non-personalized/odd", 404, "there are: popular, latest"),
        ("GET", "no/such/route", 404, "Not Found"),
        ("GET", "recommend/u1?n=many", 400, "n = "),
        ("GET", "recommend/u1?n=-1", 400, "n = "),
        ("GET", "recommend/u1?write-back-type=a&write-back-delay=soon", 400, "1h30m0s"),
        ("GET", "users?cursor=odd", 400, "cursor"),
        ("GET", "recommend/a%00b", 400, "user"),
        ("PATCH", "item/i1?", 400, "JSON"),
    ],
)
def test_errors_are_text(http: TestClient, method: str, path: str, status: int, says: str) -> None:
    content = b"{" if path.endswith("?") else b"{}"
    headers = {"content-type": "application/json"}
    answer = http.request(method, f"/api/{path}", content=content, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    assert says in answer.text


def test_a_bare_key_of_two_domains_must_say_which(http: TestClient) -> None:
    body = {"ItemId": "i1", "Categories": ["books"]}  # i1 is a film already
    assert http.post("/api/item", json=body).json() == {"RowAffected": 1}
    for answer in (
        http.get("/api/item/i1"),
        http.post("/api/feedback", json=[like("i1")]),
        http.post("/api/session/recommend", json=[like("i1")]),
    ):
        assert answer.status_code == 409
        assert "books/i1, films/i1" in answer.text
    assert get(http, "user/bob/feedback") == []
    assert http.post("/api/feedback", json=[like("films/i1"), like("i2")]).status_code == 200
    found = {each["ItemId"] for each in get(http, "user/bob/feedback")}
    assert found == {"films/i1", "i2"}
    assert (
        get(http, "item/books%2Fi1")["ItemId"] == get(http, "item/books/i1")["ItemId"] == "books/i1"
    )
    assert http.delete("/api/item/books%2Fi1").status_code == 200
    assert get(http, "item/i1")["ItemId"] == "i1"


def test_an_item_lies_in_the_domain_of_its_category(http: TestClient) -> None:
    http.post("/api/items", json=[
        {"ItemId": "x", "Categories": ["new", "books"]}, {"ItemId": "y"}, {"ItemId": "books/z/1"},
    ])  # fmt: skip
    assert get(http, "item/books%2Fx")["Categories"] == ["new", "books"]
    assert get(http, "item/y")["Categories"] == ["books"]  # the first domain
    assert get(http, "item/z%2F1")["ItemId"] == "z/1"
    assert http.post("/api/feedback", json=[like("new item")]).status_code == 200
    assert get(http, "item/books%2Fnew item")["ItemId"] == "new item"
    http.post("/api/item", json={"ItemId": "x", "Comment": "where it is"})
    assert get(http, "item/books%2Fx")["Comment"] == "where it is"


def test_categories_that_are_changed_at_once_are_all_kept(http: TestClient) -> None:
    """No change reads what another one is about to write."""
    http.post("/api/item", json={"ItemId": "many", "Categories": ["films"]})
    names = [f"c{i}" for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for method, wanted in ((http.put, {"films", *names}), (http.delete, {"films"})):
            list(pool.map(lambda name, go=method: go(f"/api/item/many/category/{name}"), names))
            assert set(get(http, "item/many")["Categories"]) == wanted


def test_a_patch_of_null_changes_nothing(http: TestClient) -> None:
    item = {
        "ItemId": "p", "IsHidden": True, "Labels": {"title": "T", "n": [1, 2]},
        "Categories": ["books", "c"], "Timestamp": WHEN, "Comment": "k",
    }  # fmt: skip
    http.post("/api/item", json=item)
    nulls = dict.fromkeys(["IsHidden", "Labels", "Categories", "Timestamp", "Comment"])
    assert http.patch("/api/item/p", json=nulls).json() == {"RowAffected": 1}
    assert get(http, "item/p") == item
    http.patch("/api/item/p", json={"Comment": "", "IsHidden": False})
    assert get(http, "item/p") == {**item, "Comment": "", "IsHidden": False}
    http.post("/api/user", json={"UserId": "v", "Labels": {"age": 3}, "Comment": "k"})
    http.patch("/api/user/v", json={"Labels": None, "Comment": "new"})
    assert get(http, "user/v") == {"UserId": "v", "Labels": {"age": 3}, "Comment": "new"}
    http.put("/api/item/p/category/d")
    http.put("/api/item/p/category/d")
    http.delete("/api/item/p/category/c")
    assert get(http, "item/p")["Categories"] == ["books", "d"]


def test_post_adds_and_put_overwrites(http: TestClient) -> None:
    path = "feedback/like/bob/i1"
    http.post("/api/feedback", json=[like("i1", Value=2, Timestamp=WHEN, Comment="first")])
    later = "2022-08-08T00:00:00.5Z"
    http.post("/api/feedback", json=[like("i1", Value=3, Timestamp=later, Comment="second")])
    assert get(http, path) == {
        "FeedbackType": "like", "UserId": "bob", "ItemId": "i1", "Value": 5.0,
        "Timestamp": WHEN, "Updated": later, "Comment": "second",
    }  # fmt: skip
    http.put("/api/feedback", json=[like("i1", Value=1, Timestamp=WHEN)])
    found = get(http, path)
    assert (found["Value"], found["Timestamp"], found["Updated"]) == (1.0, WHEN, WHEN)
    http.post("/api/feedback", json=[like("i1", FeedbackType="read", Value=0), like("i2")])
    assert [each["FeedbackType"] for each in get(http, "feedback/bob/i1")] == ["like", "read"]
    assert [each["ItemId"] for each in get(http, "item/i2/feedback/like")] == ["i2"]
    assert len(get(http, "user/bob/feedback")) == 3
    assert http.delete(f"/api/{path}").json() == {"RowAffected": 1}
    assert http.delete(f"/api/{path}").json() == {"RowAffected": 0}
    assert http.delete("/api/feedback/bob/i1").json() == {"RowAffected": 1}


def test_feedback_of_the_future_is_not_seen_before_it_is_due(
    http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    before = get(http, "recommend/bob", n=1)
    assert http.post("/api/feedback", json=[like(before[0], Timestamp=soon)]).status_code == 200
    assert get(http, "user/bob/feedback") == get(http, "feedback/like")["Feedback"] == []
    assert get(http, "recommend/bob", n=1) == before
    later = time.time() + 3601
    monkeypatch.setattr("m6rec.serving.engine.time", SimpleNamespace(time=lambda: later))
    clock = SimpleNamespace(time_ns=lambda: int(later * 1e9))
    monkeypatch.setattr("m6rec.serving.api_gorse.feedback.time", clock)
    assert len(get(http, "user/bob/feedback")) == 1
    assert get(http, "recommend/bob", n=1) != before


def test_what_was_written_back_does_not_come_again(http: TestClient) -> None:
    back = {"n": 5, "write-back-type": "read"}
    first = get(http, "recommend/u1", **back)
    later = get(http, "recommend/u1", **back, **{"write-back-delay": "1h"})
    assert not set(first) & set(later)
    assert get(http, "recommend/u1", n=5) == later  # their feedback is not due yet
    seen = get(http, "user/u1/feedback/read")
    assert {each["ItemId"] for each in seen} == set(first)
    assert {each["Value"] for each in seen} == {0.0}


def test_pages_have_no_repeats(http: TestClient) -> None:
    whole = get(http, "recommend/u2/books", n=12)
    paged = [id for at in range(0, 12, 5) for id in get(http, "recommend/u2/books", n=5, offset=at)]
    assert paged[:12] == whole and len(set(paged)) == len(paged)
    assert get(http, "recommend/u2", offset=10**9) == get(http, "recommend/u2", n=0) == []
    events: list[tuple[str, ...]] = []
    cursor = ""
    while True:
        page = get(http, "feedback", n=700, Cursor=cursor)
        events += [(e["UserId"], e["ItemId"], e["FeedbackType"]) for e in page["Feedback"]]
        cursor = page["Cursor"]
        if not cursor:
            break
    assert len(set(events)) == len(events) > 700


def test_categories_narrow_every_list(http: TestClient) -> None:
    new = [{"ItemId": f"n{i}", "Categories": [d, "new"], "Timestamp": f"202{i}-01-01T00:00:00Z",
            "Labels": {"title": "Dragon castle"}}
           for i, d in enumerate(["films", "books", "books"])]  # fmt: skip
    http.post("/api/items", json=new)
    assert set(get(http, "recommend/u1/new")) == {"n0", "n1", "n2"}
    assert set(get(http, "recommend/u1", category=["new", "books"])) == {"n1", "n2"}
    assert get(http, "recommend/u1", category="none") == []
    assert {e["Id"] for e in get(http, "collaborative-filtering/u1/new")} == {"n0", "n1", "n2"}
    assert {e["Id"] for e in get(http, "item-to-item/any/i1", category="new")} == {"n0", "n1", "n2"}
    assert {e["Id"] for e in get(http, "item/i1/neighbors/new")} == {"n0", "n1", "n2"}
    assert [e["Id"] for e in get(http, "latest", n=3)] == ["n2", "n1", "n0"]
    assert get(http, "latest/films", n=1) == [{"Id": "n0", "Score": 1577836800.0}]
    http.post("/api/feedback", json=[like("n2"), like("n1", user="u5")])
    assert [e["Id"] for e in get(http, "latest", **{"n": 2, "user-id": "bob"})] == ["n1", "n0"]
    assert get(http, "popular/new") == [{"Id": "n1", "Score": 1.0}, {"Id": "n2", "Score": 1.0}]
    http.patch("/api/item/n2", json={"IsHidden": True})
    assert [e["Id"] for e in get(http, "latest", n=2)] == ["n1", "n0"]
    assert get(http, "non-personalized/popular", category="new") == [{"Id": "n1", "Score": 1.0}]


def test_users_alike_share_histories(http: TestClient) -> None:
    history = {each["ItemId"] for each in get(http, "user/u1/feedback")}
    http.post("/api/feedback", json=[like(item, user="twin") for item in history])
    near = get(http, "user-to-user/any/twin", n=3)
    assert near[0]["Id"] == "u1" and near[0]["Score"] == pytest.approx(1, abs=0.1)
    assert get(http, "user/twin/neighbors/", n=2, offset=1) == near[1:]
    http.delete("/api/user/u1")
    assert get(http, "user/twin/neighbors", n=2) == near[1:]
    assert "u1" not in [each["Id"] for each in get(http, "user/u2/neighbors", n=1000)]


def test_labels_that_do_not_fit_break_nothing(http: TestClient) -> None:
    odd = [{"year": {"a": 1}}, {"year": "soon"}, {"year": 10**30}, "x", [1, 2], {"group": [[]]}]
    body = [{"ItemId": f"odd{i}", "Labels": each} for i, each in enumerate(odd)]
    assert http.post("/api/items", json=body).json() == {"RowAffected": len(odd)}
    assert [get(http, f"item/odd{i}")["Labels"] for i in range(len(odd))] == odd
    assert len(get(http, "recommend/u1")) == 10


def test_a_deleted_item_is_gone_from_every_list(http: TestClient) -> None:
    best = get(http, "recommend/u1", n=1)[0]
    key = f"films%2F{best}" if "films" in get(http, f"item/{best}")["Categories"] else best
    assert http.delete(f"/api/item/{key}").json() == {"RowAffected": 1}
    assert http.get(f"/api/item/{key}/neighbors").status_code == 404
    assert best not in get(http, "recommend/u1", n=40)
    assert best not in [each["Id"] for each in get(http, "popular", n=40)]


def test_health(http: TestClient) -> None:
    ready = get(http, "health/ready")
    assert ready == get(http, "health/live")
    assert ready == {
        "Ready": True, "DataStoreError": None, "CacheStoreError": None,
        "DataStoreConnected": True, "CacheStoreConnected": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (WHEN, WHEN),
        ("2022-08-07T08:26:46.5+08:00", "2022-08-07T00:26:46.5Z"),
        ("2022-08-07T00:26:46.120000Z", "2022-08-07T00:26:46.12Z"),
        ("2022-08-07T00:26:46.123456789Z", "2022-08-07T00:26:46.123456Z"),
        ("1989-06-01 01:01:01.000000001 +0000 UTC", "1989-06-01T01:01:01Z"),
        ("1942-01-23", "1942-01-23T00:00:00Z"),
        ("1659832006", WHEN),
        ("1659832006500", "2022-08-07T00:26:46.5Z"),
        ("", times.UNSET),
        (None, times.UNSET),
        (times.UNSET, times.UNSET),
    ],
)
def test_times_round_trip(given: str | None, shown: str) -> None:
    assert times.rfc3339(times.micro(given)) == shown
    assert times.rfc3339(times.micro(shown)) == shown


@pytest.mark.parametrize("given", ["soon", "2022-13-01", "99999", "12:30"])
def test_what_is_no_time_is_refused(given: str) -> None:
    with pytest.raises(QueryError, match=given):
        times.micro(given)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("10m", 600), ("1h30m0s", 5400), ("-1.5h", -5400), ("300ms", 0.3), ("", 0)],
)
def test_durations(given: str, seconds: float) -> None:
    assert times.duration(given) == seconds * 1_000_000


@pytest.mark.parametrize("given", ["5", "1x", "--1h", "h", "1h-3m"])
def test_what_is_no_duration_is_refused(given: str) -> None:
    with pytest.raises(QueryError, match="1h30m0s"):
        times.duration(given)


def test_figures_name_its_routes(http: TestClient) -> None:
    get(http, "item/films%2Fi1")
    assert 'route="GET /api/item/{item:path}"' in http.get("/metrics").text
