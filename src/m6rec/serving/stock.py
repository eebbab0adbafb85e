"""Items of the store → rows of a run: what came or changed since the run was trained."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from m6rec.artifacts import Fitted
from m6rec.errors import M6RecError
from m6rec.store import Item

log = logging.getLogger("m6rec")

Row = dict[str, Any]  # column → value


def taken_in(
    fitted: Fitted, rows: Mapping[str, Row], take_in: Callable[[Fitted, pl.DataFrame], Fitted]
) -> Fitted:
    """The run with these items; one that does not fit is left out, and the log says why."""
    if not rows:
        return fitted
    listed = [{"key": key, **row} for key, row in rows.items()]
    try:
        return take_in(fitted, pl.DataFrame(listed, infer_schema_length=None, strict=False))
    except (M6RecError, pl.exceptions.PolarsError, TypeError, ValueError) as error:
        if len(rows) == 1:
            (key,) = rows
            log.warning("item %s stays as it was until the next training: %s", key, error)
            return fitted
    keys = list(rows)
    for some in (keys[: len(keys) // 2], keys[len(keys) // 2 :]):
        fitted = taken_in(fitted, {key: rows[key] for key in some}, take_in)
    return fitted


def row_of(item: Item) -> Row:
    """What the store says of an item, as columns of the run's items, and its text."""
    text = f"{item.title} {item.text}".strip()
    own = {"hidden": item.hidden, "text": text, "title": item.title or None}
    return {k: v for k, v in item.attributes.items() if k not in ("key", "domain")} | own
