"""The bodies of /v1/answer."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from m6rec.serving.asks import Answer
from m6rec.serving.schemas import NO_NUL, Body, ItemKey, Key, Language
from m6rec.support.answers import Reply
from m6rec.support.draft import Draft

Words = Annotated[str, Field(min_length=1, max_length=4000, pattern=NO_NUL)]


class QuestionBody(Body):
    """A question in words."""

    question: Words = Field(examples=["My parcel has not arrived yet"])
    user: Key | None = Field(None, examples=["42"], description="Whose history counts as well.")
    k: int = Field(3, ge=1, le=50)
    domain: str | None = Field(None, max_length=200, description="Only answers of this domain.")
    filter: str | None = Field(None, max_length=4000, examples=["product == 'router'"])
    language: Language = Field("en", description="Of the reasons, and of the draft.")
    draft: bool = Field(True, description="Whether a draft is wanted, where one can be made.")


class FoundBody(BaseModel):
    """An answer. passage: its part that is closest to the question. about: its attributes."""

    item: str
    domain: str
    title: str
    text: str
    passage: str
    about: dict[str, Any]
    score: float
    because: str


class DraftBody(BaseModel):
    """What a language model made of the answers. cites: the items it names as [1], [2] …;
    redacted: kinds of personal data that it was not shown."""

    text: str
    cites: list[str]
    redacted: list[str]


class ReplyBody(BaseModel):
    """confidence: chance that the first answer is right. escalate: a person should answer, since
    confidence is below threshold. related: past questions, nearest first. parts: λ."""

    request: str
    run: str
    question: str
    answers: list[FoundBody]
    confidence: float | None
    threshold: float
    escalate: bool
    related: list[str]
    draft: DraftBody | None
    parts: dict[str, dict[str, float]]


class HelpedBody(Body):
    """Whether an answer helped. request: the id that came with it."""

    question: Words = Field(examples=["My parcel has not arrived yet"])
    item: ItemKey
    helped: bool = True
    user: Key | None = None
    request: Key | None = None


class LearnedBody(BaseModel):
    """learned: it counts from the next answer on."""

    learned: bool


def reply(found: Answer, said: Reply, draft: Draft | None) -> dict[str, Any]:
    """Return plain data, as ReplyBody documents it."""
    names = ("item", "domain", "title", "text", "passage", "about", "score", "because")
    return {
        "request": found.request,
        "run": found.run,
        "question": said.question,
        "answers": [{name: getattr(each, name) for name in names} for each in said.answers],
        "confidence": said.confidence,
        "threshold": said.threshold,
        "escalate": said.escalate,
        "related": said.related,
        "draft": draft
        and {
            "text": draft.text,
            "cites": [said.answers[i].item for i in draft.cites],
            "redacted": draft.redacted,
        },
        "parts": found.parts,
    }
