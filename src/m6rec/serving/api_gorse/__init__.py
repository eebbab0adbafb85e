"""Gorse's door, /api: the shape of Gorse 0.5's REST API, so that its clients work unmodified."""

from fastapi import APIRouter

from m6rec.serving.api_gorse import feedback, health, items, lists, users
from m6rec.serving.api_gorse.wire import PREFIX, PROBLEMS, as_sent

__all__ = ["PREFIX", "as_sent", "router"]

router = APIRouter(prefix=PREFIX, responses=PROBLEMS)
for part in (health.router, users.router, feedback.router, lists.router, items.router, items.last):
    router.include_router(part)
