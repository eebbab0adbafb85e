"""Doors of the pages: the API key as a cookie, the language, and forms from our own pages only."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse

from m6rec.serving.guard import COOKIE, Guard, parts_of
from m6rec.serving.web import render
from m6rec.serving.web.render import first_of
from m6rec.serving.web.texts import LANGUAGES, speaker

FIELDS = 2_000  # of a form at most
YEAR = 365 * 86_400  # seconds
router = APIRouter(include_in_schema=False)


async def form(request: Request) -> dict[str, list[str]]:
    """The fields of a form that one of our own pages sent; 403 for that of another site."""
    origin = parts_of(request.headers.get("origin", ""))
    if not origin.netloc or origin.netloc != request.headers.get("host"):
        raise HTTPException(403, speaker(render.language(request))("origin"))
    try:
        body = (await request.body()).decode()
        return parse_qs(body, keep_blank_values=True, max_num_fields=FIELDS)
    except ValueError as error:
        raise HTTPException(400, str(error)) from None


Form = Annotated[dict[str, list[str]], Depends(form)]


def local(path: str) -> str:
    """Return a path of this service, "/" for what leads elsewhere."""
    parts = parts_of(path)
    leads = parts.scheme or parts.netloc or not path.startswith("/") or "\\" in path
    return "/" if leads or path.startswith("//") or not path.isprintable() else path


def ask_key(request: HTTPConnection, status: int, message: str) -> Response:
    """Return the page for somebody whom the guard does not let through."""
    if status != 401:
        return render.problem(request, status, message)
    query = f"?{request.url.query}" if request.url.query else ""
    asked = request.url.path + query if request.scope["method"] == "GET" else "/"
    answer = render.page(request, "key.html", 401, next=asked, wrong=False)
    if "hx-request" in request.headers:
        answer.headers["HX-Refresh"] = "true"
    return answer


@router.get("/enter")
async def enter() -> Response:
    """Where the form of the key comes back to when it is reloaded."""
    return RedirectResponse("/", 303)


@router.post("/enter")
async def keep_key(request: Request, fields: Form) -> Response:
    """Keep a valid key as a cookie that scripts and other sites cannot use."""
    guard: Guard = request.app.state.guard
    key, onward = first_of(fields, "key"), local(first_of(fields, "next"))
    if guard.scope_of(key) is None:
        return render.page(request, "key.html", 401, next=onward, wrong=True)
    answer = RedirectResponse(onward, 303)
    answer.set_cookie(
        COOKIE, key, max_age=YEAR, httponly=True, samesite="strict",
        secure=request.url.scheme == "https",
    )  # fmt: skip
    return answer


@router.post("/leave")
async def leave(fields: Form) -> Response:
    """Forget the key."""
    answer = RedirectResponse("/", 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


@router.get("/language/{name}")
async def choose_language(name: str, next: str = "/") -> Response:
    """Keep the choice of a language."""
    if name not in LANGUAGES:
        raise HTTPException(404)
    answer = RedirectResponse(local(next), 303)
    answer.set_cookie(render.LANGUAGE, name, max_age=YEAR, samesite="lax")
    return answer
