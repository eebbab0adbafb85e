"""The HTTP application: doors, errors, limits and headers around one Service."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from m6rec import __version__
from m6rec.errors import M6RecError, QueryError, RunError, StoreError
from m6rec.serving import answering, api_gorse, api_opinion, api_support, api_v1, logs, reading
from m6rec.serving.guard import Guard, is_page
from m6rec.serving.monitor import Monitor, route_of
from m6rec.serving.opinions import OpinionService
from m6rec.serving.service import Service
from m6rec.serving.settings import Settings
from m6rec.serving.web import (
    entry,
    explore,
    items,
    models,
    onboarding,
    operations,
    opinion,
    render,
    support,
)

log = logging.getLogger("m6rec")


def create(settings: Settings | None = None) -> FastAPI:
    """Return the application; without settings, with those handed down by the environment."""
    chosen = settings or Settings.handed_down()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        logs.set_up(chosen.log, chosen.requests)
        app.state.service = service = Service(chosen, monitor)
        app.state.guard.watch(service.store)
        app.state.answers = answering.answers(service)
        if chosen.opinion:
            service.opinions = OpinionService(service.store, chosen.opinion)
        try:
            yield
        finally:
            service.close()

    app = FastAPI(
        title="M6-Rec", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        openapi_url="/v1/openapi.json",
        description="Recommendations across all your domains, with reasons. Every list carries "
        "the id of its request, the run, and λ of each part.",
    )  # fmt: skip
    app.state.monitor = monitor = Monitor()
    app.state.guard = Guard(chosen, entry.ask_key)
    app.add_middleware(reading.bodies_as_json)
    app.add_middleware(api_gorse.as_sent)
    app.add_middleware(app.state.guard.middleware)
    app.add_middleware(monitor.middleware)
    app.include_router(api_v1.router)
    app.include_router(api_support.router)
    app.include_router(api_opinion.router)
    app.include_router(api_gorse.router)
    for door in (entry, explore, onboarding, items, support, opinion, models, operations):
        app.include_router(door.router)
    app.mount("/static", StaticFiles(directory=render.HERE / "static"), name="static")
    app.add_exception_handler(M6RecError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _crash)
    return app


def problem(request: Request, status: int, code: str, message: str) -> Response:
    """Return an error as a page for people, in the form of /v1, or of /api: text, and 400 for
    whatever does not fit. Halves of surrogate pairs in it become "?"."""
    message = message.encode(errors="replace").decode()
    if is_page(request.url.path):
        return render.problem(request, status, message)
    if request.url.path.startswith(f"{api_gorse.PREFIX}/"):
        return PlainTextResponse(message, 400 if status == 422 else status)
    return JSONResponse({"error": message, "code": code}, status)


async def _ours(request: Request, error: Exception) -> Response:
    if isinstance(error, RunError):
        return problem(request, 409, "run", str(error))
    if isinstance(error, StoreError):
        log.error("%s: %s", route_of(request.scope), error)
        return problem(request, 503, "store", "the store does not answer; try again later")
    return problem(request, 400, "request" if isinstance(error, QueryError) else "data", str(error))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem(request, 422, "invalid", reading.sentence(error))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = problem(request, error.status_code, "http", str(error.detail))
    answer.headers.update(error.headers or {})
    return answer


async def _crash(request: Request, error: Exception) -> Response:
    log.exception("%s failed", route_of(request.scope), exc_info=error)
    return problem(request, 500, "internal", "the server failed; its log says why")
