"""What people see: tables, notes and bars; and what programs read: JSON on stdout."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def examples(*lines: str) -> str:
    """Return the epilog of a help page."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


def as_json(value: Any) -> None:
    """Print one JSON document; NaN becomes null."""
    out.print(
        json.dumps(_finite(value), ensure_ascii=False, indent=2, default=str),
        markup=False,
        soft_wrap=True,
    )


def note(text: str) -> None:
    """Say something to a person, beside the output."""
    err.print(Text(text, style="dim"))


def heading(text: str) -> None:
    """Print a heading."""
    out.print()
    out.print(Text(text, style="bold"))


def caption(text: str) -> None:
    """Print a sentence that explains what follows."""
    out.print(Text(text, style="dim"))


def line(text: str) -> None:
    """Print a sentence."""
    out.print(Text(text))


def whole(text: str) -> None:
    """Print a line that holds a path or a command, unbroken, so that it can be copied."""
    out.print(Text(text), soft_wrap=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> None:
    """Print a table; columns that hold only numbers are aligned to the right."""
    shown = Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    for i, name in enumerate(columns):
        right = bool(rows) and all(isinstance(row[i], (int, float)) for row in rows)
        shown.add_column(
            Text(name),
            justify="right" if right else "left",
            header_style="dim",
            no_wrap=right or i == 0,
        )
    for row in rows:
        shown.add_row(*(value if isinstance(value, Text) else Text(_cell(value)) for value in row))
    out.print(shown)


def frame(data: pl.DataFrame, title: str = "") -> None:
    """Print a data frame as a table."""
    table(data.columns, [list(row) for row in data.iter_rows()], title)


def bars(json: bool = False) -> bool:
    """Whether progress is welcome: to a person."""
    return not json


def teller() -> Callable[[str], None]:
    """Return ``say(text)``, which prints each step with the seconds since the start."""
    start = time.monotonic()

    def say(text: str) -> None:
        note(f"{time.monotonic() - start:6.1f} s  {text}")

    return say


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
