"""/api/user and /api/users."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Response

from m6rec.serving.api_gorse import bodies
from m6rec.serving.api_gorse.bodies import Success, UserBody, UserPatch, UserShown, UsersPage
from m6rec.serving.api_gorse.wire import MISSING, Page, PathId, affected, page
from m6rec.serving.api_v1 import Here, as_json

router = APIRouter(tags=["gorse: users"])


@router.post("/user", response_model=Success)
def insert_user(body: UserBody, here: Here) -> Response:
    """Insert or overwrite a user."""
    return affected(here.store.put_users([body.stored()]))


@router.post("/users", response_model=Success)
def insert_users(body: list[UserBody], here: Here) -> Response:
    """Insert or overwrite users."""
    here.store.put_users([each.stored() for each in body])
    return affected(len(body))


@router.get("/users", response_model=UsersPage)
def users(here: Here, page: Annotated[Page, Depends(page)]) -> Response:
    """A page of users."""
    found, cursor = here.store.users(page.cursor, page.n)
    return as_json({"Cursor": cursor, "Users": [bodies.user(each) for each in found]})


@router.get("/user/{user}", response_model=UserShown, responses=MISSING)
def user(user: PathId, here: Here) -> Response:
    """A user."""
    found = here.store.user(user)
    if found is None:
        raise _unknown(user)
    return as_json(bodies.user(found))


@router.patch("/user/{user}", response_model=Success, responses=MISSING)
def modify_user(user: PathId, body: UserPatch, here: Here) -> Response:
    """Change a user; what is null stays."""
    if not here.store.patch_user(user, **body.changes()):
        raise _unknown(user)
    return affected(1)


@router.delete("/user/{user}", response_model=Success, responses=MISSING)
def delete_user(user: PathId, here: Here) -> Response:
    """Delete a user with all feedback."""
    if here.store.user(user) is None:
        raise _unknown(user)
    here.engine.erase(user)
    return affected(1)


def _unknown(user: str) -> HTTPException:
    return HTTPException(404, f'user "{user}" not found')
