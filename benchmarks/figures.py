"""Figures that are printed with their spread, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from m6rec.significance import Paired


class NoSpread(ValueError):
    """A number was to be printed alone."""


@dataclass(frozen=True)
class Figure:
    """A measured number: values, one a seed, and the 95 % interval of their mean over users.

    As text: the mean, ± the standard deviation over two seeds or more, and the interval. Raises
    NoSpread where there is neither.
    """

    values: tuple[float, ...]
    low: float = float("nan")
    high: float = float("nan")

    def __str__(self) -> str:
        seeds = len(self.values) > 1 and bool(np.isfinite(self.values).all())
        interval = bool(np.isfinite([self.low, self.high]).all())
        if not self.values or not (seeds or interval):
            raise NoSpread(
                f"{self.values or 'nothing'}: a number is printed with its spread alone; give "
                "two seeds or more, or an interval over users"
            )
        text = short(float(np.mean(self.values)))
        if seeds:
            text += f" ± {short(float(np.std(self.values, ddof=1)))}"
        return text + (f" [{short(self.low)}, {short(self.high)}]" if interval else "")


def short(value: float) -> str:
    """Return four places, without the zero before the point."""
    text = f"{value:.4f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def gain(found: Paired) -> str:
    """Return a difference with its interval; raises NoSpread where that is unknown."""
    if not np.isfinite([found.low, found.high]).all():
        raise NoSpread(f"a difference of {found.difference} without an interval is not printed")
    return f"{found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def seconds(values: Sequence[float]) -> str:
    """Return least and greatest of the seconds of several fits; one fit has no spread."""
    return f"{min(values):.1f}–{max(values):.1f}" if len(values) > 1 else "one fit"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table. Raises NoSpread for a cell that is a bare float."""
    lines = [header, ["---"] * len(header)]
    for row in rows:
        for name, cell in zip(header, row, strict=True):
            if isinstance(cell, float | np.floating):
                raise NoSpread(f'"{name}" = {cell}: a number is printed as a Figure, never alone')
        lines.append([str(cell) for cell in row])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
