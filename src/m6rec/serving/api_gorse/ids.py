"""Item ids of Gorse's clients ↔ keys: "domain/key", or the key alone where it is unique."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from fastapi import HTTPException

from m6rec.serving.service import Service


def key_of(here: Service, id: str) -> str:
    """Return the key that an id means; 404 where there is none, 409 where there are several."""
    keys = keys_of(here, [id])
    if id not in keys:
        raise HTTPException(404, f'item "{id}" not found')
    return keys[id]


def keys_of(here: Service, ids: Collection[str]) -> dict[str, str]:
    """Return the keys that ids mean, without those that mean nothing; 409 where one is of several
    items. One that names its domain is taken at its word."""
    domains = here.engine.live.domains
    found = {id: id for id in ids if _is_full(id, domains)}
    stored = here.store.keys_by_bare([id for id in ids if id not in found])
    for id in ids:
        keys = [found[id]] if id in found else stored.get(id, [])
        if len(keys) > 1:
            raise HTTPException(
                409, f'item "{id}" is in several domains; say which: {", ".join(keys)}'
            )
        if keys:
            found[id] = keys[0]
    return found


def written(here: Service, given: Iterable[tuple[str, Collection[str]]]) -> list[str]:
    """Return the keys under which to write items with these ids and categories.

    A bare id goes to the domain that one of its categories names, else to the item that it
    means, else to the first domain.
    """
    domains = here.engine.live.domains
    named = [
        (id, next((c for c in categories if c in domains and not _is_full(id, domains)), ""))
        for id, categories in given
    ]
    known = keys_of(here, [id for id, domain in named if not domain])
    return [
        f"{domain}/{id}" if domain else known.get(id, f"{domains[0]}/{id}") for id, domain in named
    ]


def shown(here: Service, keys: Sequence[str]) -> list[str]:
    """Return the ids of items."""
    domains = here.engine.live.domains
    bare = [key.partition("/")[2] for key in keys]
    stored = here.store.keys_by_bare(bare)
    return [
        short if stored.get(short) == [key] and not _is_full(short, domains) else key
        for key, short in zip(keys, bare, strict=True)
    ]


def _is_full(id: str, domains: Collection[str]) -> bool:
    domain, _, rest = id.partition("/")
    return bool(rest) and domain in domains
