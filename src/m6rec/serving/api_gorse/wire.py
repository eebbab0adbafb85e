"""How /api talks HTTP: paths as they were sent, pages, and the answer to a write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import Path, Query, Response
from pydantic import BeforeValidator

from m6rec.serving.api_v1 import as_json

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]

PREFIX = "/api"
MOST = 10_000  # rows of one page


def _read(value: str) -> str:
    """The id of a path, in which a slash may be quoted twice."""
    found = unquote(value)
    if "\0" in found:
        raise ValueError("must be without NUL characters")
    return found


PathId = Annotated[str, BeforeValidator(_read), Path(min_length=1, max_length=512)]


def _told(status: int, what: str) -> dict[int | str, dict[str, Any]]:
    return {
        status: {"description": what, "content": {"text/plain": {"schema": {"type": "string"}}}}
    }


MISSING = _told(404, "Unknown.")
CLASH = _told(409, "The id is of several items; write domain/key.")
UNREADY = _told(503, "The store does not answer.")
PROBLEMS = {
    **_told(400, "The request does not fit."),
    **_told(401, "No valid API key."),
    **_told(403, "The key's scope does not reach."),
    **_told(413, "The body is too large."),
    **_told(429, "Too many requests."),
}


def as_sent(app: App) -> App:
    """Return the application with paths of /api as they were sent, still percent-encoded, so that
    "%2F" stays part of an id; a slash at the end, which clients add, is dropped."""

    async def sent(scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].startswith(f"{PREFIX}/"):
            raw = scope["raw_path"].decode("latin-1").partition("?")[0]
            scope["path"] = raw.rstrip("/")  # in place: the route that is found is read outside
        await app(scope, receive, send)

    return sent


@dataclass(frozen=True, slots=True)
class Page:
    """n: rows of it. cursor: where it begins, "" = at the start."""

    n: int
    cursor: str


def page(
    n: Annotated[int, Query(ge=0)] = 10,
    cursor: Annotated[str, Query(max_length=5000)] = "",
    capital: Annotated[str, Query(alias="Cursor", include_in_schema=False)] = "",
) -> Page:
    """Read a page from a query; gorsejs writes Cursor."""
    return Page(max(1, min(n, MOST)), cursor or capital)


def affected(rows: int) -> Response:
    """Answer a write."""
    return as_json({"RowAffected": rows})
