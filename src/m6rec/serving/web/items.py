"""Items: search, one in detail, and what goes with it in each domain."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from starlette.exceptions import HTTPException

from m6rec.serving.api_v1 import Here
from m6rec.serving.service import Service
from m6rec.serving.web import render
from m6rec.serving.web.explore import DOMAINS, Words
from m6rec.serving.web.lists import listings
from m6rec.serving.web.texts import speaker

FOUND = 50  # items of a search
EVENTS = 8  # newest events of an item
router = APIRouter(include_in_schema=False)


@router.get("/items")
async def items(
    request: Request,
    here: Here,
    words: Words = "",
    domain: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """Items whose title holds these words; without words, those with most events."""
    live = await here.live()
    if domain and domain not in live.domains:
        raise HTTPException(404)
    found = await here.run(_found, here, words.strip(), domain or None)
    return render.page(
        request,
        "items.html",
        words=words,
        domain=domain,
        domains=live.domains,
        found=found,
        n=live.recommender.dataset.n_items,
        full=len(found) == FOUND,
    )


@router.get("/items/{item:path}")
async def item(request: Request, here: Here, item: str) -> Response:
    """What is stored of an item, and its neighbours."""
    live = await here.live()
    stored = await here.run(here.store.item, item)
    if stored is None:
        raise HTTPException(404, speaker(render.language(request))("no item", key=item))
    data = live.recommender.dataset
    code = data.items.code(item)
    lists, count = [], 0
    if code >= 0:
        domains = live.domains[:DOMAINS]
        lists = await listings(here, domains, "en", liked=[item], explain=False)
        count = int(live.item_events[code])
    events, _ = await here.run(here.store.events, items=[item], n=EVENTS)
    return render.page(
        request,
        "item.html",
        item=stored,
        title=stored.title or stored.key,
        domain=item.partition("/")[0],
        attributes={name: _told(value) for name, value in stored.attributes.items()},
        lists=lists,
        count=count,
        events=events,
    )


def _found(here: Service, words: str, domain: str | None) -> list[dict[str, Any]]:
    live = here.engine.live
    data, count = live.recommender.dataset, live.item_events
    if words:
        rows = here.engine.search(words, domain, FOUND)
        codes = data.items.encode([row["item"] for row in rows])
    else:
        best = np.where(live.allowed(domain, None), count, -1)
        codes = np.argsort(-best, kind="stable")[:FOUND].astype(np.int32)
        codes = codes[best[codes] >= 0]
    keys = data.items.decode(codes)
    return [
        {
            "item": key,
            "domain": key.partition("/")[0],
            "title": live.title(c),
            "events": int(count[c]),
        }
        for key, c in zip(keys, codes.tolist(), strict=True)
    ]


def _told(value: Any) -> str:
    """An attribute as text: several values with commas between, a whole number without ".0"."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_told, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
