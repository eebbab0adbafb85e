"""What is asked of the engine, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from m6rec.explanation import Explanation
from m6rec.store import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Boost:
    """Moves the items that a filter lets through by so many deviations of the scores."""

    filter: str
    by: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request for recommendations.

    user: key; their events in the store are their history. history: items (key or title →
    rating or weight, None = liked) that count as events of this moment. events: that count as if
    they were stored; those of unknown items are left out. attributes: of somebody new, or in
    place of the stored ones. text: a question, a search, a profile.
    domain: only items of it. categories: only items in all of them, each a domain or a category
    of stored items. filter: an expression over item attributes. boosts: see Boost.
    exclude: items left out. seen: whether items of the history may come again.
    k: how many, after the first ``offset``. page: the token that the page before gave.
    diversity: 0 … 1. explore: share of random items; both as the run's ``[rank]`` says where None.
    explain: whether reasons come with the
    answer, in ``language``.
    """

    user: str | None = None
    history: Mapping[str, float | None] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    attributes: Mapping[str, Any] | None = None
    text: str | None = None
    domain: str | None = None
    categories: tuple[str, ...] = ()
    filter: str | None = None
    boosts: tuple[Boost, ...] = ()
    exclude: tuple[str, ...] = ()
    seen: bool = False
    k: int = 10
    offset: int = 0
    page: str = ""
    diversity: float | None = None
    explore: float | None = None
    explain: bool = True
    language: str = "en"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """One item of an answer. explored: drawn at random, not by its score."""

    item: str
    domain: str
    title: str
    score: float
    explored: bool = False
    why: Explanation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """request: its id, to be sent back with the events that follow. run: the name of the run; arm:
    of two that are compared, which.

    parts: by domain of the items, each part's kind and its λ; empty where the model has none.
    history: how many of the asker's events counted. page: token of the next page, "" at the end.
    confidence: chance that the first item is wanted; None where the run has not learned it.
    reasons: makes those of the items, where they are asked for; see ``explained``.
    """

    request: str
    run: str
    arm: str = ""
    user: str | None
    history: int
    items: tuple[Ranked, ...]
    parts: Mapping[str, Mapping[str, float]]
    page: str
    confidence: float | None = None
    reasons: Callable[[], Sequence[Explanation]] | None = None

    def explained(self) -> Answer:
        """Return this with its reasons; of a long list they take longer than the list."""
        if self.reasons is None:
            return self
        made = zip(self.items, self.reasons(), strict=True)
        items = tuple(replace(item, why=why) for item, why in made)
        return replace(self, items=items, reasons=None)
