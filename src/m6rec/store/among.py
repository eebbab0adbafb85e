"""``column IN list``, where the list is one parameter, of any length: JSON in both databases."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class _Listed(sa.types.TypeDecorator[Collection[Any]]):
    """A list of strings or of integers, as JSON."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Collection[Any] | None, dialect: sa.Dialect) -> str:
        return json.dumps(list(value or ()))


class _Strings(FunctionElement[bool]):
    """Of a column and a list: whether the column is one of it. It has no type, since SQLite would
    compare a boolean with 1, and not look into the index."""

    inherit_cache = True


class _Integers(_Strings):
    inherit_cache = True


@compiles(_Strings, "sqlite")
@compiles(_Integers, "sqlite")
def _in_sqlite(element: FunctionElement[bool], compiler: Any, **options: Any) -> str:
    column, listed = (compiler.process(each, **options) for each in element.clauses)
    return f"({column} IN (SELECT value FROM json_each({listed})))"


@compiles(_Strings, "postgresql")
@compiles(_Integers, "postgresql")
def _in_postgresql(element: FunctionElement[bool], compiler: Any, **options: Any) -> str:
    """As an array, which it looks up in the index of the column; joined with a list it may read
    the whole table, as long as that was not analysed."""
    column, listed = (compiler.process(each, **options) for each in element.clauses)
    kind = "BIGINT" if isinstance(element, _Integers) else "TEXT"
    values = f"SELECT CAST(value AS {kind}) FROM json_array_elements_text(CAST({listed} AS JSON))"
    return f"({column} = ANY (ARRAY({values})))"


def among(column: sa.ColumnElement[Any], values: str | Collection[Any]) -> sa.ColumnElement[bool]:
    """Whether a column is one of the values, which are given here or by a parameter's name."""
    if isinstance(values, str):
        listed: sa.BindParameter[Any] = sa.bindparam(values, type_=_Listed())
    else:
        listed = sa.bindparam(None, values, type_=_Listed(), unique=True)
    kind = _Integers if isinstance(column.type, sa.Integer) else _Strings
    return kind(column, listed)
