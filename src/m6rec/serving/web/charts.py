"""Plots as plain numbers, which the templates draw as SVG: intervals and learning curves."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m6rec.explanation import Contribution, Explanation

WIDTH, HEIGHT = 320.0, 150.0  # of a plot of curves
LEFT, RIGHT, TOP, BOTTOM = 44.0, 8.0, 8.0, 22.0  # its margins
MOST = 12  # plots of curves on a page
POINTS = 300  # of one curve; longer ones are thinned
BY_ACTIVITY = "lambda/"  # values whose steps are levels of activity: a table of their own
REASONS = 6  # of an item
THIN = 0.4  # segments of a bar that are narrower are left out


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A value with its interval. x, low, high: 0 … 100 along the scale of its column."""

    value: float
    x: float
    low: float | None = None
    high: float | None = None
    half: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One line of a plot. points: for an SVG polyline. last: its last value."""

    name: str
    points: str
    last: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """A plot of curves. ticks: value and y; ends: first and last step."""

    name: str
    lines: tuple[Curve, ...]
    ticks: tuple[tuple[str, float], ...]
    ends: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A reason as a bar. segments: place of the part (-1 = none), x and width, 0 … 100. zero: x
    of the end that all bars share."""

    reason: Contribution
    segments: tuple[tuple[int, float, float], ...]
    zero: float


def bars(why: Explanation, parts: Sequence[str]) -> list[Bar]:
    """Return the REASONS that weigh most as bars on one scale, each split by what the parts add
    to it; those against the item point to the left."""
    told = sorted(why.contributions, key=lambda reason: -abs(reason.share))[:REASONS]
    told.sort(key=lambda reason: -reason.share)
    most, least = max([r.share for r in told] + [0.0]), min([r.share for r in told] + [0.0])
    room = (most - least) or 1.0
    zero = 100 * -least / room
    found = []
    for reason in told:
        width = 100 * abs(reason.share) / room
        x = zero if reason.share >= 0 else zero - width
        whole = sum(abs(value) for value in reason.parts.values())
        segments = []
        for name, value in reason.parts.items() if whole else [("", 1.0)]:
            wide = width * abs(value) / (whole or 1.0)
            if wide >= THIN:
                segments.append((parts.index(name) if name in parts else -1, x, wide))
            x += wide
        found.append(Bar(reason=reason, segments=tuple(segments), zero=zero))
    return found


def marks(entries: Sequence[Mapping[str, float]], zero: bool = False) -> list[Mark | None]:
    """Return a mark for each metric entry (value, low, high), all on one scale; None where an
    entry has no value. zero: the scale is symmetric around 0, which stands at 50."""
    told = [e[name] for e in entries for name in ("value", "low", "high") if name in e]
    if not told:
        return [None] * len(entries)
    low, high = min(told), max(told)
    if zero:
        high = max(abs(low), abs(high))
        low = -high
    room = (high - low) or 1.0

    def at(value: float) -> float:
        return round(4 + 92 * (value - low) / room, 2)

    found: list[Mark | None] = []
    for entry in entries:
        if "value" not in entry:
            found.append(None)
        elif "low" not in entry:
            found.append(Mark(value=entry["value"], x=at(entry["value"])))
        else:
            found.append(
                Mark(
                    value=entry["value"],
                    x=at(entry["value"]),
                    low=at(entry["low"]),
                    high=at(entry["high"]),
                    half=(entry["high"] - entry["low"]) / 2,
                )
            )
    return found


def curves(log: Path) -> list[Curves]:
    """Return the plots of a training's log: one for each scope and kind of value of two steps or
    more, its lines named by the last part of the value's name."""
    plots: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for line in _lines(log):
        kind, _, last = str(line["scalar"]).rpartition("/")
        scope = str(line.get("scope", "")).partition("/")[2]
        name = " · ".join(filter(None, [scope, (kind or last).replace("/", " · ")]))
        value, step = line.get("value"), line.get("step")
        if isinstance(value, (int, float)) and isinstance(step, int) and math.isfinite(value):
            plots.setdefault(name, {}).setdefault(last, []).append((step, float(value)))
    told = {
        name: {n: sorted(points) for n, points in lines.items() if len({s for s, _ in points}) > 1}
        for name, lines in plots.items()
    }
    return [_plot(name, lines) for name, lines in told.items() if lines][:MOST]


def _lines(log: Path) -> Iterable[dict[str, Any]]:
    if not log.is_file():
        return
    with log.open(encoding="utf-8") as file:
        for text in file:
            try:
                line = json.loads(text)
            except ValueError:
                continue
            scalar = str(line.get("scalar", "")) if isinstance(line, dict) else ""
            if scalar and not scalar.startswith(BY_ACTIVITY):
                yield line


def _plot(name: str, lines: Mapping[str, Sequence[tuple[int, float]]]) -> Curves:
    steps = [s for points in lines.values() for s, _ in points]
    values = [v for points in lines.values() for _, v in points]
    first, last, low, high = min(steps), max(steps), min(values), max(values)
    if high == low:
        low, high = low - 0.5, high + 0.5

    def place(step: int, value: float) -> str:
        x = LEFT + (WIDTH - LEFT - RIGHT) * (step - first) / (last - first)
        y = TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)
        return f"{x:.1f},{y:.1f}"

    return Curves(
        name=name,
        lines=tuple(
            Curve(
                name=n,
                points=" ".join(place(*p) for p in points[:: max(1, len(points) // POINTS)]),
                last=points[-1][1],
            )
            for n, points in lines.items()
        ),
        ticks=tuple(
            (f"{value:.3g}", TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low))
            for value in (high, (low + high) / 2, low)
        ),
        ends=(first, last),
    )
