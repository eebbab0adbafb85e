"""Our own door, /v1: recommend, explain, similar, events, users, items, seeds, models, health."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response

from m6rec import artifacts, checks, learned
from m6rec.serving import schemas
from m6rec.serving.asks import Ask
from m6rec.serving.drift import drift
from m6rec.serving.live import MICRO
from m6rec.serving.reading import KNOWN, OneOrMany
from m6rec.serving.schemas import (
    AnswerBody,
    ErrorBody,
    EventBody,
    ExplainBody,
    ItemBody,
    ItemKey,
    Key,
    Language,
    RecommendBody,
    UserBody,
)
from m6rec.serving.service import Service
from m6rec.serving.trial import trial

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": text}
    for status, text in {
        400: "The request names something that is not there, or does not fit.",
        401: "No valid API key.",
        403: "The key's scope does not reach.",
        413: "The body is too large.",
        422: "A field is missing, unknown or out of range.",
        429: "Too many requests.",
        503: "The store does not answer.",
    }.items()
}
MISSING: dict[int | str, dict[str, Any]] = {404: {"model": ErrorBody, "description": "Unknown."}}
BROKEN: dict[int | str, dict[str, Any]] = {
    409: {"model": ErrorBody, "description": "The run is broken."}
}
router = APIRouter(prefix="/v1", responses=PROBLEMS, dependencies=[KNOWN])


async def service(request: Request) -> Service:
    """The service of this worker; a coroutine, since FastAPI has a thread run what is none."""
    found: Service = request.app.state.service
    return found


Here = Annotated[Service, Depends(service)]


def as_json(value: Any, status: int = 200) -> Response:
    """Encode plain data."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


@router.post("/recommend", response_model=AnswerBody, tags=["ask"])
async def recommend(body: RecommendBody, here: Here) -> Response:
    """Recommend to a user of the store, to somebody new, or to both at once."""
    return as_json(schemas.answer(await here.recommend(body.request())))


@router.get("/recommend", response_model=AnswerBody, tags=["ask"])
async def recommend_user(
    here: Here,
    user: Key,
    domain: str | None = None,
    filter: Annotated[str | None, Query(max_length=4000)] = None,
    k: Annotated[int, Query(ge=1, le=1000)] = 10,
    page: str = "",
    explain: bool = True,
    language: Language = "en",
) -> Response:
    """The short form of it, for a user of the store."""
    ask = Ask(
        user=user,
        domain=domain or None,
        filter=filter or None,
        k=k,
        page=page,
        explain=explain,
        language=language,
    )
    return as_json(schemas.answer(await here.recommend(ask)))


@router.post("/explain", response_model=list[schemas.WhyBody], tags=["ask"])
async def explain(body: ExplainBody, here: Here) -> Response:
    """Say why items have their scores, with every reason."""
    found = await here.run(here.engine.explain, body.ask(), body.items)
    return as_json(
        [
            {"item": item, "score": each.score, "unexplained": each.unexplained} | schemas.why(each)
            for item, each in zip(body.items, found, strict=True)
        ]
    )


@router.get("/similar", response_model=AnswerBody, tags=["ask"])
async def similar(
    here: Here,
    item: ItemKey,
    domain: str | None = None,
    filter: Annotated[str | None, Query(max_length=4000)] = None,
    k: Annotated[int, Query(ge=1, le=1000)] = 10,
    explain: bool = False,
    language: Language = "en",
) -> Response:
    """What goes with an item, in its own domain or in another."""
    ask = Ask(
        history={item: None},
        domain=domain or None,
        filter=filter or None,
        k=k,
        explain=explain,
        language=language,
    )
    return as_json(schemas.answer(await here.recommend(ask)))


@router.post("/events", response_model=schemas.AddedBody, tags=["events"])
async def add_events(body: OneOrMany[EventBody], here: Here) -> Response:
    """Take in events; once this answers, they are on disk and count in the next list."""
    events = body if isinstance(body, list) else [body]
    now = time.time_ns() // 1000
    keys = await here.run(here.engine.full_keys, [each.item for each in events])
    rows = [each.event(key, now) for each, key in zip(events, keys, strict=True)]
    warnings = await here.run(here.engine.doubts, rows)
    added = await here.add_events(rows)
    return as_json({"added": added, "got": len(rows), "warnings": warnings})


@router.get("/events", response_model=list[schemas.SeenBody], tags=["events"])
async def events(here: Here, user: Key, n: Annotated[int, Query(ge=1, le=1000)] = 100) -> Response:
    """The newest events of a user, newest first."""
    past = await here.run(here.store.history, user, time.time_ns() // 1000, n)
    rows = zip(past.item, past.type, past.value, past.time, strict=True)
    return as_json(
        [
            {"item": i, "type": t, "value": v, "time": moment(at), "title": here.engine.title(i)}
            for i, t, v, at in reversed(list(rows))
        ]
    )


@router.get(
    "/users/{user:path}", response_model=schemas.StoredUser, responses=MISSING, tags=["users"]
)
async def user(user: Key, here: Here) -> Response:
    """What is stored of a user."""
    found = await here.run(here.store.user, user)
    if found is None:
        raise HTTPException(404, f'there is no user "{user}"')
    return as_json({"user": found.key, "attributes": found.attributes})


@router.put("/users/{user:path}", response_model=schemas.StoredUser, tags=["users"])
async def put_user(user: Key, body: UserBody, here: Here) -> Response:
    """Store a user's attributes; they count in the next list."""
    checks.user_attributes(here.engine.fitted.prepared.users, body.attributes, extra=True)
    await here.run(here.store.put_users, [body.stored(user)])
    return as_json({"user": user, "attributes": body.attributes})


@router.delete("/users/{user:path}", response_model=schemas.ErasedBody, tags=["users"])
async def delete_user(user: Key, here: Here) -> Response:
    """Erase every trace of a user from the store; runs names those that still hold the key."""
    erased = await here.run(here.engine.erase, user)
    runs = await here.run(artifacts.holding, here.path.parent, user)
    return as_json({"erased": erased, "runs": runs})


@router.post("/users/{user:path}/merge", response_model=schemas.MergedBody, tags=["users"])
async def merge_user(user: Key, here: Here, into: Key) -> Response:
    """Join two identities: all events of this user become those of ``into``."""
    return as_json({"moved": await here.run(here.engine.merge, user, into)})


@router.get("/items", response_model=list[schemas.FoundItem], tags=["items"])
async def search_items(
    here: Here,
    search: Annotated[str, Query(max_length=200)] = "",
    domain: str | None = None,
    n: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    """Items whose title holds these words, those that begin with them first."""
    return as_json(await here.run(here.engine.search, search, domain or None, n))


@router.get(
    "/items/{item:path}", response_model=schemas.StoredItem, responses=MISSING, tags=["items"]
)
async def item(item: ItemKey, here: Here) -> Response:
    """What is stored of an item."""
    return as_json(await stored_item(item, here))


async def stored_item(item: str, here: Service) -> dict[str, Any]:
    """Return an item as StoredItem documents it; 404 where there is none."""
    (key,) = await here.run(here.engine.full_keys, [item])
    found = await here.run(here.store.item, key)
    if found is None:
        raise HTTPException(404, f'there is no item "{item}"')
    fields = ("title", "text", "attributes", "hidden")
    return {"item": found.key} | {name: getattr(found, name) for name in fields}


@router.put("/items/{item:path}", response_model=schemas.StoredItem, tags=["items"])
async def put_item(item: ItemKey, body: ItemBody, here: Here) -> Response:
    """Store an item ("domain/key") in place of what was there; the next list can have it."""
    (key,) = await here.run(here.engine.full_keys, [item])
    checks.item_attributes(here.engine.fitted.prepared.items, body.attributes)
    await here.run(here.store.put_items, [body.stored(key)])
    return as_json({"item": key, **body.model_dump()})


@router.patch(
    "/items/{item:path}", response_model=schemas.StoredItem, responses=MISSING, tags=["items"]
)
async def patch_item(item: ItemKey, body: ItemBody, here: Here) -> Response:
    """Change an item; fields that are left out stay as they are."""
    (key,) = await here.run(here.engine.full_keys, [item])
    checks.item_attributes(here.engine.fitted.prepared.items, body.attributes)
    changes = body.model_dump(exclude_unset=True)
    await here.run(lambda: here.store.patch_item(key, **changes))
    return as_json(await stored_item(item, here))


@router.delete("/items/{item:path}", response_model=schemas.ErasedBody, tags=["items"])
async def delete_item(item: ItemKey, here: Here) -> Response:
    """Remove an item and its events; no list shows it again."""
    (key,) = await here.run(here.engine.full_keys, [item])
    return as_json({"erased": await here.run(here.store.delete_item, key), "runs": []})


@router.get("/seeds", response_model=schemas.SeedsBody, tags=["items"])
async def seeds(here: Here) -> Response:
    """The items that onboarding shows first: those that were stored, else those of the run."""
    stored = await here.run(here.store.seeds, "item")
    chosen = await here.run(lambda: here.engine.live.seeds) if not stored else {}
    return as_json({"items": stored or [key for keys in chosen.values() for key in keys]})


@router.put("/seeds", response_model=schemas.SeedsBody, tags=["items"])
async def put_seeds(body: schemas.SeedsBody, here: Here) -> Response:
    """Store the items that onboarding shows first, in this order; none: those of the run again."""
    keys = await here.run(here.engine.full_keys, body.items)
    await here.run(here.store.set_seeds, "item", keys)
    return as_json({"items": keys})


@router.get("/models", tags=["models"])
async def models(here: Here) -> Response:
    """The run that answers, with its metrics, λ and ω, and the other runs beside it."""
    live = await here.run(lambda: here.engine.live)
    fitted = live.recommender.fitted
    tables = learned.learned(fitted.model, live.domains)
    return as_json(
        {
            "run": live.name,
            "kind": fitted.model.recipe.kind,
            "made": fitted.manifest.get("made"),
            "domains": live.domains,
            "metrics": fitted.metrics,
            "learned": [
                {"symbol": t.symbol, "heading": t.heading, "text": t.text,
                 "rows": t.frame.to_dicts()}
                for t in tables
            ],
            "runs": await here.run(artifacts.runs, here.path.parent),
        }
    )  # fmt: skip


@router.post(
    "/models/reload", response_model=schemas.ReloadedBody, responses=BROKEN, tags=["models"]
)
async def reload(here: Here, run: Annotated[str, Query(max_length=200)] = "") -> Response:
    """Serve the run that CURRENT names, or another; a broken one is refused, the old one stays."""
    return as_json({"run": await here.run(here.reload, run)})


@router.get("/trial", response_model=schemas.TrialBody, tags=["models"])
async def compare_arms(
    here: Here, hours: Annotated[float, Query(gt=0, le=87_600, description="Of the past.")] = 168
) -> Response:
    """The two runs of `m6rec serve --rival` on live users: hit rates and their difference."""
    since = time.time_ns() // 1000 - int(hours * 3600 * MICRO)
    return as_json(await here.run(trial, here.store, here.engine.runs, since))


@router.get("/drift", response_model=list[schemas.DriftBody], tags=["models"])
async def shifts(here: Here) -> Response:
    """What has shifted since the training or since last week, by domain, with warnings."""
    return as_json(
        await here.run(lambda: drift(here.store, here.engine.live, time.time_ns() // 1000))
    )


@router.get("/health/live", tags=["health"])
async def health_live() -> Response:
    """The process answers."""
    return as_json({"live": True})


@router.get("/health/ready", tags=["health"])
async def health_ready(here: Here) -> Response:
    """The store answers and a run is loaded."""
    live = await here.run(lambda: here.engine.live)  # a StoreError, 503, where it does not answer
    return as_json({"ready": True, "run": live.name})


def moment(time: int) -> str | None:
    """Return microseconds as RFC 3339, None where unknown."""
    if time < 0:
        return None
    return datetime.fromtimestamp(time / MICRO, UTC).isoformat().replace("+00:00", "Z")
