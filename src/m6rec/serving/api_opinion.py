"""The door /v1/opinion: documents and prices in; series, alerts and ranked news out."""

from __future__ import annotations

from typing import Annotated, Any

import polars as pl
from fastapi import APIRouter, HTTPException, Query, Response

from m6rec.data.opinions import PRICE
from m6rec.opinion.documents import documents_of
from m6rec.opinion.lexicon import LICENCE, SOURCE, lexicon
from m6rec.opinion.notice import NOTICE
from m6rec.serving import opinion_schemas as bodies
from m6rec.serving.api_v1 import MISSING, PROBLEMS, Here, as_json
from m6rec.serving.opinion_schemas import seconds
from m6rec.serving.opinions import desk, keep_items, now
from m6rec.serving.reading import KNOWN, OneOrMany
from m6rec.serving.schemas import NO_NUL, Key, Language

router = APIRouter(
    prefix="/v1/opinion", responses=PROBLEMS | MISSING, tags=["opinion"], dependencies=[KNOWN]
)
Who = Annotated[str, Query(max_length=512, pattern=NO_NUL)]
About = Annotated[str, Query(max_length=512, pattern=NO_NUL)]
Many = Annotated[int, Query(ge=1, le=400)]
MOST = 5_000  # documents or prices of one request


def told(language: Language = "en", **values: Any) -> Response:
    """Return plain data with the notice that it is information, not advice."""
    return as_json({"notice": NOTICE[language], **values})


@router.post("/documents", response_model=bodies.AddedTold)
async def add_documents(body: OneOrMany[bodies.DocumentBody], here: Here) -> Response:
    """Take in news and posts; once this answers, they are on disk. They are read within seconds."""
    sent = body if isinstance(body, list) else [body]
    desk(here)
    _few(sent)
    rows = [each.model_dump() | {"time": seconds(each.time)} for each in sent]
    frame, problems = await here.run(documents_of, list(enumerate(rows, 1)), where="documents")
    wrong = [problem for problem in problems if "id of a row before" not in problem.reason]
    if wrong:
        raise HTTPException(422, f"document {wrong[0].row}: {wrong[0].reason}; nothing was kept")
    added = await here.run(here.store.opinions.add_documents, frame)
    await here.run(keep_items, here, frame.select("document", "time", "title", "text").rows())
    _wake(here)
    return told(added=added, got=len(sent))


@router.post("/prices", response_model=bodies.AddedTold)
async def add_prices(body: OneOrMany[bodies.PriceBody], here: Here) -> Response:
    """Take in prices; of an entity and time the last one counts. On disk once this answers."""
    sent = body if isinstance(body, list) else [body]
    desk(here)
    _few(sent)
    rows = [(p.entity, seconds(p.time), p.close, p.volume) for p in sent]
    frame = pl.DataFrame(rows, schema=PRICE, orient="row")
    added = await here.run(here.store.opinions.add_prices, frame)
    _wake(here)
    return told(added=added, got=len(sent))


@router.get("/entities", response_model=bodies.EntitiesOut)
async def entities(here: Here, language: Language = "en") -> Response:
    """What is said of each entity now, and what comes next."""
    watched = desk(here)
    found = await here.run(here.store.opinions.summaries)
    names = sorted({*watched.entities.names, *found})
    fields = ("time", "opinion", "changed", "forecast")
    rows = [
        {"entity": name, "documents": found.get(name, {}).get("documents", 0)}
        | {field: found.get(name, {}).get(field) for field in fields}
        for name in names
    ]
    return told(language, entities=rows)


@router.get("/series", response_model=bodies.SeriesOut)
async def series(
    here: Here, entity: Key, windows: Many = 120, language: Language = "en"
) -> Response:
    """The newest windows of an entity, its change points, and the forecast of the next window."""
    desk(here)
    found = await here.run(here.store.opinions.report, entity)
    if found is None:
        raise HTTPException(404, f'nothing is known of "{entity}" yet')
    made, body = found
    values = {name: column[-windows:] for name, column in body["values"].items()}
    return told(
        language, entity=entity, made=made, times=body["times"][-windows:], values=values,
        changes=body["changes"], forecast=body["forecast"],
    )  # fmt: skip


@router.get("/documents", response_model=bodies.DocumentsOut)
async def documents(
    here: Here, user: Who = "", entity: About = "", n: Many = 20, language: Language = "en"
) -> Response:
    """The newest documents; for a user those first that the recommender puts first."""
    rows = await here.run(desk(here).news, user, entity or None, n, language)
    return told(language, documents=[row | {"because": why} for row, why in rows])


@router.get("/alerts", response_model=bodies.AlertsOut)
async def alerts(
    here: Here, user: Who = "", entity: About = "",
    open: Annotated[bool, Query(description="Only those that nobody has acknowledged.")] = False,
    n: Many = 20, language: Language = "en",
) -> Response:  # fmt: skip
    """The newest alerts; for a user those first that the recommender puts first."""
    found = await here.run(desk(here).alerts, user, entity or None, open, n, language)
    return told(language, alerts=[bodies.alert(a, why, language) for a, why in found])


@router.post("/alerts/{key}/acknowledge", response_model=bodies.AlertsOut)
async def acknowledge(key: Key, body: bodies.AcknowledgeBody, here: Here) -> Response:
    """Note that a user has seen an alert; the first one counts."""
    desk(here)
    if not await here.run(here.store.alerts.acknowledge, key, body.user, now()):
        raise HTTPException(404, f'there is no alert "{key}"')
    found = await here.run(here.store.alerts.get, key)
    return told(alerts=[bodies.alert(found, "", "en")] if found else [])


@router.get("/watch/{user:path}", response_model=bodies.WatchOut)
async def watch_list(user: Key, here: Here) -> Response:
    """The entities that a user watches."""
    desk(here)
    return told(user=user, entities=await here.run(here.store.opinions.watch_list, user))


@router.put("/watch/{user:path}", response_model=bodies.WatchOut)
async def put_watch_list(user: Key, body: bodies.WatchBody, here: Here) -> Response:
    """Replace a user's watch list; every entity of it must be in the table of aliases."""
    known = set(desk(here).entities.names)
    if unknown := [entity for entity in body.entities if entity not in known]:
        raise HTTPException(404, f'there is no entity "{unknown[0]}"')
    await here.run(here.store.opinions.set_watch_list, user, body.entities)
    return told(user=user, entities=await here.run(here.store.opinions.watch_list, user))


@router.post("/labels", response_model=bodies.AddedTold)
async def label(body: bodies.LabelBody, here: Here) -> Response:
    """Say what a document says; after every 10 new labels the reader learns from them."""
    desk(here)
    kept = await here.run(
        here.store.opinions.label, body.document, body.entity, body.sentiment, body.user or "",
        now(),
    )  # fmt: skip
    if not kept:
        raise HTTPException(404, f'there is no document "{body.document}"')
    _wake(here)
    return told(added=1, got=1)


@router.post("/reads", response_model=bodies.AddedTold)
async def note_read(body: bodies.ReadBody, here: Here) -> Response:
    """Note that a user has read a document: it counts in the next ranking."""
    found = await here.run(here.store.opinions.documents, keys=[body.document], n=1)
    if found.is_empty():
        raise HTTPException(404, f'there is no document "{body.document}"')
    await here.run(desk(here).note_read, body.user, body.document)
    return told(added=1, got=1)


@router.get("/status", response_model=bodies.StatusOut)
async def status(here: Here) -> Response:
    """How much there is, and what is still to be done."""
    desk(here)
    documents, unread, readings, prices, labels = await here.run(here.store.opinions.size)
    waiting = await here.run(here.store.alerts.waiting)
    return told(
        documents=documents, unread=unread, readings=readings, prices=prices, labels=labels,
        waiting=len(waiting), lexicon=f"{SOURCE}, {len(lexicon())} words, {LICENCE}",
    )  # fmt: skip


def _few(sent: list[Any]) -> None:
    if len(sent) > MOST:
        raise HTTPException(422, f"{len(sent):,} rows; send at most {MOST:,} at a time")


def _wake(here: Here) -> None:
    if here.opinions is not None:
        here.opinions.wake()
