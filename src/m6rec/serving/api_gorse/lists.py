"""Lists of /api: recommended, similar, popular and latest items, sessions, users alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import unquote

import numpy as np
from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response

from m6rec.arrays import Array, Ids
from m6rec.serving.api_gorse import ids, times
from m6rec.serving.api_gorse.bodies import Score, SessionBody
from m6rec.serving.api_gorse.feedback import now
from m6rec.serving.api_gorse.wire import CLASH, MISSING, PathId
from m6rec.serving.api_v1 import Here, as_json
from m6rec.serving.asks import Answer, Ask
from m6rec.serving.engine import MOST
from m6rec.serving.live import MICRO, NEVER, Live
from m6rec.serving.service import Service
from m6rec.store import Event

router = APIRouter(tags=["gorse: lists"])
RECENT = 20_000  # newest events, by which items are popular
UNSET = -62_135_596_800.0  # the second of times.UNSET
Count = Annotated[int, Query(ge=0)]


@dataclass(frozen=True, slots=True)
class Wanted:
    """n items after ``offset``, of all of these categories. reader: a user whose items are left
    out, "" = none are."""

    n: int
    offset: int
    categories: tuple[str, ...]
    reader: str


def wanted(
    request: Request,
    n: Count = 10,
    offset: Count = 0,
    category: Annotated[list[str] | None, Query(description="Items of all of them.")] = None,
    reader: Annotated[
        str, Query(alias="user-id", description="Items that this user has feedback on are left out")
    ] = "",
) -> Wanted:
    """Read what is asked for; a category may also stand at the end of the path."""
    named = [*(category or ()), unquote(request.path_params.get("within", ""))]
    return Wanted(min(n, MOST), offset, tuple(name for name in named if name), reader)


Asked = Annotated[Wanted, Depends(wanted)]


@router.get("/recommend/{user}", response_model=list[str] | list[Score])
@router.get("/recommend/{user}/{within}", include_in_schema=False)
async def recommend(
    user: PathId,
    here: Here,
    asked: Asked,
    write_back_type: Annotated[str, Query(alias="write-back-type", max_length=100)] = "",
    write_back_delay: Annotated[str, Query(alias="write-back-delay", examples=["1h30m"])] = "",
    version: Annotated[str, Header(alias="X-API-Version", description="2: with scores")] = "",
) -> Response:
    """Items for a user, known or not; written back as feedback if so asked."""
    delay = times.duration(write_back_delay)
    found = await _ranked(here, asked, user=user)
    if write_back_type:
        seen = [
            # Of value 0: it was seen, so it does not come again, and nobody knows if it pleased.
            Event(
                user=user,
                item=key,
                type=write_back_type,
                value=here.engine.seen(key),
                time=now() + delay,
            )
            for key, _ in found
        ]
        await here.add_events(seen)
    if version == "2":
        return await here.run(_scores, here, found)
    return as_json(await here.run(ids.shown, here, [key for key, _ in found]))


@router.get("/collaborative-filtering/{user}", response_model=list[Score])
@router.get("/collaborative-filtering/{user}/{within}", include_in_schema=False)
async def collaborative(user: PathId, here: Here, asked: Asked) -> Response:
    """Items for a user with scores; the run's model is all that there is, so of that."""
    return await here.run(_scores, here, await _ranked(here, asked, user=user))


@router.post("/session/recommend", response_model=list[Score], responses=CLASH)
@router.post("/session/recommend/{within}", include_in_schema=False)
async def session(body: list[SessionBody], here: Here, asked: Asked) -> Response:
    """Items for somebody of whom only this feedback is known; nothing of it is stored."""
    keys = await here.run(ids.keys_of, here, [each.item_id for each in body])
    at = now()
    events = [each.event("", keys[each.item_id], at) for each in body if each.item_id in keys]
    return await here.run(_scores, here, await _ranked(here, asked, events=tuple(events)))


@router.get(
    "/item-to-item/{name}/{item:path}",
    response_model=list[Score],
    responses={**MISSING, **CLASH},
)
async def item_to_item(name: str, item: PathId, here: Here, asked: Asked) -> Response:
    """Items that go with an item, whatever the name of the list."""
    return await neighbors(item, here, asked)


@router.get(
    "/item/{item:path}/neighbors", response_model=list[Score], responses={**MISSING, **CLASH}
)
@router.get("/item/{item:path}/neighbors/{within}", include_in_schema=False)
async def neighbors(item: PathId, here: Here, asked: Asked) -> Response:
    """Items that go with an item."""
    key = await here.run(_served, here, item)
    if not key:
        return as_json([])
    return await here.run(_scores, here, await _ranked(here, asked, history={key: None}))


@router.get("/user-to-user/{name}/{user}", response_model=list[Score], responses=MISSING)
def user_to_user(name: str, user: PathId, here: Here, n: Count = 10, offset: Count = 0) -> Response:
    """Users whose histories are like that of a user, whatever the name of the list."""
    return user_neighbors(user, here, n, offset)


@router.get("/user/{user}/neighbors", response_model=list[Score], responses=MISSING)
def user_neighbors(user: PathId, here: Here, n: Count = 10, offset: Count = 0) -> Response:
    """Users whose histories are like that of a user."""
    if here.store.user(user) is None:
        raise HTTPException(404, f'user "{user}" not found')
    found = here.engine.like_minded(user, offset + n)[offset:]
    return as_json([{"Id": key, "Score": score} for key, score in found])


@router.get("/non-personalized/{name}", response_model=list[Score], responses=MISSING)
def non_personalized(name: str, here: Here, asked: Asked) -> Response:
    """A list that is the same for everybody: popular, or latest."""
    lists = {"popular": popular, "latest": latest}
    if name not in lists:
        raise HTTPException(404, f'list "{name}" not found (there are: {", ".join(lists)})')
    return lists[name](here, asked)


@router.get("/popular", response_model=list[Score])
@router.get("/popular/{within}", include_in_schema=False)
def popular(here: Here, asked: Asked) -> Response:
    """Items with the most of the newest events, dislikes left out."""
    live = here.engine.live
    data = live.recommender.dataset
    against = [event.name for event in data.events if event.sign != "positive"]
    counts = here.store.popular(now(), RECENT, without=against)
    codes = data.items.encode(counts)
    return _picked(here, live, asked, codes, np.array(list(counts.values()), np.float64))


@router.get("/latest", response_model=list[Score])
@router.get("/latest/{within}", include_in_schema=False)
def latest(here: Here, asked: Asked) -> Response:
    """Items of the latest time; those without one stand at the end. Score: unix seconds."""
    live = here.engine.live
    codes, time = live.latest
    return _picked(here, live, asked, codes, np.where(time == NEVER, UNSET, time / MICRO))


def _served(here: Service, item: str) -> str:
    """The key of an item; "" where it is stored, but of a domain that the run does not know."""
    key = ids.key_of(here, item)
    if here.store.item(key) is None:
        raise HTTPException(404, f'item "{item}" not found')
    return key if key in here.engine.live.recommender.dataset.items else ""


async def _ranked(
    here: Service, asked: Wanted, user: str | None = None, **others: object
) -> list[tuple[str, float]]:
    """The keys and scores of what the engine recommends."""
    if not asked.n:
        return []
    exclude = await here.run(_known, here, user, asked.reader) if asked.reader else []
    ask = Ask(
        user=user,
        k=asked.n,
        offset=asked.offset,
        categories=asked.categories,
        exclude=tuple(exclude),
        explain=False,
        **others,  # type: ignore[arg-type]
    )
    answer: Answer = await here.recommend(ask)
    return [(each.item, each.score) for each in answer.items]


def _known(here: Service, user: str | None, reader: str) -> list[str]:
    """Keys of a reader's items, as far as the run that answers a user knows them."""
    known = here.engine.live_of(here.engine.arm(user)).recommender.dataset.items
    return [key for key in _read(here, reader) if key in known]


def _read(here: Service, reader: str) -> Iterable[str]:
    """Keys of the items that a user has feedback on, and of those that are withheld from them."""
    history = here.store.history(reader, now()).item
    return dict.fromkeys([*history, *here.engine.withheld(reader)])


def _picked(here: Service, live: Live, asked: Wanted, codes: Ids, scores: Array) -> Response:
    """Of a ranking of all items (-1 unknown) those that are asked for."""
    items = live.recommender.dataset.items
    keep = (codes >= 0) & live.allowed(None, None, asked.categories)[codes]
    if asked.reader:
        keep &= ~np.isin(codes, items.encode(_read(here, asked.reader)))
    part = np.flatnonzero(keep)[asked.offset : asked.offset + asked.n]
    return _scores(here, zip(items.decode(codes[part]), scores[part].tolist(), strict=True))


def _scores(here: Service, found: Iterable[tuple[str, float]]) -> Response:
    rows: Sequence[tuple[str, float]] = list(found)
    names = ids.shown(here, [key for key, _ in rows])
    return as_json([{"Id": id, "Score": score} for id, (_, score) in zip(names, rows, strict=True)])
