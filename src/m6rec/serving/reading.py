"""How requests are read: bodies as JSON, no parameter that is unknown, errors in one sentence."""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import Discriminator, Field, Tag

from m6rec.errors import suggestion, written
from m6rec.serving.guard import App, Receive, Scope, Send, is_page

T = TypeVar("T")
LIST, OBJECT = "(list)", "(object)"  # tags of what may be either; no sentence holds them


def _shape(value: Any) -> str:
    return LIST if isinstance(value, list) else OBJECT


def as_any(schema: dict[str, Any]) -> None:
    """Document shapes as any of these, as if nothing told them apart."""
    schema["anyOf"] = schema.pop("oneOf")


# Errors are those of the shape that was sent, where a list or an object may be.
BY_SHAPE = Discriminator(_shape)
OneOrMany = Annotated[
    Annotated[T, Tag(OBJECT)] | Annotated[list[T], Tag(LIST)],
    BY_SHAPE,
    Field(json_schema_extra=as_any),
]


def bodies_as_json(app: App) -> App:
    """Return the application with what programs send taken as JSON, whatever it is called: curl
    calls it a form. Other sites' pages may send that as well; the guard refuses them."""

    async def read(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_page(scope["path"]):
            others = [pair for pair in scope["headers"] if pair[0] != b"content-type"]
            scope["headers"] = [*others, (b"content-type", b"application/json")]
        await app(scope, receive, send)

    return read


async def _known(request: Request) -> None:
    known = [parameter.alias for parameter in request.scope["route"].dependant.query_params]
    for name, value in request.query_params.items():
        if name not in known:
            said = f"there is no such parameter{suggestion(name, known)}"
            raise RequestValidationError([{"loc": ("query", name), "msg": said, "input": value}])


KNOWN = Depends(_known)  # refuses parameters of a query that the route does not have


def sentence(error: RequestValidationError) -> str:
    """Return the first thing that is wrong with a request: where, the value, and why."""
    first = error.errors()[0]
    if first.get("type") == "json_invalid":
        broken = json.JSONDecodeError(first["ctx"]["error"], str(error.body), first["loc"][-1])
        return f"the body is broken JSON: {broken}"
    kind, *path = [part for part in first["loc"] if part not in (LIST, OBJECT)]
    steps = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    where = "".join(steps).removeprefix(".") or kind
    if isinstance(first["input"], (str, int, float)):
        where = f"{where} = {written(first['input'])}"
    return f"{where}: {first['msg']}"
