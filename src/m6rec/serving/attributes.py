"""Raw attributes that come with a request, held against the columns of the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from m6rec.artifacts import Fitted
from m6rec.data.arrivals import fitting
from m6rec.data.attributes import attributes
from m6rec.errors import DataError, QueryError, suggestion
from m6rec.serving.reading import written

UNFIT = (DataError, TypeError, ValueError, OverflowError, pl.exceptions.PolarsError)


def known(fitted: Fitted, given: Mapping[str, Any]) -> None:
    """Raise QueryError for an attribute of users that the run does not have."""
    names = fitted.prepared.users.drop("key").columns
    for name in given:
        if name not in names:
            raise QueryError(
                f'attribute "{name}" is unknown{suggestion(name, names)} '
                f"(known: {', '.join(names) or 'none'})"
            )


def of_user(fitted: Fitted, given: Mapping[str, Any]) -> None:
    """Raise QueryError for a value of a user that the run's column of the name cannot hold."""
    for name, kind in fitted.prepared.users.drop("key").schema.items():
        if (value := given.get(name)) is None:
            continue
        try:
            read = pl.DataFrame({name: [value]}, schema={name: kind}, strict=False)[name][0]
        except UNFIT:
            read = None
        if read is None:
            raise _refused(name, value, kind)


def of_item(fitted: Fitted, given: Mapping[str, Any]) -> None:
    """Raise QueryError for a value of an item that the run's column of the name cannot hold."""
    columns = attributes(fitted.prepared.items)
    for name, kind in columns.schema.items():
        if (value := given.get(name)) is None:
            continue
        try:
            row = pl.DataFrame({name: [value]}, strict=False)
            read = fitting(row, columns.select(name), {}).schema[name]
        except UNFIT:
            read = None
        if read != kind:  # an object is cast field by field
            raise _refused(name, value, kind)


def _refused(name: str, value: Any, kind: pl.DataType) -> QueryError:
    words = {pl.String: "text", pl.Boolean: "true or false", pl.List: "a list"}
    wanted = "a number" if kind.is_numeric() else words.get(kind.base_type(), f"of type {kind}")
    return QueryError(f"attribute {name} = {written(value)}: must be {wanted}")
