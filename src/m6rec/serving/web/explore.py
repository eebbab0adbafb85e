"""Explore: who asks, what they are recommended in each domain and why; a heart is an event."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse

from m6rec.serving.api_v1 import Here
from m6rec.serving.live import MICRO, Live
from m6rec.serving.service import Service
from m6rec.serving.web import render
from m6rec.serving.web.entry import Form
from m6rec.serving.web.lists import listings, read_keys, shown
from m6rec.serving.web.render import first_of, url
from m6rec.serving.web.texts import speaker
from m6rec.store import Event

DOMAINS = 6  # lists on one page
PEOPLE, TITLES, PAST = 8, 8, 12  # users and titles offered, events shown
Words = Annotated[str, Query(max_length=200)]
Keys = Annotated[list[str], Query(max_length=200, default_factory=list)]
router = APIRouter(include_in_schema=False)


@router.get("/")
async def explore(
    request: Request,
    here: Here,
    liked: Keys,
    user: Annotated[str, Query(max_length=512)] = "",
    domain: str = "",
    also: str = "",
    before: str = "",
    words: Words = "",
) -> Response:
    """The page for a user, for a history, or for somebody new. also: one more that was liked.
    words: of titles to be found, where the browser did not ask for them as they were typed."""
    liked = [*liked, also] if also else liked
    past = read_keys(before)
    return await answer(request, here, user.strip(), liked, domain, past, words=words)


@router.get("/explore/people")
async def people(request: Request, here: Here, user: Words = "") -> Response:
    """Users whose key begins so; without words, some from few events to many."""
    found = await here.run(offered, here, user.strip())
    return render.page(request, "people.html", people=found, prefix=user.strip())


@router.get("/explore/titles")
async def titles(
    request: Request,
    here: Here,
    liked: Keys,
    words: Words = "",
    domain: str = "",
) -> Response:
    """Items whose title holds these words, to be added to a history."""
    found = await titled(here, words)
    return render.page(request, "titles.html", found=found, words=words, liked=liked, domain=domain)


@router.post("/explore/like")
async def like(request: Request, here: Here, fields: Form) -> Response:
    """Store that a user liked an item, as an event that names the list it came from."""
    user, item, domain = (first_of(fields, name) for name in ("user", "item", "domain"))
    if not user or not item:
        raise HTTPException(400)
    live = await here.live()
    key = known(request, live, [item])[0]
    event = Event(
        user=user,
        item=key,
        type=live.liking_in(key.partition("/")[0]),
        time=time.time_ns() // 1000,
        request=first_of(fields, f"request {key.partition('/')[0]}") or None,
    )
    await here.add_events([event])
    if "hx-request" not in request.headers:
        return RedirectResponse(url("/", user=user, domain=domain), 303)
    before = [each for each in read_keys(first_of(fields, "before")) if each != key]
    return await answer(request, here, user, [], domain, before, stored=key)


async def answer(
    request: Request,
    here: Service,
    user: str,
    liked: Sequence[str],
    domain: str,
    before: Sequence[str],
    stored: str = "",
    words: str = "",
) -> Response:
    """Return the page with the lists of whoever asks."""
    tongue, live = render.language(request), await here.live()
    if domain and domain not in live.domains:
        raise HTTPException(404)
    liked = known(request, live, liked)
    domains = [domain] if domain else live.domains[:DOMAINS]
    before = [key for key in before if key not in liked]
    lists = await listings(here, domains, tongue, user=user, liked=liked, before=before)
    past = await here.run(here.store.history, user, int(time.time() * MICRO), PAST)
    page = render.page(
        request,
        "explore.html",
        user=user,
        liked=liked,
        domain=domain,
        domains=live.domains,
        lists=lists,
        more=0 if domain else max(0, len(live.domains) - DOMAINS),
        shown=shown(lists),
        past=list(zip(past.item, past.type, past.value, past.time, strict=True))[::-1],
        stored=stored,
        title=here.engine.title,
        people=[] if user or liked else await here.run(offered, here, ""),
        prefix="",
        words=words,
        found=await titled(here, words),
    )
    page.headers["HX-Push-Url"] = url("/", user=user, liked=liked, domain=domain)
    return page


async def titled(here: Service, words: str) -> list[dict[str, str]]:
    """Return items whose title holds these words; none without words."""
    return await here.run(here.engine.search, words, None, TITLES) if words.strip() else []


def known(request: Request, live: Live, items: Sequence[str]) -> list[str]:
    """Return the keys of items, each once; a page of status 404 where one is not known."""
    found = list(dict.fromkeys(items))
    for item in found:
        if item not in live.recommender.dataset.items:
            raise HTTPException(404, speaker(render.language(request))("no item", key=item))
    return found


def offered(here: Service, words: str) -> list[tuple[str, int]]:
    """Return users of the store and how many events the run has of them."""
    live = here.engine.live
    data, count = live.recommender.dataset, live.user_events
    if words:
        keys = data.users.keys.filter(data.users.keys.str.starts_with(words)).head(PEOPLE).to_list()
        keys = list(dict.fromkeys([words, *keys]))
    else:
        order = np.argsort(count, kind="stable")
        places = np.linspace(0.02, 0.98, PEOPLE) * max(0, data.n_users - 1)
        keys = data.users.decode(order[np.unique(places.astype(int))]) if data.n_users else []
    there = [key for key in keys if here.store.user(key) is not None]
    codes = data.users.encode(there)
    return [(k, int(count[c]) if c >= 0 else 0) for k, c in zip(there, codes, strict=True)]
