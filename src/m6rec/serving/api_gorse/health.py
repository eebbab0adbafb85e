"""/api/health: whether the process lives and can answer."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from m6rec.errors import StoreError
from m6rec.serving.api_gorse.bodies import Health
from m6rec.serving.api_gorse.wire import UNREADY
from m6rec.serving.api_v1 import Here, as_json
from m6rec.serving.service import Service

log = logging.getLogger("m6rec")
router = APIRouter(prefix="/health", tags=["gorse: health"])


@router.get("/live", response_model=Health)
def live(here: Here) -> Response:
    """The process answers; says whether the store does."""
    return as_json(_health(here))


@router.get("/ready", response_model=Health, responses=UNREADY)
def ready(here: Here) -> Response:
    """The store answers."""
    health = _health(here)
    if health["Ready"]:
        return as_json(health)
    return PlainTextResponse(msgspec.json.encode(health), 503)


def _health(here: Service) -> dict[str, Any]:
    try:
        here.store.look()
        problem = None
    except StoreError as error:  # its address is nobody's business
        log.error("not ready: %s", error)
        problem = "the store does not answer"
    return {
        "Ready": problem is None,
        "DataStoreError": problem,
        "CacheStoreError": problem,
        "DataStoreConnected": problem is None,
        "CacheStoreConnected": problem is None,
    }
