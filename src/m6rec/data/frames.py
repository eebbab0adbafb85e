"""polars and pandas DataFrames in: the same preparation as for files."""

from __future__ import annotations

from typing import Any

import polars as pl

from m6rec import config
from m6rec.data.delimited import ROW
from m6rec.data.drops import Drops
from m6rec.data.prepare import Loaded, Prepared, encode
from m6rec.data.schema import DataConfig, Role, Table
from m6rec.errors import DataError
from m6rec.tracking import Run


def from_frames(
    interactions: Any,
    items: Any = None,
    users: Any = None,
    links: Any = None,
    *,
    run: Run | None = None,
    **options: Any,
) -> Prepared:
    """Prepare polars (lazy too) or pandas frames.

    options: the entries of the ``[data]`` table, such as ``columns={"user": "buyer"}``,
    ``domains={"films": {"feedback": "explicit"}}``, ``clean={"core_users": 5}``.
    Raises DataError for what is no frame or lacks a column, ConfigError for a wrong option.
    """
    settings = config.from_table(DataConfig, options, "data")
    given: dict[Role, Any] = {
        "interactions": interactions, "items": items, "users": users, "links": links
    }  # fmt: skip
    tables: dict[Role, list[Loaded]] = {
        role: [] if frame is None else [(Table(path=role), lazy(frame, role))]
        for role, frame in given.items()
    }
    return encode(settings, tables, Drops(settings.strict), run or Run())


def lazy(frame: Any, role: Role) -> pl.LazyFrame:
    """Return a polars or pandas frame as one that ``encode`` takes; DataError for what is none."""
    if not isinstance(frame, (pl.DataFrame, pl.LazyFrame)):
        if type(frame).__module__.split(".")[0] != "pandas" or not hasattr(frame, "columns"):
            raise DataError(
                f"{role}: must be a polars or pandas DataFrame, not {type(frame).__name__}"
            )
        frame = pl.from_pandas(frame)
    numbered: pl.LazyFrame = frame.lazy().with_row_index(ROW, 1)
    return numbered
