"""The HTTP application: doors, errors, limits and headers around one Service."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from m6rec import __version__
from m6rec.errors import M6RecError, QueryError, RunError
from m6rec.serving import api_v1
from m6rec.serving.guard import Guard
from m6rec.serving.service import Service
from m6rec.serving.settings import Settings

log = logging.getLogger("m6rec")


def create(settings: Settings | None = None) -> FastAPI:
    """Return the application; without settings, with those handed down by the environment."""
    chosen = settings or Settings.handed_down()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.service = service = Service(chosen)
        app.state.guard.store = service.store
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
    app.state.guard = Guard(chosen)
    app.add_middleware(app.state.guard.middleware)
    app.include_router(api_v1.router)
    app.add_exception_handler(M6RecError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _crash)
    return app


def problem(status: int, code: str, message: str) -> JSONResponse:
    """Return an error in the form of /v1; halves of surrogate pairs in it become "?"."""
    message = message.encode(errors="replace").decode()
    return JSONResponse({"error": message, "code": code}, status)


async def _ours(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, RunError):
        return problem(409, "run", str(error))
    return problem(400, "request" if isinstance(error, QueryError) else "data", str(error))


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    return problem(422, "invalid", f"{where}: {first['msg']}" if where else str(first["msg"]))


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    answer = problem(error.status_code, "http", str(error.detail))
    answer.headers.update(error.headers or {})
    return answer


async def _crash(request: Request, error: Exception) -> JSONResponse:
    log.exception("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem(500, "internal", "the server failed; its log says why")
