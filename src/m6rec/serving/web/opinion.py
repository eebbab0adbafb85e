"""The opinion monitor: what is said of whom, what changed and why, and what a person watches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse

from m6rec.opinion.lexicon import lexicon
from m6rec.opinion.notice import NOTICE
from m6rec.serving.api_v1 import Here
from m6rec.serving.guard import COOKIE, Guard, cookie
from m6rec.serving.opinions import desk, now
from m6rec.serving.schemas import NO_NUL
from m6rec.serving.web import render
from m6rec.serving.web.entry import Form
from m6rec.serving.web.opinion_charts import day, plot, spark
from m6rec.serving.web.render import first_of, url
from m6rec.serving.web.texts import speaker
from m6rec.store import Alert

ALERTS, NEWS = 8, 12  # on the first page
OF_ENTITY = 10  # alerts and documents of an entity
WINDOWS = 120  # of a chart
Who = Annotated[str, Query(max_length=512, pattern=NO_NUL)]
router = APIRouter(include_in_schema=False)


@router.get("/opinion")
async def overview(request: Request, here: Here, user: Who = "") -> Response:
    """Alerts, entities, and news; for a user in the order that the recommender gives them."""
    watched, tongue = desk(here), render.language(request)
    user = user.strip()
    summaries = await here.run(here.store.opinions.summaries)
    alerts = await here.run(watched.alerts, user, None, True, ALERTS, tongue)
    news = await here.run(watched.news, user, None, NEWS, tongue)
    names = sorted({*watched.entities.names, *summaries})
    mine = await here.run(here.store.opinions.watch_list, user) if user else []
    names.sort(key=lambda name: (name not in mine, mine.index(name) if name in mine else 0))
    return _page(
        request,
        "opinion.html",
        user=user,
        mine=mine,
        entities=[_row(name, summaries.get(name, {})) for name in names],
        alerts=[_alert(alert, why, tongue) for alert, why in alerts],
        news=news,
        reported=bool(summaries),
        size=await here.run(here.store.opinions.size),
    )


@router.get("/opinion/entities/{entity:path}")
async def entity(request: Request, here: Here, entity: str, user: Who = "") -> Response:
    """One entity: its series with change points and forecast, its alerts and documents."""
    watched, tongue = desk(here), render.language(request)
    found = await here.run(here.store.opinions.report, entity)
    if found is None and entity not in watched.entities.names:
        raise HTTPException(404, speaker(tongue)("no entity", key=entity))
    body: dict[str, Any] = found[1] if found else {}
    if "volume" in body.get("values", {}):
        traded = [None if v is None else math.exp(v) for v in body["values"]["volume"]]
        body["values"]["traded"] = traded
    charts = [
        plot("opinion and documents", body, "opinion", "documents", WINDOWS),
        plot("close and volume", body, "close", "traded", WINDOWS),
    ] if body else []  # fmt: skip
    alerts = await here.run(watched.alerts, "", entity, False, OF_ENTITY, tongue)
    news = await here.run(watched.news, user, entity, OF_ENTITY, tongue)
    return _page(
        request,
        "opinion_entity.html",
        entity=entity,
        user=user,
        charts=[chart for chart in charts if chart],
        changes=[
            (day(row["time"]), day(row["known"]), row["before"], row["after"])
            for row in reversed(body.get("changes", []))
        ][:5],
        forecast=body.get("forecast", []),
        aliases=watched.entities.aliases.get(entity, [entity])[1:],
        alerts=[_alert(alert, why, tongue) for alert, why in alerts],
        news=news,
    )


@router.get("/opinion/documents/{document:path}")
async def document(request: Request, here: Here, document: str, user: Who = "") -> Response:
    """One document: its text, what it says of whom, and the words of the list in it."""
    desk(here)
    tongue = render.language(request)
    found = await here.run(here.store.opinions.documents, keys=[document], n=1)
    if found.is_empty():
        raise HTTPException(404, speaker(tongue)("no document", key=document))
    row = found.row(0, named=True)
    originals = await here.run(here.store.opinions.originals_of, [document])
    original = originals.get(document, document)
    readings = await here.run(here.store.opinions.readings_in, [original])
    labels = await here.run(here.store.opinions.labels_of, document)
    terms = dict(lexicon().terms(f"{row['title']}\n{row['text']}"))
    return _page(
        request,
        "opinion_document.html",
        document=row,
        user=user,
        original="" if original == document else original,
        readings=readings.sort("entity").to_dicts(),
        labels=labels,
        terms=sorted(terms.items(), key=lambda term: term[1]),
        written=day(row["time"]),
    )


@router.post("/opinion/watch")
async def watch(here: Here, fields: Form) -> Response:
    """Keep a user's watch list."""
    user, watched = first_of(fields, "user"), desk(here)
    if not user:
        raise HTTPException(400)
    chosen = [name for name in fields.get("entity", []) if name in watched.entities.names]
    await here.run(here.store.opinions.set_watch_list, user, chosen)
    return RedirectResponse(url("/opinion", user=user), 303)


@router.post("/opinion/acknowledge")
async def acknowledge(here: Here, fields: Form) -> Response:
    """Note that a user has seen an alert."""
    user, key = first_of(fields, "user"), first_of(fields, "alert")
    desk(here)
    if not user or not await here.run(here.store.alerts.acknowledge, key, user, now()):
        raise HTTPException(400 if not user else 404)
    return RedirectResponse(url("/opinion", user=user), 303)


@router.post("/opinion/label")
async def label(here: Here, fields: Form) -> Response:
    """Keep what a person says of a document."""
    document, entity, said, user = (
        first_of(fields, name) for name in ("document", "entity", "sentiment", "user")
    )
    desk(here)
    kept = await here.run(here.store.opinions.label, document, entity, said, user, now())
    if not kept:
        raise HTTPException(404)
    return RedirectResponse(url(document_url(document), user=user), 303)


@router.post("/opinion/read")
async def read(here: Here, fields: Form) -> Response:
    """Note that a user has opened a document; the page sends it by itself."""
    user, document = first_of(fields, "user"), first_of(fields, "document")
    found = await here.run(here.store.opinions.documents, keys=[document], n=1)
    if not user or found.is_empty():
        raise HTTPException(400)
    await here.run(desk(here).note_read, user, document)
    return Response(status_code=204)


def document_url(document: str) -> str:
    """Return the page of a document."""
    return f"/opinion/documents/{quote(document, safe='/')}"


def _page(request: Request, template: str, **values: Any) -> Response:
    guard: Guard = request.app.state.guard
    held = guard.scope_of(cookie(request.headers.get("cookie", ""), COOKIE))
    return render.page(
        request,
        template,
        notice=NOTICE[render.language(request)],
        may_write=held in ("write", "admin"),
        document_url=document_url,
        entity_url=lambda name: f"/opinion/entities/{quote(name, safe='/')}",
        day=day,
        **values,
    )


def _row(name: str, summary: Mapping[str, Any]) -> dict[str, Any]:
    ahead = summary.get("forecast")
    return {
        "entity": name,
        "opinion": summary.get("opinion"),
        "documents": summary.get("documents", 0),
        "spark": spark(summary.get("spark", [])),
        "forecast": ahead,
        "changed": day(summary["changed"]) if summary.get("changed") else "",
    }


def _alert(alert: Alert, why: str, tongue: str) -> dict[str, Any]:
    """An alert in the reader's language, with what drove it."""
    details, chinese = alert.details, tongue == "zh"
    return {
        "alert": alert,
        "text": details.get("text_zh", alert.text) if chinese else alert.text,
        "suggestion": details.get("suggestion_zh" if chinese else "suggestion", ""),
        "documents": details.get("documents", ()),
        "terms": [term for term, _ in details.get("terms", ())],
        "along": [name for name, _ in details.get("along", ())],
        "because": why,
        "day": day(alert.time),
    }
