"""The log: JSON lines that say what happened and name nobody."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from m6rec.errors import StoreError
from m6rec.serving import logs
from m6rec.serving.app import create
from m6rec.serving.settings import Settings
from service import local_client, made_run


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    log = logging.getLogger("m6rec")
    before = log.handlers[:], log.level, logs.REQUESTS.level
    yield
    log.handlers[:] = before[0]
    log.setLevel(before[1])
    logs.REQUESTS.setLevel(before[2])


def test_requests_are_json_lines_without_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(
        run=str(made_run(tmp_path)), store=f"sqlite:///{tmp_path / 'm6rec.db'}",
        log="json", requests=True,
    )  # fmt: skip
    with local_client(create(settings)) as client:
        answer = client.get("/v1/recommend?user=u1&k=3", headers={"X-API-Key": "secret"}).json()
        item = answer["items"][0]["item"]
        event = {"user": "u1", "item": item, "request": answer["request"]}
        client.post("/v1/events", json=event)
        client.get("/v1/users/nobody-knows")
        client.app.state.service.engine.journal.close()  # type: ignore[attr-defined]
        figures = client.get("/metrics").text
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    told = {(row.get("route"), row.get("status")) for row in lines}
    assert ("GET /v1/recommend", 200) in told and ("GET /v1/users/{user:path}", 404) in told
    assert all(row["ms"] > 0 for row in lines if "route" in row)
    assert not any(word in json.dumps(lines) for word in ("secret", "nobody-knows", "u1"))
    domain = item.partition("/")[0]
    assert f'm6rec_hit_items{{arm="",domain="{domain}",type="event"}} 1.0' in figures


@pytest.mark.parametrize("error", [StoreError("is gone"), ValueError("odd")])
def test_failures_are_told_by_their_route(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:  # fmt: skip
    def failing(key: str) -> None:
        raise error

    settings = Settings(run=str(made_run(tmp_path)), store=f"sqlite:///{tmp_path / 'm6rec.db'}")
    with local_client(create(settings), raise_server_exceptions=False) as client:
        monkeypatch.setattr(client.app.state.service.store, "user", failing)  # type: ignore[attr-defined]
        assert client.get("/v1/users/nobody-knows").status_code >= 500
    told = capsys.readouterr().err
    assert "GET /v1/users/{user:path}" in told and str(error) in told
    assert "nobody-knows" not in told


def test_an_exception_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("json", requests=False)
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("m6rec").exception("it failed")
    (line,) = capsys.readouterr().err.splitlines()
    row = json.loads(line)
    assert row["message"] == "it failed" and row["level"] == "error"
    assert "ValueError: no" in row["trace"]
