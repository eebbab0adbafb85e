"""Delivery: signed, tried again, never lost; against a server that fails first."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from m6rec.opinion.delivery import SECRET, Delivering, deliver, signature, verify
from m6rec.store import Store
from m6rec.store.records import Alert

NOW = 1_700_000_000
KEY = {SECRET: "s3cret"}


class Hook:
    """A local webhook. statuses: of its answers in order, then 204. got: requests."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.got: list[tuple[dict[str, str], bytes]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                hook.got.append((dict(self.headers), content))
                self.send_response(hook.statuses.pop(0) if hook.statuses else 204)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()
    yield hook
    hook.server.shutdown()
    hook.server.server_close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(f"sqlite:///{tmp_path / 'm6rec.db'}")
    yield store
    store.close()


def alert(key: str = "k1") -> Alert:
    return Alert(
        key=key, entity="北风食品", rule="opinion changed", severity="critical", time=NOW - 60,
        value=-0.4, text="北风食品: opinion fell", details={"score": 6.2},
    )  # fmt: skip


def test_a_request_is_signed_and_says_that_it_is_no_advice(hook: Hook, store: Store) -> None:
    options = Delivering(log=False, webhook=hook.url)
    store.alerts.add([alert()], options.sinks)
    assert deliver(store, options, NOW, KEY) == (1, 0)
    ((headers, content),) = hook.got
    told = json.loads(content)
    assert told["entity"] == "北风食品"
    assert told["details"] == {"score": 6.2}
    assert "not advice" in told["notice"]
    assert headers["M6Rec-Alert"] == "k1"
    header = headers["M6Rec-Signature"]
    assert verify(content, header, "s3cret", NOW + 10)
    assert not verify(content + b" ", header, "s3cret", NOW + 10)
    assert not verify(content, header, "other", NOW + 10)
    assert not verify(content, header, "s3cret", NOW + 301), "an old request sent again"
    assert not verify(content, "v1=00", "s3cret", NOW)
    assert deliver(store, options, NOW + 9999, KEY) == (0, 0), "once is enough"


def test_the_signature_is_hmac_sha256_of_time_and_body() -> None:
    code = "9be615aec64f0d044b5ad6854ab1d893ec88617fb728d2149dcd3a3428e8c45d"
    assert signature(b"{}", 5, "key") == f"t=5,v1={code}"  # by openssl dgst -hmac


@pytest.mark.parametrize("status", [500, 404, 302])
def test_what_was_not_taken_is_tried_again_later_and_later(
    hook: Hook, store: Store, status: int
) -> None:
    options = Delivering(log=False, webhook=hook.url, first=10, most=25)
    hook.statuses = [status] * 3
    store.alerts.add([alert()], options.sinks)
    now, waits = NOW, []
    for _ in range(3):
        assert deliver(store, options, now, {}) == (0, 1)
        ((waiting),) = store.alerts.waiting()
        assert waiting["error"] == f"answered {status}"
        waits.append(waiting["due"] - now)
        assert deliver(store, options, waiting["due"] - 1, {}) == (0, 0), "not before it is due"
        now = waiting["due"]
    assert waits == [10, 20, 25]
    assert deliver(store, options, now, {}) == (1, 0)
    assert store.alerts.waiting() == []
    assert len(hook.got) == 4, "a redirect is not followed"
    assert "M6Rec-Signature" not in hook.got[0][0]


def test_no_server_is_no_loss(store: Store, tmp_path: Path, hook: Hook) -> None:
    hook.server.shutdown()
    hook.server.server_close()
    options = Delivering(log=False, webhook=hook.url)
    store.alerts.add([alert("k1"), alert("k2")], options.sinks)
    assert deliver(store, options, NOW, {}) == (0, 2)
    assert {row["alert"] for row in store.alerts.waiting()} == {"k1", "k2"}
    assert "refused" in store.alerts.waiting()[0]["error"].lower()


def test_whoever_dies_while_sending_loses_nothing(
    hook: Hook, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Delivering(log=False, webhook=hook.url, timeout=10)
    store.alerts.add([alert()], options.sinks)

    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(store.alerts, "delivered", dies)
        with pytest.raises(KeyboardInterrupt):
            deliver(store, options, NOW, KEY)
    assert deliver(store, options, NOW + 1, KEY) == (0, 0), "another may be sending it"
    assert deliver(store, options, NOW + 71, KEY) == (1, 0)
    keys = [headers["M6Rec-Alert"] for headers, _ in hook.got]
    assert keys == ["k1", "k1"], "twice, with the key that tells so"


def test_the_log_gets_one_line_of_json(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    options = Delivering()
    store.alerts.add([alert()], options.sinks)
    with caplog.at_level(logging.WARNING, "m6rec.opinion"):
        assert deliver(store, options, NOW, {}) == (1, 0)
    assert json.loads(caplog.records[0].message)["key"] == "k1"


def test_a_sink_that_is_gone_waits(store: Store, hook: Hook) -> None:
    store.alerts.add([alert()], ("webhook",))
    assert deliver(store, Delivering(log=False), NOW, {}) == (0, 1)
    assert "no sink" in store.alerts.waiting()[0]["error"]
    assert deliver(store, Delivering(log=False, webhook=hook.url), NOW + 100, {}) == (1, 0)


def test_mistakes_are_one_sentence() -> None:
    with pytest.raises(ValueError, match="must start with https"):
        Delivering(webhook="ftp://x")
    with pytest.raises(ValueError, match="first at least 1"):
        Delivering(first=0)
