"""What the store holds, as values: events, users, items, recommendations, API keys, alerts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["user", "item"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What a user did with an item ("domain/key").

    value: rating, count or amount; None = one plain event. time: µs since 1970, UTC.
    key: idempotency key: a second event with it changes nothing.
    request: id of the recommendation that it answers. id: place in the log, given by the store.
    """

    user: str
    item: str
    type: str
    value: float | None = None
    time: int
    key: str | None = None
    request: str | None = None
    comment: str = ""
    id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user. rev: of their latest change, given by the store; 0 = as imported from a run."""

    key: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    comment: str = ""
    rev: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An item. key: "domain/key". time: µs since 1970, UTC. rev: as of ``User``."""

    key: str
    title: str = ""
    text: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    categories: tuple[str, ...] = ()
    hidden: bool = False
    time: int | None = None
    comment: str = ""
    rev: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """One item of one recommendation that was given. user: "" = nobody that is known. run: its
    model; arm: of an A/B test."""

    request: str
    user: str
    item: str
    position: int
    time: int
    run: str
    explored: bool = False
    arm: str = ""
    score: float | None = None


@dataclass(frozen=True, slots=True)
class History:
    """A user's events as columns, oldest first."""

    item: list[str]
    type: list[str]
    value: list[float | None]
    time: list[int]

    def __len__(self) -> int:
        return len(self.item)


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """All events of one type, user and item as one row.

    value: their sum, where a plain event counts 1. comment: of the latest one.
    time, first: of the latest and of the first one.
    """

    type: str
    user: str
    item: str
    value: float
    time: int
    first: int
    comment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """An API key, known by its hash only. created, revoked: µs since 1970, UTC."""

    hash: str
    name: str
    scope: str
    created: int
    revoked: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hits:
    """What became of the recommendations given in one domain under one arm.

    given: rows. answered: event type → rows with an event of it by their request and item.
    """

    domain: str
    arm: str
    given: int
    answered: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert of the opinion monitor. Times are unix seconds.

    key: what makes it this alert: the same rule, entity and time give the same key. value: what
    the rule measured. details: JSON: what drove it. acknowledged: when a person had seen it.
    """

    key: str
    entity: str
    rule: str
    severity: str
    time: int
    value: float
    text: str
    details: Mapping[str, Any] = field(default_factory=dict)
    acknowledged: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An alert that is to be told to a sink. attempts: with this one."""

    alert: Alert
    sink: str
    attempts: int
