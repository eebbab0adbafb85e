"""Operations: what the service does now; and the same figures for Prometheus."""

from __future__ import annotations

import time
from datetime import datetime

from fastapi import APIRouter, Request, Response

from m6rec.serving.api_v1 import Here
from m6rec.serving.live import Live
from m6rec.serving.trial import trial
from m6rec.serving.web import render

NEWEST = 12  # events shown
WEEK = 7 * 86_400_000_000  # microseconds
DAY = 24 * 3600 * 1_000_000  # microseconds
router = APIRouter(include_in_schema=False)


@router.get("/operations")
async def operations(request: Request, here: Here, paused: bool = False) -> Response:
    """Figures, latency by route, and the newest events; renewed by the page unless paused."""
    since = time.time_ns() // 1000 - WEEK
    live = await here.live()
    whole = "hx-request" not in request.headers  # else only the figures are renewed
    events, _ = await here.run(here.store.events, n=NEWEST)
    return render.page(
        request,
        "operations.html",
        paused=paused,
        figures=here.monitor.figures(),
        age=model_age(live),
        live=live.name,
        up=time.time() - here.started,
        events=events,
        title=here.engine.title,
        hits=await here.run(here.hits, WEEK),
        runs=here.engine.runs,
        trial=await here.run(trial, here.store, here.engine.runs, since)
        if whole and here.engine.share
        else None,
    )


@router.get("/metrics")
async def metrics(here: Here) -> Response:
    """The figures in the form of Prometheus."""
    hits = await here.run(here.hits, DAY)
    text = here.monitor.text(model_age(await here.live()), hits)
    return Response(text, media_type="text/plain; version=0.0.4")


def model_age(live: Live) -> float | None:
    """Return the seconds since the model that answers was made."""
    made = live.recommender.fitted.manifest.get("made")
    return time.time() - datetime.fromisoformat(made).timestamp() if made else None
