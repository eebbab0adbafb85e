"""Series of an entity as plain numbers, which the templates draw as SVG."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 720.0, 190.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 16.0, 12.0, 22.0  # margins
SPARK_WIDTH, SPARK_HEIGHT = 96.0, 22.0
BARS = 0.24  # share of the height that bars below a line may have
Values = Sequence[float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """The forecast of the next window: x of its middle, half its width, and y of the value and of
    both ends."""

    x: float
    half: float
    y: float
    low: float
    high: float
    told: tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """lines: for SVG polylines, one for each run without a gap; dots: of runs of one. bars: x, y,
    width and height. ticks: text and y. dates: text, x and anchor. changes: x, date, and means
    before and after. zero: y of 0, None where it is outside."""

    name: str
    lines: tuple[str, ...]
    dots: tuple[tuple[float, float], ...]
    bars: tuple[tuple[float, float, float, float], ...]
    ticks: tuple[tuple[str, float], ...]
    dates: tuple[tuple[str, float, str], ...]
    changes: tuple[tuple[float, str, float, float], ...]
    band: Band | None
    zero: float | None


def day(at: int) -> str:
    """Return the date of unix seconds."""
    return time.strftime("%Y-%m-%d", time.gmtime(at))


def plot(name: str, body: Mapping[str, Any], line: str, bars: str, windows: int) -> Plot | None:
    """Return the plot of a report: one measure as a line, with change points and forecast if it
    has them, and another as bars below; None where the first has no value."""
    times: list[int] = body["times"][-windows:]
    values: Values = body["values"].get(line, [])[-windows:]
    below: Values = body["values"].get(bars, [])[-windows:]
    ahead = next((row for row in body["forecast"] if row["measure"] == line), None)
    known = [v for v in values if v is not None]
    if not known:
        return None
    told = [*known, *([ahead["low"], ahead["high"]] if ahead else [])]
    low, high = _range(told, line)
    step = times[1] - times[0] if len(times) > 1 else 86_400
    first, last = times[0], times[-1] + (2 * step if ahead else 0)

    def at(moment: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (moment - first) / max(last - first, 1)

    def up(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    runs = [[(at(t), up(v)) for t, v in run] for run in _runs(times, values)]
    most = max((v for v in below if v is not None), default=0) or 1
    wide = max(1.0, (at(times[0] + step) - at(times[0])) * 0.72)
    floor, room = HEIGHT - BOTTOM, (HEIGHT - TOP - BOTTOM) * BARS
    changes = [
        (at(row["time"]), day(row["time"]), row["before"], row["after"])
        for row in body["changes"] if line == "opinion" and first <= row["time"] <= times[-1]
    ]  # fmt: skip
    band = None
    if ahead:
        band = Band(
            x=at(times[-1] + step), half=max(wide / 2, 3.0), y=up(ahead["forecast"]),
            low=up(ahead["low"]), high=up(ahead["high"]),
            told=(ahead["low"], ahead["forecast"], ahead["high"]),
        )  # fmt: skip
    middle = times[len(times) // 2]
    return Plot(
        name=name,
        lines=tuple(" ".join(f"{x:.1f},{y:.1f}" for x, y in run) for run in runs if len(run) > 1),
        dots=tuple(run[0] for run in runs if len(run) == 1),
        bars=tuple(
            (at(t) - wide / 2, floor - room * v / most, wide, room * v / most)
            for t, v in zip(times, below, strict=False) if v
        ),
        ticks=tuple((_tick(v), up(v)) for v in (high, (low + high) / 2, low)),
        dates=(
            (day(times[0]), LEFT, "start"), (day(middle), at(middle), "middle"),
            (day(times[-1]), at(times[-1]), "end"),
        ),
        changes=tuple(changes),
        band=band,
        zero=up(0) if low < 0 < high else None,
    )  # fmt: skip


def spark(values: Values) -> tuple[str, ...]:
    """Return the polylines of a small picture of an opinion, from −1 to 1."""
    step = SPARK_WIDTH / max(len(values) - 1, 1)
    runs = _runs(range(len(values)), values)
    return tuple(
        " ".join(f"{i * step:.1f},{1 + (SPARK_HEIGHT - 2) * (1 - v) / 2:.1f}" for i, v in run)
        for run in runs if len(run) > 1
    )  # fmt: skip


def _runs(places: Sequence[int], values: Values) -> list[list[tuple[int, float]]]:
    """Runs of values without a gap."""
    runs: list[list[tuple[int, float]]] = [[]]
    for place, value in zip(places, values, strict=False):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((place, value))
    return [run for run in runs if run]


def _range(values: Sequence[float], line: str) -> tuple[float, float]:
    low, high = min(values), max(values)
    if line == "opinion":
        wide = max(abs(low), abs(high), 0.25)
        return -min(1.0, wide * 1.05), min(1.0, wide * 1.05)
    room = (high - low) or abs(high) or 1.0
    return low - 0.45 * room, high + 0.05 * room  # the bars stand below


def _tick(value: float) -> str:
    size = f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"
    return size.replace("-", "−")
