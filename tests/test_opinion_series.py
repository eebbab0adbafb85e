"""Series of windows: weights, gaps, market measures."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from m6rec.errors import DataError
from m6rec.opinion.series import Windows, build, carried

DAY = 86_400


def readings(rows: list[tuple[str, float, str, float, float, int]]) -> pl.DataFrame:
    """Entity, time in days, source, sentiment, confidence, spread."""
    told = [(f"d{i}", e, int(t * DAY), s, x, c, n) for i, (e, t, s, x, c, n) in enumerate(rows)]
    names = ["document", "entity", "time", "source", "sentiment", "confidence", "spread"]
    return pl.DataFrame(told, schema=names, orient="row")


def test_a_window_is_the_weighted_mean_by_the_formula() -> None:
    rows = [
        ("A", 10.1, "wire", 0.8, 0.9, 1),
        ("A", 10.9, "forum", -0.4, 0.5, 7),
        ("B", 10.5, "wire", 0.1, 1.0, 1),
        ("A", 12.0, "wire", -1.0, 1.0, 1),
    ]
    options = Windows(hours=24, half_life=6, sources={"forum": 0.5})
    series = build(readings(rows), options=options)
    assert series.entities == ("A", "B")
    assert series.ends.tolist() == [11 * DAY, 12 * DAY, 13 * DAY]
    w = [0.9 * 0.5 ** (0.9 * 24 / 6), 0.5 * 0.5 * (1 + math.log(7)) * 0.5 ** (0.1 * 24 / 6)]
    opinion, evidence = series.values["opinion"], series.values["evidence"]
    assert opinion[0, 0] == pytest.approx((w[0] * 0.8 - w[1] * 0.4) / sum(w), rel=1e-4)
    assert evidence[0, 0] == pytest.approx(sum(w) ** 2 / (w[0] ** 2 + w[1] ** 2), rel=1e-4)
    assert opinion[0, 2] == -1.0  # 12.0 is the first moment of its window
    assert np.isnan(opinion[0, 1]), "a window without readings is a gap, not a zero"
    assert series.values["documents"].tolist() == [[2, 0, 1], [1, 0, 0]]


def test_a_source_of_weight_0_says_nothing() -> None:
    rows = [("A", 1.5, "spam", 1.0, 1.0, 9), ("A", 2.5, "wire", -0.5, 1.0, 1)]
    series = build(readings(rows), options=Windows(sources={"spam": 0}))
    assert np.isnan(series.values["opinion"][0, 0])
    assert series.values["documents"][0].tolist() == [0, 1]


def test_windows_after_until_are_left_out() -> None:
    said = readings([("A", t + 0.5, "wire", 0.0, 1.0, 1) for t in range(10)])
    assert build(said, until=5 * DAY).ends.tolist() == [t * DAY for t in range(1, 6)]
    assert build(said, until=5 * DAY - 1).ends[-1] == 4 * DAY, "a window that is not over"


def test_returns_go_over_days_without_trade() -> None:
    said = readings([("A", 1.5, "wire", 0.0, 1.0, 1), ("A", 5.5, "wire", 0.0, 1.0, 1)])
    rows = [("A", 1.7, 100.0, 10.0), ("A", 1.8, 110.0, 5.0), ("A", 4.7, 121.0, 0.0)]
    prices = pl.DataFrame(
        [(e, int(t * DAY), c, v) for e, t, c, v in rows],
        schema=["entity", "time", "close", "volume"],
        orient="row",
    )
    values = build(said, prices).values
    assert values["close"][0, 0] == 110.0
    assert np.isnan(values["return"][0, [0, 1, 2, 4]]).all()
    assert values["return"][0, 3] == pytest.approx(math.log(1.1))
    assert values["volume"][0, 0] == pytest.approx(math.log(15))
    assert np.isnan(values["volume"][0, 3]), "no volume is not a volume of 0"


def test_the_frame_has_null_where_there_is_nothing() -> None:
    frame = build(readings([("A", 1.5, "w", 0.3, 1.0, 1), ("B", 2.5, "w", 0.1, 1.0, 1)])).frame()
    assert frame.filter(pl.col("opinion").is_null()).select("entity", "time").rows() == [
        ("A", 3 * DAY),
        ("B", 2 * DAY),
    ]


def test_carried_fills_only_what_came_after() -> None:
    x = np.array([[np.nan, 1.0, np.nan, 3.0, np.nan]])
    np.testing.assert_array_equal(carried(x), [[np.nan, 1.0, 1.0, 3.0, 3.0]])


def test_mistakes_are_one_sentence() -> None:
    said = readings([("A", 1.5, "w", 0.3, 1.0, 1), ("A", 2.5, "w", 0.3, 1.0, 1)])
    with pytest.raises(DataError, match="unix seconds"):
        build(said.with_columns(pl.col("time") * 1_000_000))
    with pytest.raises(DataError, match="no window has ended"):
        build(said, until=0)
    with pytest.raises(DataError, match="no column sentiment"):
        build(said.drop("sentiment"))
    with pytest.raises(DataError, match="no readings"):
        build(said.head(0))
    with pytest.raises(ValueError, match=r"sources\.x = -1"):
        Windows(sources={"x": -1})
