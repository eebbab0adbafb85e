"""What is wrong with a request is said: where, which value, and what was meant."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from m6rec.client import Client
from m6rec.serving.app import create
from m6rec.serving.settings import Settings
from service import local_client, purchases_run

GOOD = {"user": "u1", "item": "films/i1"}


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The service of a run whose TOML declares a type of events, and which reads no words."""
    folder = tmp_path_factory.mktemp("bodies")
    run, store = str(purchases_run(folder)), f"sqlite:///{folder / 'm.db'}"
    with local_client(create(Settings(run=run, store=store))) as client:
        yield client


def error(http: TestClient, status: int, method: str, path: str, **more: object) -> str:
    answer = http.request(method, path, **more)  # type: ignore[arg-type]
    assert answer.status_code == status, answer.text
    said: str = answer.json()["error"]
    return said


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("events", [GOOD, {"user": "u"}], "[1].item: Field required"),
        ("events", {"user": "u"}, "item: Field required"),
        ("events", [GOOD, GOOD | {"value": "x"}], '[1].value = "x": Input should be a valid num'),
        ("events", [GOOD, GOOD | {"vaule": 3}], "[1].vaule = 3: Extra inputs"),
        ("events", [GOOD | {"time": "1960-01-01T00:00:00Z"}], '[0].time = "1960-01-01T00:00:00Z"'),
        ("events", GOOD | {"time": "1969-12-31"}, 'time = "1969-12-31": Input should be greater'),
        ("recommend", {"history": {"films/i1": "five"}}, 'history.films/i1 = "five": Input should'),
        ("recommend", {"history": [1]}, "history[0] = 1: Input should be a valid string"),
        ("recommend", {"history": ["a"] * 10_001}, "history: List should have at most 10000"),
    ],
)
def test_place_value_and_cause_are_named(
    http: TestClient, path: str, body: object, says: str
) -> None:
    assert error(http, 422, "POST", f"/v1/{path}", json=body).startswith(says)


def test_a_body_is_json_whatever_it_is_called(http: TestClient) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}  # as `curl -d` does
    for headers in (form, {"Content-Type": "text/plain"}, {}):
        sent = http.post("/v1/recommend", content='{"user": "u1", "k": 2}', headers=headers)
        assert len(sent.json()["items"]) == 2
    foreign = form | {"Origin": "http://evil.example"}
    error(http, 403, "POST", "/v1/events", content='{"user": "u", "item": "i"}', headers=foreign)
    get = "/api/recommend/u1?write-back-type=read"  # stores events
    assert http.get(get, headers=foreign).status_code == 403
    found = http.get("/v1/recommend?user=u1", headers=foreign)
    assert found.is_success and not [name for name in found.headers if name.startswith("access-")]
    assert error(http, 422, "POST", "/v1/recommend") == "body: Field required"
    said = error(http, 422, "POST", "/v1/recommend", content='{"user": "u1",\n "k": }')
    assert said == "the body is broken JSON: Expecting value: line 2 column 7 (char 21)"


def test_an_unknown_parameter_is_refused(http: TestClient) -> None:
    said = error(http, 422, "GET", "/v1/recommend?user=u1&fliter=year<1990")
    assert said.startswith('fliter = "year<1990"') and 'did you mean "filter"' in said
    assert "usr" in error(http, 422, "GET", "/v1/events?usr=u1")
    for path in ("/api/recommend/u1?x=1", "/?x=1", "/v1/openapi.json?x=1"):
        assert http.get(path).status_code == 200


def test_of_an_unknown_type_of_events_it_is_said_that_it_does_not_count(http: TestClient) -> None:
    events = [GOOD, GOOD | {"type": "purchase"}, GOOD | {"type": "purchse"}]
    told = http.post("/v1/events", json=events).json()
    (warning,) = told.pop("warnings")
    assert told == {"added": 3, "got": 3}
    assert '"purchse"' in warning and 'did you mean "purchase"' in warning


@pytest.mark.parametrize(
    ("method", "path", "attributes", "says"),
    [
        ("POST", "recommend", {"age": "old"}, 'attribute age = "old": must be a number'),
        ("POST", "recommend", {"aeg": 31}, 'attribute "aeg" is unknown; did you mean "age"?'),
        ("PUT", "users/ann", {"age": [31]}, "attribute age = [31]"),
        ("PUT", "items/films/new", {"year": "late"}, 'attribute year = "late": must be a number'),
        ("PUT", "items/films/new", {"year": {"of": 1}}, 'attribute year = {"of": 1}'),
        ("PATCH", "items/films/i1", {"year": "late"}, 'attribute year = "late": must be a number'),
    ],
)
def test_attributes_that_the_run_cannot_read_are_refused(
    http: TestClient, method: str, path: str, attributes: dict[str, object], says: str
) -> None:
    said = error(http, 400, method, f"/v1/{path}", json={"attributes": attributes})
    assert said.startswith(says)


def test_attributes_that_only_the_store_knows_are_kept(http: TestClient) -> None:
    of_user, of_item = {"age": "31", "shoe": 7}, {"group": ["g0"], "year": None, "tags": [1, "b"]}
    assert http.put("/v1/users/ann", json={"attributes": of_user}).is_success
    assert http.put("/v1/items/films/new", json={"attributes": of_item}).is_success
    assert http.get("/v1/users/ann").json()["attributes"] == of_user
    assert http.post("/v1/recommend", json={"attributes": {"age": 31}}).is_success


def test_a_patch_leaves_the_rest_as_it_is(http: TestClient) -> None:
    before = http.get("/v1/items/films/i2").json()
    assert before["title"] and before["attributes"]
    after = http.patch("/v1/items/films/i2", json={"hidden": True})
    assert after.json() == before | {"hidden": True} == http.get("/v1/items/films/i2").json()
    error(http, 404, "PATCH", "/v1/items/films/none", json={"hidden": True})


def test_a_run_that_reads_no_words_answers_no_questions(http: TestClient) -> None:
    assert "reads no words" in error(http, 400, "POST", "/v1/answer", json={"question": "why?"})


def test_the_client_warns_of_types_that_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    with Client("http://localhost") as client:
        told = {"added": 1, "warnings": ['"purchse" does not count']}
        monkeypatch.setattr(client, "_call", lambda *_: told)
        with pytest.warns(UserWarning, match="purchse"):
            assert client.event("u1", "films/i1", "purchse") == 1
