"""A draft of an answer by a language model, from the answers that were found and nothing else.

Any service with OpenAI's /chat/completions will do. It is never needed: whatever goes wrong, there
is no draft, and the passage answers.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import re
import threading
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from m6rec.experiment import DraftConfig
from m6rec.support.redaction import redact

KEY = "M6REC_DRAFT_KEY"
LARGEST = 1_000_000  # bytes of a reply
CITED = re.compile(r"\[(\d{1,3})\]")
ORDER = {
    "en": "You answer a customer. Use only the numbered answers below, in at most four sentences "
    "of English. After each sentence name the answer it is from, as [1]. If they do not answer the "
    "question, reply with NONE.",
    "zh": "你在回答一位顾客。只能使用下面编号的答案，用中文，不超过四句话。"
    "每句话后面注明出自哪一条，写成[1]。如果这些答案都回答不了问题，就只回复 NONE。",
}

log = logging.getLogger("m6rec")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """text: with citations such as [1]. cites: places of the answers cited, from 0. redacted: what
    kinds of personal data were taken out before the question left."""

    text: str
    cites: tuple[int, ...]
    redacted: tuple[str, ...] = ()


def draft(
    config: DraftConfig, question: str, answers: Sequence[str], language: str = "en"
) -> Draft | None:
    """Return a draft that cites the answers, or None: nobody is configured, the time is up, the
    reply makes no sense, or it cites nothing, or something that was not given."""
    given = list(answers[: config.answers])
    if not config.endpoint or not given or not question.strip():
        return None
    clean, found = redact(question)
    listed = "\n".join(f"[{i}] {redact(text).text}" for i, text in enumerate(given, start=1))
    body = {
        "model": config.model,
        "messages": [
            {"role": "system", "content": ORDER[language]},
            {"role": "user", "content": f"{listed}\n\n{clean}"},
        ],
        "max_tokens": config.tokens,
        "temperature": 0,
    }
    text = _within(config, body)
    cites = tuple(dict.fromkeys(int(n) - 1 for n in CITED.findall(text)))
    if not cites or not all(0 <= n < len(given) for n in cites):
        if text:
            log.warning("the draft was left out: it cites no answer that it was given")
        return None
    return Draft(text=text, cites=cites, redacted=found)


def _within(config: DraftConfig, body: dict[str, Any]) -> str:
    """The text of the reply, "" where none comes in time; a service that sends byte by byte does
    not hold the answer up, since the wait is for a thread."""
    found: list[str] = []

    def ask() -> None:
        try:
            found.append(_reply(config, body))
        except (OSError, ValueError, LookupError, TypeError, http.client.HTTPException) as error:
            log.warning("no draft: %s", type(error).__name__)

    thread = threading.Thread(target=ask, name="draft", daemon=True)
    thread.start()
    thread.join(config.timeout)
    return found[0].strip() if found else ""


def _reply(config: DraftConfig, body: dict[str, Any]) -> str:
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get(KEY):
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(
        f"{config.endpoint.rstrip('/')}/chat/completions", json.dumps(body).encode(), headers
    )
    with urllib.request.urlopen(request, timeout=config.timeout) as answer:
        table = json.loads(answer.read(LARGEST))
    text = table["choices"][0]["message"]["content"]
    return text if isinstance(text, str) else ""
