"""What a customer, or who helps them, is shown: ranked answers with their best passages."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from m6rec.errors import QueryError
from m6rec.explanation import explain
from m6rec.models.base import Model, Reads
from m6rec.models.confident import ConfidentModel
from m6rec.models.questions import QuestionsModel
from m6rec.models.text import TextModel
from m6rec.rank import rank
from m6rec.recommender import Recommender
from m6rec.support.passages import best_passage
from m6rec.support.redaction import redact
from m6rec.text import FittedText
from m6rec.wording import wording

RELATED = 5  # past questions that are shown
PREFIX = "question:"  # of the key of a user that is a question


class Candidate(NamedTuple):
    """An item that was ranked, its score and why."""

    item: str
    score: float
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One answer. passage: the part of ``text`` that is closest to the question. about: its
    attributes, such as category and product."""

    item: str
    domain: str
    title: str
    text: str
    passage: str
    about: dict[str, Any]
    score: float
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """answers: best first. confidence: chance that the first one is right, None where the run has
    not learned it. escalate: a person should answer, since it is below ``threshold``, or nothing
    was found. related: past questions, nearest first."""

    question: str
    answers: tuple[Found, ...]
    confidence: float | None
    threshold: float
    escalate: bool
    related: tuple[str, ...]


def ask(
    recommender: Recommender,
    question: str,
    *,
    user: str | None = None,
    domain: str | None = None,
    filter: str | None = None,
    k: int = 3,
    language: str = "en",
) -> Reply:
    """Answer a question by a run; QueryError where there are no words in it, or no such domain."""
    wording(language)
    if not question.strip():
        raise QueryError("ask a question in words")
    allowed = recommender.allowed(domain, filter)
    query = recommender.query([user], text=question)
    model = recommender.model
    scores = np.where(allowed, model.score(query), np.float32(np.nan))
    lists = rank(scores, k, allowed=allowed)
    codes = lists.items[0][lists.items[0] >= 0]
    why = explain(model, query, codes[None], recommender.title, language)[0]
    keys = recommender.dataset.items.decode(codes)
    found = [
        Candidate(key, float(score), str(reason))
        for key, score, reason in zip(keys, lists.scores[0], why, strict=False)
    ]
    sure = float(model.confidence(scores)[0]) if isinstance(model, ConfidentModel) else None
    return reply(recommender, question, found, None if sure is None or np.isnan(sure) else sure)


def reply(
    recommender: Recommender, question: str, found: Sequence[Candidate], confidence: float | None
) -> Reply:
    """Return what is said of these items, ranked for a question."""
    model = recommender.model
    least = model.threshold if isinstance(model, ConfidentModel) else 0.0
    encoder = encoder_of(model)
    return Reply(
        question=question,
        answers=tuple(_shown(recommender, encoder, question, each) for each in found),
        confidence=confidence,
        threshold=least,
        escalate=not found or _unsure(model, confidence),
        related=related(recommender, question),
    )


def _unsure(model: Model, confidence: float | None) -> bool:
    """Whether a model that is to say how sure it is does not know, or is not sure enough."""
    if not isinstance(model, ConfidentModel):
        return False
    return confidence is None or confidence < model.threshold


def related(recommender: Recommender, question: str, k: int = RELATED) -> tuple[str, ...]:
    """Return up to k past questions that are nearest to this one."""
    query = recommender.query([None], text=question)
    for part in parts(recommender.model):
        if isinstance(part, QuestionsModel):
            return tuple(text for text, _ in part.related(query, k)[0])
    return ()


def encoder_of(model: Model) -> FittedText | None:
    """Return what the first part that reads words reads them with."""
    for part in parts(model):
        if isinstance(part, TextModel):
            return part.encoder
        reader = getattr(part, "reader", None)  # of "questions" and "intent"
        if isinstance(reader, TextModel):
            return reader.encoder
    return None


def parts(model: Model) -> Iterator[Model]:
    """Yield a model and all that it is made of."""
    yield model
    for part in getattr(model, "parts", ()):
        yield from parts(part)


def reads(model: Model) -> bool:
    """Whether a model, or one of those that it is made of, reads words."""
    return any(isinstance(part, Reads) and not hasattr(part, "parts") for part in parts(model))


def as_user(question: str) -> tuple[str, str]:
    """Return the key of the user that a question is, and its words as they are kept: the same for
    the same words, without personal data."""
    words = redact(" ".join(question.split())).text
    digest = hashlib.sha256(words.casefold().rstrip("?？!！.。 ").encode()).hexdigest()
    return f"{PREFIX}{digest[:24]}", words


def _shown(
    recommender: Recommender, encoder: FittedText | None, question: str, found: Candidate
) -> Found:
    data = recommender.dataset
    code = data.items.code(found.item)
    title = recommender.title(code)
    text = data.item_text[code] if data.item_text is not None else ""
    text = text.removeprefix(title).strip() or text
    row = recommender.fitted.items.row(code, named=True)
    hidden = ("key", "domain", "title", "hidden")
    return Found(
        item=found.item,
        domain=data.domains[int(data.item_domain[code])].name,
        title=title,
        text=text,
        passage=text if encoder is None else best_passage(encoder, question, text),
        about={n: v for n, v in row.items() if n not in hidden and v is not None},
        score=found.score,
        because=found.because,
    )
