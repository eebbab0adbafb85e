"""Items that came after the fit, as tables without events, to be put after those known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from m6rec.data.dataset import Dataset
from m6rec.data.drops import Drops
from m6rec.data.prepare import Prepared
from m6rec.data.vocab import Vocab
from m6rec.errors import DataError, suggestion

FIXED = ("key", "domain")  # columns of an item that are what it is known by


def arrivals(
    prepared: Prepared, items: pl.DataFrame, separators: Mapping[str, str] | None = None
) -> Prepared:
    """Return rows of new items as a Prepared of no events, with the columns of ``prepared``.

    items: key ("domain/key"), and any of title, text (left out: the title), hidden and the raw
    attributes; other columns are ignored, missing ones are empty. separators: column → what
    joins the values of a list where text is wanted, "|" by default. Raises DataError for an
    unknown domain, a key that is known or comes twice, or a value that does not fit its column.
    """
    data, frame = prepared.dataset, keyed(items)
    known = frame["key"].filter(pl.Series([key in data.items for key in frame["key"]]))
    if len(known):
        raise DataError(f'items: "{known[0]}" is not new')
    domain = [domain_of(key, data) for key in frame["key"]]
    rows = fitting(frame, prepared.items, separators or {}).with_columns(
        pl.Series("domain", [data.domains[d].name for d in domain], pl.String),
        pl.col("hidden").fill_null(False),
    )
    given = [frame[name].cast(pl.String) for name in ("text", "title") if name in frame.columns]
    texts = pl.select(pl.coalesce(*given, pl.lit(""))).to_series().to_list() if given else []
    new = Dataset.build(
        user=np.zeros(0, np.int32),
        item=np.zeros(0, np.int32),
        users=Vocab([]),
        items=Vocab(rows["key"]),
        domains=data.domains,
        item_domain=np.array(domain, np.int16),
        events=data.events,
        item_text=tuple(texts) if any(texts) else None,
        hidden=rows["hidden"].to_numpy(),
        ordered=data.ordered,
    )
    return replace(prepared, dataset=new, users=prepared.users.clear(), items=rows, drops=Drops())


def extended(prepared: Prepared, new: Prepared) -> Prepared:
    """Return the tables with the items of ``new``, see ``arrivals``, after those known."""
    items = pl.concat([prepared.items, new.items], rechunk=True)
    return replace(prepared, dataset=prepared.dataset.extended(new.dataset), items=items)


def changed(
    prepared: Prepared, items: pl.DataFrame, separators: Mapping[str, str] | None = None
) -> Prepared:
    """Return the tables with other titles, flags and attributes of known items.

    items: key, and the columns that change, null = empty. Raises DataError for an unknown key.
    """
    frame = keyed(items)
    codes = prepared.dataset.items.encode(frame["key"])
    if (codes < 0).any():
        key = frame["key"][int(np.argmin(codes))]
        raise DataError(f'items: there is no item "{key}" to change')
    names = [c for c in prepared.items.columns if c in frame.columns and c not in FIXED]
    like = prepared.items.select("key", *names)
    table = prepared.items.update(
        fitting(frame, like, separators or {}), on="key", include_nulls=True
    ).with_columns(pl.col("hidden").fill_null(False))
    dataset = prepared.dataset.hiding(table["hidden"].to_numpy())
    return replace(prepared, dataset=dataset, items=table)


def keyed(items: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with its keys as text; DataError where one is missing or comes twice."""
    if "key" not in items.columns:
        raise DataError(f'items: there is no column "key"{suggestion("key", items.columns)}')
    frame = items.with_columns(pl.col("key").cast(pl.String))
    if frame["key"].null_count():
        raise DataError("items: a row has no key")
    twice = frame["key"].filter(frame["key"].is_duplicated())
    if len(twice):
        raise DataError(f'items: "{twice[0]}" comes twice')
    return frame


def domain_of(key: str, data: Dataset) -> int:
    """Return the domain of a key "domain/key"; DataError where training knew none of that name."""
    name, _, rest = key.partition("/")
    if not rest:
        raise DataError(f'items: the key "{key}" names no domain; write it as domain/key')
    found = data.domain(name)
    if found < 0:
        names = [domain.name for domain in data.domains]
        raise DataError(
            f'items: "{key}" is of a domain that training did not know{suggestion(name, names)} '
            f"(known: {', '.join(names)})"
        )
    return found


def fitting(frame: pl.DataFrame, like: pl.DataFrame, separators: Mapping[str, str]) -> pl.DataFrame:
    """Return the columns of a table ``like`` this, in its types; null where the frame lacks one."""
    columns = []
    for name, kind in like.schema.items():
        values = frame[name] if name in frame.columns else pl.Series(name, [None] * len(frame))
        if kind == pl.String and isinstance(values.dtype, pl.List):
            values = values.cast(pl.List(pl.String)).list.join(separators.get(name, "|"))
        try:
            columns.append(values.cast(kind))
        except pl.exceptions.PolarsError:
            given = values.drop_nulls().head(1).to_list()
            raise DataError(f"items: {name} = {given[0]!r} is not of type {kind}") from None
    return pl.DataFrame(columns)


def typed(name: str, values: Sequence[Any], kind: pl.DataType, separator: str = "|") -> pl.Series:
    """Return raw values as a column of this type: null where one does not fit, a list joined where
    the column is text."""
    if kind == pl.String:
        values = [separator.join(map(str, v)) if isinstance(v, list) else v for v in values]
    return pl.Series(name, values, dtype=kind, strict=False)
