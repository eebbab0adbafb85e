"""Lists as the pages show them: one for each domain, and what moved since the lists before."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from m6rec.serving.asks import Answer, Ask, Ranked
from m6rec.serving.service import Service

LONG = 8  # items of a list


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An item of a list. up: places that it rose, below 0 = fell, None = it was not there."""

    ranked: Ranked
    up: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The list of one domain."""

    domain: str
    answer: Answer
    rows: tuple[Row, ...]

    @property
    def weights(self) -> Mapping[str, float]:
        """λ by part; empty where the model has no parts."""
        return self.answer.parts.get(self.domain, {})


async def listings(
    service: Service,
    domains: Sequence[str],
    language: str,
    *,
    user: str = "",
    liked: Sequence[str] = (),
    before: Sequence[str] = (),
    explain: bool = True,
    k: int = LONG,
) -> list[Listing]:
    """Return what is recommended in each domain to a user, else after a history.

    before: keys that the lists before showed, in their order; nothing moved where there are none.
    """
    asks = [
        Ask(
            user=user or None,
            history={} if user else dict.fromkeys(liked),
            domain=domain, k=k, explain=explain, language=language,
        )
        for domain in domains
    ]  # fmt: skip
    answers = await asyncio.gather(*(service.recommend(ask) for ask in asks))
    return [
        Listing(domain=domain, answer=answer, rows=_rows(domain, answer, before))
        for domain, answer in zip(domains, answers, strict=True)
    ]


def shown(lists: Sequence[Listing]) -> list[str]:
    """Return the keys of all lists, for ``before`` of the next."""
    return [row.ranked.item for listing in lists for row in listing.rows]


def read_keys(text: str) -> list[str]:
    """Return the keys that a page sent back; none where it is not a list of them."""
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return []
    return [key for key in found if isinstance(key, str)] if isinstance(found, list) else []


def _rows(domain: str, answer: Answer, before: Sequence[str]) -> tuple[Row, ...]:
    old = [key for key in before if key.partition("/")[0] == domain]
    place = {key: i for i, key in enumerate(old)}
    return tuple(
        Row(ranked=each, up=place[each.item] - i if each.item in place else None if old else 0)
        for i, each in enumerate(answer.items)
    )
