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


class _Strings(FunctionElement[str]):
    inherit_cache = True


class _Integers(FunctionElement[int]):
    inherit_cache = True


@compiles(_Strings, "sqlite")
@compiles(_Integers, "sqlite")
def _in_sqlite(element: FunctionElement[Any], compiler: Any, **options: Any) -> str:
    return f"(SELECT value FROM json_each({compiler.process(element.clauses, **options)}))"


@compiles(_Strings, "postgresql")
@compiles(_Integers, "postgresql")
def _in_postgresql(element: FunctionElement[Any], compiler: Any, **options: Any) -> str:
    kind = "TEXT" if isinstance(element, _Strings) else "BIGINT"
    listed = compiler.process(element.clauses, **options)
    return f"(SELECT CAST(value AS {kind}) FROM json_array_elements_text(CAST({listed} AS JSON)))"


def among(column: sa.ColumnElement[Any], values: str | Collection[Any]) -> sa.ColumnElement[bool]:
    """Whether a column is one of the values, which are given here or by a parameter's name."""
    if isinstance(values, str):
        listed: sa.BindParameter[Any] = sa.bindparam(values, type_=_Listed())
    else:
        listed = sa.bindparam(None, values, type_=_Listed(), unique=True)
    kind = _Integers if isinstance(column.type, sa.Integer) else _Strings
    return column.op("IN", is_comparison=True)(kind(listed))
