"""API keys, scopes, sizes, rates and headers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from m6rec.errors import StoreError
from m6rec.serving import guard
from m6rec.serving.app import create
from m6rec.serving.guard import hashed
from m6rec.serving.settings import Settings
from m6rec.store import ApiKey, Store
from service import local_client, made_run

KEYS = {"read": "r" * 43, "write": "w" * 43, "admin": "a" * 43, "gone": "g" * 43}


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("guard")
    url = f"sqlite:///{folder / 'm6rec.db'}"
    store = Store.open(url)
    for name, key in KEYS.items():
        scope = "admin" if name == "gone" else name
        store.add_key(ApiKey(hash=hashed(key), name=name, scope=scope, created=0))
    store.revoke_key(hashed(KEYS["gone"]), 1)
    store.close()
    settings = Settings(run=str(made_run(folder)), store=url, body=2_000)
    with local_client(create(settings)) as client:
        yield client


def status(http: TestClient, method: str, path: str, key: str = "", **more: object) -> int:
    headers = {"X-API-Key": KEYS.get(key, key)} if key else {}
    return http.request(method, path, headers=headers, **more).status_code  # type: ignore[arg-type]


OWN = {"Origin": "http://127.0.0.1"}
EVENT = {"user": "u1", "item": "films/i1"}


@pytest.mark.parametrize(
    ("method", "path", "body", "needed"),
    [
        ("GET", "/v1/events?user=u1", None, "read"),
        ("POST", "/v1/recommend", {"user": "u1"}, "read"),
        ("POST", "/v1/events", EVENT, "write"),
        ("DELETE", "/v1/users/nobody", None, "write"),
        ("POST", "/v1/models/reload?run=missing", None, "admin"),
        ("GET", "/api/recommend/u1", None, "read"),
        ("GET", "/api/recommend/u1?write%2Dback-type=read", None, "write"),
        ("POST", "/api/session/recommend/films", [], "read"),
        ("POST", "/api/feedback", [], "write"),
        ("DELETE", "/api/item/nothing", None, "write"),
    ],
)
def test_a_scope_reaches_its_own_and_what_is_below(
    http: TestClient, method: str, path: str, body: object, needed: str
) -> None:
    order = ("read", "write", "admin")
    for scope in order:
        found = status(http, method, path, scope, json=body)
        assert (found == 403) == (order.index(scope) < order.index(needed))
    for key in ("", "gone", "x" * 43):
        assert status(http, method, path, key, json=body) == 401


def test_gorse_clients_are_refused_in_text(http: TestClient) -> None:
    answer = http.get("/api/recommend/u1")
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text == "send a valid API key as X-API-Key"


def test_health_needs_no_key(http: TestClient) -> None:
    assert status(http, "GET", "/v1/health/ready") == 200


def test_large_bodies_are_refused_whether_they_say_so_or_not(http: TestClient) -> None:
    body = b'{"user": "' + b"u" * 3_000 + b'"}'
    assert status(http, "POST", "/v1/recommend", "read", content=body) == 413

    def parts() -> Iterator[bytes]:
        yield from (body[i : i + 500] for i in range(0, len(body), 500))

    assert status(http, "POST", "/v1/recommend", "read", content=parts()) == 413


def test_pages_are_told_what_they_may_load(http: TestClient) -> None:
    headers = http.get("/v1/health/live").headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_a_client_may_ask_so_often(tmp_path: Path) -> None:
    settings = Settings(
        run=str(made_run(tmp_path)), store=f"sqlite:///{tmp_path / 'm6rec.db'}", rate=5
    )
    with local_client(create(settings)) as client:
        found = [client.get("/v1/events?user=u1").status_code for _ in range(12)]
    assert found[:5] == [200] * 5 and 429 in found


def test_when_all_keys_are_revoked_nobody_may_ask(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'm6rec.db'}"
    store = Store.open(url)
    store.add_key(ApiKey(hash=hashed("k" * 43), name="one", scope="admin", created=0))
    store.revoke_key(hashed("k" * 43), 1)
    store.close()
    with local_client(create(Settings(run=str(made_run(tmp_path)), store=url))) as client:
        assert status(client, "GET", "/v1/events?user=u1") == 401
        assert status(client, "GET", "/v1/events?user=u1", "k" * 43) == 401


def test_without_keys_only_this_machines_own_pages_may_ask(tmp_path: Path) -> None:
    settings = Settings(run=str(made_run(tmp_path)), store=f"sqlite:///{tmp_path / 'm6rec.db'}")
    with local_client(create(settings)) as client:
        for headers, wanted in (
            ({}, 200),
            ({"Origin": "http://127.0.0.1"}, 200),
            ({"Origin": "http://evil.example"}, 403),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Host": "evil.example"}, 403),
            ({"Host": "[::1"}, 403),
            ({"Origin": "http://["}, 403),
        ):
            answer = client.post("/v1/events", json=EVENT, headers=headers)
            assert answer.status_code == wanted, headers
        assert client.post("/enter", headers={"Origin": "http://["}).status_code == 403
        led = client.get("/language/en", params={"next": "//["}, follow_redirects=False)
        assert led.headers["location"] == "/"


def test_less_than_one_request_a_second_may_be_meant(tmp_path: Path) -> None:
    settings = Settings(
        run=str(made_run(tmp_path)), store=f"sqlite:///{tmp_path / 'm6rec.db'}", rate=0.5
    )
    with local_client(create(settings)) as client:
        found = [client.get("/v1/events?user=u1").status_code for _ in range(2)]
    assert found == [200, 429]


def test_who_guesses_keys_is_slowed_down(tmp_path: Path) -> None:
    settings = Settings(
        run=str(made_run(tmp_path)), store=f"sqlite:///{tmp_path / 'm6rec.db'}", rate=0.5
    )
    store = Store.open(settings.store)
    store.add_key(ApiKey(hash=hashed("k" * 43), name="one", scope="admin", created=0))
    store.close()
    with local_client(create(settings)) as client:
        found = [
            client.post("/enter", data={"key": "guess"}, headers=OWN).status_code for _ in range(2)
        ]
    assert found == [401, 429]


def test_keys_are_read_again_and_a_store_that_fails_is_503(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "REMEMBERED", 0.0)
    app = create(Settings(run=str(made_run(tmp_path)), store=f"sqlite:///{tmp_path / 'm6rec.db'}"))
    with local_client(app) as client:
        store: Store = app.state.service.store
        assert status(client, "GET", "/v1/events?user=u1") == 200
        store.add_key(ApiKey(hash=hashed("k" * 43), name="one", scope="admin", created=0))
        assert status(client, "GET", "/v1/events?user=u1") == 401
        assert status(client, "GET", "/v1/events?user=u1", "k" * 43) == 200

        def fails() -> list[ApiKey]:
            raise StoreError("is locked")

        monkeypatch.setattr(store, "keys", fails)
        assert status(client, "GET", "/v1/events?user=u1", "k" * 43) == 503
        for path in ("/v1/health/live", "/api/health/live", "/static/style.css"):
            assert status(client, "GET", path) == 200
