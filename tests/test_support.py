"""Answers dressed for people: passages, drafts that are grounded or not shown, the FAQ."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import numpy as np
import pytest

from m6rec import config
from m6rec.errors import ConfigError
from m6rec.experiment import DraftConfig, Experiment
from m6rec.scenarios import faq
from m6rec.support.answers import as_user
from m6rec.support.draft import KEY, draft
from m6rec.support.passages import MOST, best_passage, passages, sentences
from m6rec.text import HashedEncoder

ANSWERS = ["Print the label in the app.", "The money comes within a week."]


@contextmanager
def model_service(reply: Callable[[], str | bytes], wait: float = 0) -> Iterator[Any]:
    """A service with /chat/completions on this machine; ``seen`` holds what it was sent."""
    seen: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen.append({"path": self.path, "key": self.headers.get("Authorization"),
                         "body": json.loads(body)})  # fmt: skip
            time.sleep(wait)
            made = reply()
            if isinstance(made, str):
                made = json.dumps({"choices": [{"message": {"content": made}}]}).encode()
            try:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(made)
            except OSError:
                pass  # the client did not wait

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield (
            seen,
            DraftConfig(
                endpoint=f"http://127.0.0.1:{server.server_port}/v1", model="small", timeout=5
            ),
        )
    finally:
        server.shutdown()
        server.server_close()


def test_a_draft_cites_what_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "secret")
    with model_service(lambda: "Print it [1]. Then wait [2].") as (seen, options):
        found = draft(options, "I am ann@example.org, how do I return it?", ANSWERS)
    assert found is not None
    assert found.cites == (0, 1) and found.redacted == ("email",)
    (sent,) = seen
    assert sent["path"] == "/v1/chat/completions" and sent["key"] == "Bearer secret"
    told = json.dumps(sent["body"])
    assert "ann@example.org" not in told and "[email]" in told and ANSWERS[1] in told


@pytest.mark.parametrize(
    "reply",
    ["No source at all.", "It says so [3].", "NONE", "", b"<html>", b'{"choices": []}',
     b'{"choices": [{"message": {"content": 5}}]}', b"[1]"],
)  # fmt: skip
def test_what_is_not_grounded_is_not_shown(reply: str | bytes) -> None:
    with model_service(lambda: reply) as (_, options):
        assert draft(options, "how do I return it?", ANSWERS) is None


def test_a_slow_service_is_not_waited_for() -> None:
    with model_service(lambda: "Late [1].", wait=1.5) as (_, options):
        began = time.monotonic()
        hasty = dataclasses.replace(options, timeout=0.3)
        assert draft(hasty, "how?", ANSWERS) is None
        assert time.monotonic() - began < 1.2


def test_nobody_there_is_no_draft() -> None:
    nobody = DraftConfig(endpoint="http://127.0.0.1:9/v1", model="m", timeout=1)
    assert draft(nobody, "how?", ANSWERS) is None
    assert draft(DraftConfig(), "how?", ANSWERS) is None


def test_draft_options_are_checked() -> None:
    for table in (
        {"endpoint": "ftp://x", "model": "m"},
        {"endpoint": "http://x"},
        {"timeout": 0},
        {"answers": 11},
    ):
        with pytest.raises(ConfigError, match=r"serve\.draft"):
            config.from_table(Experiment, {"serve": {"draft": table}})


def test_sentences_of_both_languages() -> None:
    text = "Open lumo.box in version 3.5. Then sign in! Ready?"
    assert sentences(text) == ["Open lumo.box in version 3.5.", "Then sign in!", "Ready?"]
    assert sentences("先关机。再打开！好了吗？") == ["先关机。", "再打开！", "好了吗？"]


def test_passages_are_short_and_lose_nothing() -> None:
    text = " ".join(f"Sentence number {i} says a little more about it." for i in range(12))
    found = passages(text)
    assert " ".join(found) == text
    assert len(found) > 1 and all(len(each) <= MOST for each in found)
    assert passages("") == []


def test_the_passage_that_is_nearest_is_chosen() -> None:
    about = ["The router has a light. " * 12, "Batteries last two years. " * 12]
    text = about[0] + about[1]
    encoder = HashedEncoder().fit([*passages(text), "battery life of years"])
    assert "Batteries" in best_passage(encoder, "how many years do batteries last", text)
    assert best_passage(encoder, "anything", "One sentence.") == "One sentence."


def test_the_same_words_are_the_same_question() -> None:
    key, words = as_user("  Where is   my parcel?  ")
    assert words == "Where is my parcel?"
    assert as_user("where is my parcel")[0] == key != as_user("where is my order")[0]
    assert "123456789" not in as_user("parcel 123456789")[1]


def test_the_faq_is_whole() -> None:
    table = faq.answers()
    keys = [each["key"] for each in table]
    assert 40 <= len(table) <= 60 and len(set(keys)) == len(keys)
    assert {each["language"] for each in table} == {"en", "zh"}
    asked = [words for each in table for words in (*each["ask"], each["other"])]
    assert len(set(asked)) == len(asked) > 300
    chinese = np.array([any("\u4e00" <= c <= "\u9fff" for c in each["other"]) for each in table])
    assert (chinese == np.array([each["language"] == "en" for each in table])).all()


def test_the_faq_is_written(tmp_path: Any) -> None:
    faq.write(tmp_path)
    assert {each.name for each in tmp_path.iterdir()} == set(faq.FILES)
    test = (tmp_path / "test.csv").read_text().splitlines()[1:]
    history = (tmp_path / "history.csv").read_text().splitlines()[1:]
    assert len(test) == len(faq.answers()) and not set(test) & set(history)
