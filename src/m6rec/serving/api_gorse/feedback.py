"""/api/feedback, and the feedback of a user or an item."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Response

from m6rec.serving.api_gorse import bodies, ids
from m6rec.serving.api_gorse.bodies import FeedbackBody, FeedbackPage, FeedbackShown, Success
from m6rec.serving.api_gorse.wire import CLASH, MISSING, Page, PathId, affected, page
from m6rec.serving.api_v1 import Here, as_json
from m6rec.serving.service import Service
from m6rec.store import Event, Feedback

router = APIRouter(tags=["gorse: feedback"])
ALL = 100_000  # rows of one user or item at most


def now() -> int:
    """Return microseconds; feedback of later is not seen yet."""
    return time.time_ns() // 1000


@router.post("/feedback", response_model=Success, responses=CLASH)
def insert_feedback(body: list[FeedbackBody], here: Here) -> Response:
    """Add feedback; its value adds to that of the same type, user and item."""
    return _written(body, here, here.store.add_events)


@router.put("/feedback", response_model=Success, responses=CLASH)
def overwrite_feedback(body: list[FeedbackBody], here: Here) -> Response:
    """Put feedback in the place of that of the same type, user and item."""
    return _written(body, here, here.store.replace_events)


@router.get("/feedback", response_model=FeedbackPage)
def all_feedback(here: Here, page: Annotated[Page, Depends(page)]) -> Response:
    """A page of feedback."""
    return _page(here, page)


@router.get("/feedback/{type}", response_model=FeedbackPage)
def feedback_of_type(type: PathId, here: Here, page: Annotated[Page, Depends(page)]) -> Response:
    """A page of feedback of one type."""
    return _page(here, page, types=[type])


@router.get("/feedback/{user}/{item}", response_model=list[FeedbackShown], responses=CLASH)
def feedback_between(user: PathId, item: PathId, here: Here) -> Response:
    """Feedback of a user on an item."""
    return as_json(_of(here, item, users=[user]))


@router.delete("/feedback/{user}/{item}", response_model=Success, responses=CLASH)
def delete_feedback(user: PathId, item: PathId, here: Here) -> Response:
    """Delete the feedback of a user on an item."""
    return _deleted(here, user, item)


@router.get(
    "/feedback/{type}/{user}/{item:path}",
    response_model=FeedbackShown,
    responses={**MISSING, **CLASH},
)
def typed_feedback(type: PathId, user: PathId, item: PathId, here: Here) -> Response:
    """Feedback of one type, of a user on an item."""
    found = _of(here, item, users=[user], types=[type])
    if not found:
        raise HTTPException(404, f'no feedback "{type}" of user "{user}" on item "{item}"')
    return as_json(found[0])


@router.delete("/feedback/{type}/{user}/{item:path}", response_model=Success, responses=CLASH)
def delete_typed_feedback(type: PathId, user: PathId, item: PathId, here: Here) -> Response:
    """Delete feedback of one type, of a user on an item."""
    return _deleted(here, user, item, type)


@router.get("/user/{user}/feedback", response_model=list[FeedbackShown])
def feedback_of_user(user: PathId, here: Here) -> Response:
    """All feedback of a user."""
    return as_json(_shown(here, here.store.feedback(users=[user], until=now(), n=ALL)[0]))


@router.get("/user/{user}/feedback/{type}", response_model=list[FeedbackShown])
def typed_feedback_of_user(user: PathId, type: PathId, here: Here) -> Response:
    """All feedback of a user of one type."""
    found = here.store.feedback(users=[user], types=[type], until=now(), n=ALL)[0]
    return as_json(_shown(here, found))


@router.get("/item/{item:path}/feedback", response_model=list[FeedbackShown], responses=CLASH)
def feedback_on_item(item: PathId, here: Here) -> Response:
    """All feedback on an item."""
    return as_json(_of(here, item))


@router.get(
    "/item/{item:path}/feedback/{type}", response_model=list[FeedbackShown], responses=CLASH
)
def typed_feedback_on_item(item: PathId, type: PathId, here: Here) -> Response:
    """All feedback on an item of one type."""
    return as_json(_of(here, item, types=[type]))


def _written(
    body: Sequence[FeedbackBody], here: Service, write: Callable[[Sequence[Event]], int]
) -> Response:
    keys = ids.written(here, [(each.item_id, ()) for each in body])
    at = now()
    write([each.event(each.user_id, key, at) for each, key in zip(body, keys, strict=True)])
    here.monitor.took(len(body))
    return affected(len(body))


def _page(here: Service, page: Page, types: Sequence[str] | None = None) -> Response:
    found, cursor = here.store.feedback(types=types, until=now(), cursor=page.cursor, n=page.n)
    return as_json({"Cursor": cursor, "Feedback": _shown(here, found)})


def _of(
    here: Service, item: str, *, users: list[str] | None = None, types: list[str] | None = None
) -> list[dict[str, Any]]:
    keys = list(ids.keys_of(here, [item]).values())
    if not keys:
        return []
    found = here.store.feedback(users=users, items=keys, types=types, until=now(), n=ALL)[0]
    return _shown(here, found)


def _deleted(here: Service, user: str, item: str, type: str | None = None) -> Response:
    """Delete, also what is not due yet; several events of one type count as one row."""
    keys = list(ids.keys_of(here, [item]).values())
    types = None if type is None else [type]
    rows = here.store.feedback(users=[user], items=keys, types=types, n=ALL)[0] if keys else []
    for key in keys:
        here.store.delete_events(user, key, type)
    return affected(len(rows))


def _shown(here: Service, found: Sequence[Feedback]) -> list[dict[str, Any]]:
    names = ids.shown(here, [each.item for each in found])
    return [bodies.feedback(each, id) for each, id in zip(found, names, strict=True)]
