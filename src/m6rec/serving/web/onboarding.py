"""Onboarding: seeds of each domain to like, the lists that follow, and a user to keep them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import RedirectResponse

from m6rec.serving.api_v1 import Here
from m6rec.serving.live import Live
from m6rec.serving.service import Service
from m6rec.serving.web import render
from m6rec.serving.web.entry import Form
from m6rec.serving.web.explore import DOMAINS, Keys, known
from m6rec.serving.web.lists import listings, read_keys, shown
from m6rec.serving.web.render import first_of, url
from m6rec.store import Event

OFFERED = 12  # seeds of a domain
router = APIRouter(include_in_schema=False)


@router.get("/onboarding")
async def onboarding(
    request: Request,
    here: Here,
    liked: Keys,
    user: Annotated[str, Query(max_length=512)] = "",
    before: str = "",
) -> Response:
    """Seeds to choose from, and the lists after what is chosen."""
    return await chooser(request, here, liked, user, read_keys(before))


@router.post("/onboarding")
async def keep(request: Request, here: Here, fields: Form) -> Response:
    """Store what was chosen as events of a user, and go on to explore."""
    liked, user = fields.get("liked", []), first_of(fields, "user")
    if not user or not liked or len(user) > 512:
        return await chooser(request, here, liked, user, (), wrong=True)
    live, now = await here.live(), time.time_ns() // 1000
    keys = known(request, live, liked)
    events = [
        Event(user=user, item=key, type=live.liking, time=now + i) for i, key in enumerate(keys)
    ]
    await here.add_events(events)
    return RedirectResponse(url("/", user=user), 303)


async def chooser(
    request: Request,
    here: Service,
    liked: Sequence[str],
    user: str,
    before: Sequence[str],
    wrong: bool = False,
) -> Response:
    """Return the page with what is chosen so far."""
    tongue, live = render.language(request), await here.live()
    liked = known(request, live, liked)
    domains = live.domains[:DOMAINS]
    before = [key for key in before if key not in liked]
    lists = await listings(here, domains, tongue, liked=liked, before=before)
    return render.page(
        request,
        "onboarding.html",
        status=422 if wrong else 200,
        seeds=await here.run(offered, here, live, domains),
        lists=lists,
        liked=liked,
        shown=shown(lists),
        user=user or f"guest-{secrets.token_hex(3)}",
        wrong=wrong,
    )


def offered(here: Service, live: Live, domains: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """Return by domain the key and title of its seeds: those of the store, else of the run."""
    stored = [key for key in here.store.seeds("item") if key in live.recommender.dataset.items]
    found = {}
    for domain in domains:
        own = [key for key in stored if key.partition("/")[0] == domain]
        keys = (own or live.seeds[domain])[:OFFERED]
        found[domain] = [(key, here.engine.title(key)) for key in keys]
    return found
