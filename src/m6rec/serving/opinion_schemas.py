"""The bodies of /v1/opinion: what comes in is checked, what goes out is documented."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field

from m6rec.opinion.notice import NOTICE
from m6rec.serving.schemas import NO_NUL, Body, Key, micro
from m6rec.store import Alert

Sentiment = Literal["negative", "neutral", "positive"]
LATEST = 90_000_000_000  # seconds; above that, files mean milliseconds


def seconds(time: datetime) -> int:
    """Return unix seconds; a time without a zone is UTC."""
    return micro(time) // 1_000_000


def _usual(time: datetime) -> datetime:
    if not 0 <= seconds(time) <= LATEST:
        raise ValueError("must be within the years 1970 to 4800")
    return time


Moment = Annotated[datetime, AfterValidator(_usual)]


class DocumentBody(Body):
    """News, a post or a report."""

    id: Key | None = Field(
        None, examples=["wire-20240102-17"],
        description="Sent twice with the same id, it counts once. Left out: a hash of the rest.",
    )  # fmt: skip
    time: Moment = Field(examples=["2024-01-02T10:00:00Z"], description="When it was published.")
    source: Annotated[str, Field(min_length=1, max_length=512, pattern=NO_NUL)] = "api"
    title: Annotated[str, Field(max_length=2000, pattern=NO_NUL)] = Field(
        "", examples=["Nokia profit rose"]
    )
    text: Annotated[str, Field(max_length=100_000, pattern=NO_NUL)] = ""
    url: Annotated[str, Field(max_length=2000, pattern=NO_NUL)] = ""


class PriceBody(Body):
    """A price of an entity, and what was traded."""

    entity: Key = Field(examples=["Nokia"])
    time: Moment = Field(examples=["2024-01-02T00:00:00Z"])
    close: float = Field(ge=0, le=1e12, examples=[3.21])
    volume: float = Field(0.0, ge=0, le=1e15)


class LabelBody(Body):
    """What a person says of a document, from which the reader learns."""

    document: Key
    entity: Annotated[str, Field(max_length=512, pattern=NO_NUL)] = Field(
        "", examples=["Nokia"], description="Left out: the document as a whole."
    )
    sentiment: Sentiment
    user: Key | None = None


class ReadBody(Body):
    """That a user has read a document."""

    user: Key
    document: Key


class WatchBody(Body):
    """The entities that a user watches, in their order."""

    entities: list[Key] = Field(max_length=1000, examples=[["Nokia", "SAP"]])


class AcknowledgeBody(Body):
    """Who has seen an alert."""

    user: Key


class Told(BaseModel):
    """notice: this is information, not advice."""

    notice: str = Field(examples=[NOTICE["en"]])


class AddedTold(Told):
    """added: how many were new. got: how many were sent."""

    added: int
    got: int


class EntityOut(BaseModel):
    """opinion: of the newest window with any, −1 to 1. documents: of the last 7 windows. time:
    end of the newest window, unix seconds; null: no window yet. changed: when the newest change
    point was known."""

    entity: str
    time: int | None
    opinion: float | None
    documents: int
    changed: int | None
    forecast: dict[str, Any] | None


class EntitiesOut(Told):
    """All entities of the table of aliases."""

    entities: list[EntityOut]


class SeriesOut(Told):
    """times: ends of the windows, unix seconds. values: measure → its values, null = none.
    changes: time, known, before, after. forecast: measure, time, last, forecast, low, high."""

    entity: str
    made: int
    times: list[int]
    values: dict[str, list[float | None]]
    changes: list[dict[str, Any]]
    forecast: list[dict[str, Any]]


class DocumentOut(BaseModel):
    """time: unix seconds. entities: what is said of each, −1 to 1. because: why it stands here."""

    document: str
    time: int
    source: str
    title: str
    text: str
    language: str
    url: str
    entities: dict[str, float]
    because: str


class DocumentsOut(Told):
    """Documents, the best first for a user, else the newest."""

    documents: list[DocumentOut]


class AlertOut(BaseModel):
    """time, acknowledged: unix seconds. details: what drove it, and where to look."""

    key: str
    entity: str
    rule: str
    severity: str
    time: int
    value: float
    text: str
    details: dict[str, Any]
    acknowledged: int | None
    because: str


class AlertsOut(Told):
    """Alerts, the best first for a user, else the newest."""

    alerts: list[AlertOut]


class WatchOut(Told):
    """A user's watch list."""

    user: str
    entities: list[str]


class StatusOut(Told):
    """unread: documents that came in and were not read yet. waiting: deliveries that are still to
    be made. lexicon: words of the list that reads without labels, and its licence."""

    documents: int
    unread: int
    readings: int
    prices: int
    labels: int
    waiting: int
    lexicon: str


def alert(found: Alert, because: str, language: str) -> dict[str, Any]:
    """Return an alert as plain data, in a language."""
    details = dict(found.details)
    text = details.get("text_zh", found.text) if language == "zh" else found.text
    return {
        "key": found.key,
        "entity": found.entity,
        "rule": found.rule,
        "severity": found.severity,
        "time": found.time,
        "value": found.value,
        "text": text,
        "details": details,
        "acknowledged": found.acknowledged,
        "because": because,
    }
