"""Questions to the service: what the engine ranks, dressed as answers; and what helped, stored."""

from __future__ import annotations

import time

from m6rec import config
from m6rec.errors import QueryError
from m6rec.experiment import DraftConfig
from m6rec.serving.asks import Answer, Ask
from m6rec.serving.engine import FIRST
from m6rec.serving.hearing import columns
from m6rec.serving.service import Service
from m6rec.store import Event, User
from m6rec.support.answers import Candidate, Reply, as_user, reads, reply
from m6rec.support.draft import Draft, draft


def answers(here: Service) -> bool:
    """Whether the run that serves takes in questions that were answered."""
    return bool(columns(here.engine.live.recommender.fitted))


async def answer(here: Service, question: str, ask: Ask) -> tuple[Answer, Reply]:
    """Rank and dress answers for a request that has the question as its text."""
    if not question.strip():
        raise QueryError("ask a question in words")
    if not reads(here.engine.fitted.model):
        raise QueryError(
            'the run that serves reads no words: it needs a part such as kind = "text"; '
            "see docs/scenarios/support.md"
        )
    found = await here.recommend(ask)
    candidates = [Candidate(each.item, each.score, str(each.why or "")) for each in found.items]

    def dressed() -> Reply:
        recommender = here.engine.live_of(found.arm or FIRST).recommender
        known = [c for c in candidates if c.item in recommender.dataset.items]
        return reply(recommender, question, known, found.confidence)

    return found, await here.run(dressed)


async def drafted(here: Service, said: Reply, language: str) -> Draft | None:
    """A draft by the language model of the run's TOML; None where none is named, or fails."""
    table = here.engine.live.recommender.fitted.config.get("serve", {}).get("draft", {})
    wanted = config.from_table(DraftConfig, table, "serve.draft")
    if not wanted.endpoint or said.escalate:
        return None
    texts = [f"{each.title}. {each.text}" for each in said.answers]
    return await here.run(draft, wanted, said.question, texts, language)


async def learned(
    here: Service, question: str, item: str, helped: bool, user: str | None, request: str | None
) -> None:
    """Store that an answer helped, or did not: the question becomes a row of the matrix, which
    counts in the very next answer; and an event of the user, if it is known who asked."""
    live = await here.live()
    names = columns(live.recommender.fitted)
    if not names:
        raise QueryError(
            "the run that serves takes in no questions: it needs words of users and a part of "
            'kind = "questions"; see docs/scenarios/support.md'
        )
    if not question.strip():
        raise QueryError("say which question was answered")
    if not helped and live.disliking is None:
        raise QueryError('the run knows no event type of sign = "negative", such as "useless"')
    kind = live.liking if helped else live.disliking or ""
    (item,) = await here.run(here.engine.full_keys, [item])
    if item not in live.recommender.dataset.items:
        raise QueryError(f'there is no answer "{item}"')
    key, words = as_user(question)
    now = time.time_ns() // 1000
    events = [Event(user=key, item=item, type=kind, time=now, request=request)]
    if user:
        events.append(Event(user=user, item=item, type=kind, time=now, request=request))
    await here.add_events(events)
    await here.run(here.store.put_users, [User(key=key, attributes={names[0]: words})])
