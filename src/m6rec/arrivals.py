"""A fitted run that takes in items after training: new ones, and what changed of known ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from m6rec.artifacts import Fitted
from m6rec.data import arrivals
from m6rec.models.base import updated


def extended(fitted: Fitted, items: pl.DataFrame) -> Fitted:
    """Return a run whose catalogue also has these items; nothing is fitted again.

    items: key ("domain/key"), and any of title, text (left out: the title), hidden and the raw
    attributes; other columns are ignored. Their codes follow those known, which stay. They are
    scored as items without events: by text and attributes, where the model knows them so. Only
    the new rows are computed; what there is, is copied at most. Raises DataError for an unknown
    domain or a known key, ConfigError where the model takes in no new items.
    """
    new = arrivals.arrivals(fitted.prepared, items, fitted.attributes.items.separators)
    prepared = arrivals.extended(fitted.prepared, new)
    dataset = fitted.dataset.extended(fitted.attributes.attach(new.dataset, new))
    alone = np.full(new.dataset.n_items, -1, fitted.twins.dtype)
    made = replace(
        fitted,
        model=updated(fitted.model, dataset),
        prepared=prepared,
        twins=np.concatenate([fitted.twins, alone]),
    )
    vars(made)["dataset"] = dataset  # which would be made of all items
    return made


def changed(fitted: Fitted, items: pl.DataFrame) -> Fitted:
    """Return a run with other titles, hidden flags and attributes of known items.

    items: key, and the columns that change, null = empty. Lists and filters follow at once; the
    model keeps what it learned of the old texts and attributes until it is trained again. Raises
    DataError for an unknown key.
    """
    prepared = arrivals.changed(fitted.prepared, items, fitted.attributes.items.separators)
    made = replace(fitted, prepared=prepared)
    vars(made)["dataset"] = fitted.dataset.hiding(prepared.dataset.hidden)
    return made
