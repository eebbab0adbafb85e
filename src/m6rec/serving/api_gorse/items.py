"""/api/item and /api/items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Response

from m6rec.serving.api_gorse import bodies, ids
from m6rec.serving.api_gorse.bodies import ItemBody, ItemPatch, ItemShown, ItemsPage, Success
from m6rec.serving.api_gorse.wire import CLASH, MISSING, Page, PathId, affected, page
from m6rec.serving.api_v1 import Here, as_json
from m6rec.serving.service import Service
from m6rec.store import Item

router = APIRouter(tags=["gorse: items"])
ONE = {**MISSING, **CLASH}
SEARCHED = 100  # items that a search finds at most


@router.post("/item", response_model=Success, responses=CLASH)
def insert_item(body: ItemBody, here: Here) -> Response:
    """Insert or overwrite an item."""
    return insert_items([body], here)


@router.post("/items", response_model=Success, responses=CLASH)
def insert_items(body: list[ItemBody], here: Here) -> Response:
    """Insert or overwrite items."""
    keys = ids.written(here, [(each.item_id, each.categories or ()) for each in body])
    here.store.put_items([each.stored(key) for each, key in zip(body, keys, strict=True)])
    return affected(len(body))


@router.get("/items", response_model=ItemsPage)
def items(
    here: Here,
    page: Annotated[Page, Depends(page)],
    q: Annotated[str, Query(max_length=200, description="Words of a title.")] = "",
) -> Response:
    """A page of items, or those whose title holds all of the words ``q``."""
    if not q:
        found, cursor = here.store.items(page.cursor, page.n)
        return as_json({"Cursor": cursor, "Items": _shown(here, found)})
    rows = here.engine.search(q, None, min(page.n, SEARCHED))
    stored = (here.store.item(row["item"]) for row in rows)
    return as_json({"Cursor": "", "Items": _shown(here, [each for each in stored if each])})


@router.put("/item/{item:path}/category/{category}", response_model=Success, responses=ONE)
def insert_category(item: PathId, category: PathId, here: Here) -> Response:
    """Put an item into a category."""
    return _categorised(here, item, category, True)


@router.delete("/item/{item:path}/category/{category}", response_model=Success, responses=ONE)
def delete_category(item: PathId, category: PathId, here: Here) -> Response:
    """Take an item out of a category; it stays in its domain."""
    return _categorised(here, item, category, False)


def _categorised(here: Service, id: str, category: str, inside: bool) -> Response:
    if not here.store.categorise_item(ids.key_of(here, id), category, inside):
        raise _unknown(id)
    return affected(1)


def _found(here: Service, id: str) -> Item:
    item = here.store.item(ids.key_of(here, id))
    if item is None:
        raise _unknown(id)
    return item


def _unknown(id: str) -> HTTPException:
    return HTTPException(404, f'item "{id}" not found')


def _shown(here: Service, found: Sequence[Item]) -> list[dict[str, Any]]:
    names = ids.shown(here, [item.key for item in found])
    domains = here.engine.live.domains
    return [bodies.item(item, id, domains) for item, id in zip(found, names, strict=True)]


# An id may hold "/", so these stand behind all routes below /item/{item}.
last = APIRouter(tags=["gorse: items"])


@last.get("/item/{item:path}", response_model=ItemShown, responses=ONE)
def item(item: PathId, here: Here) -> Response:
    """An item."""
    return as_json(_shown(here, [_found(here, item)])[0])


@last.patch("/item/{item:path}", response_model=Success, responses=ONE)
def modify_item(item: PathId, body: ItemPatch, here: Here) -> Response:
    """Change an item; what is null stays."""
    here.store.patch_item(_found(here, item).key, **body.changes())
    return affected(1)


@last.delete("/item/{item:path}", response_model=Success, responses=ONE)
def delete_item(item: PathId, here: Here) -> Response:
    """Delete an item with all feedback."""
    here.store.delete_item(_found(here, item).key)
    return affected(1)
