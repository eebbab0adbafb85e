"""Change points and drift, each known only when it could be."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from m6rec.opinion.changes import Changes, changes, drifted, drifts, points
from m6rec.opinion.series import Series

DAY = 86_400


def step(at: int = 60, n: int = 100, size: float = 1.0) -> np.ndarray:
    x = np.random.default_rng(0).normal(0, 0.2, n)
    x[at:] += size
    return x


def test_a_step_is_found_where_it_is() -> None:
    ((point, known, before, after),) = points(step(), Changes())
    assert abs(point - 60) <= 1
    assert before == pytest.approx(0, abs=0.1)
    assert after == pytest.approx(1, abs=0.1)
    assert 60 < known <= 66


def test_a_point_counts_from_when_it_could_be_known() -> None:
    x = step()
    ((point, known, _, _),) = points(x, Changes())

    def found(n: int) -> bool:
        return any(abs(p - point) < Changes().least for p, *_ in points(x[:n], Changes()))

    assert not found(known)
    assert found(known + 1)


def test_noise_and_short_series_have_none() -> None:
    x = np.random.default_rng(1).normal(size=(20, 150))
    assert sum(len(points(row, Changes())) for row in x) <= 1
    assert points(np.array([0.0, 5.0, 0.0]), Changes()) == []
    assert points(np.ones(50), Changes()) == []


def test_gaps_do_not_shift_the_times() -> None:
    x = np.full((1, 200), np.nan)
    x[0, ::2] = step()
    ends = (np.arange(200) + 1) * DAY
    found = changes(Series(("A",), ends, {"opinion": x}), Changes())
    assert found.height == 1
    assert found["time"][0] == pytest.approx(120 * DAY, abs=2 * DAY)
    assert found["known"][0] > found["time"][0]
    assert changes(Series(("A",), ends, {"opinion": x * np.nan}), Changes()).schema == found.schema
    assert isinstance(found, pl.DataFrame)


def test_drift_is_said_after_it_began() -> None:
    rng = np.random.default_rng(2)
    x = np.r_[rng.uniform(0, 0.3, 500), rng.uniform(0.6, 1, 500)]
    found = drifted(x, 0.002)
    assert found
    assert 500 <= found[0] < 600
    assert drifted(x[:500], 0.002) == []


def test_drift_is_of_each_entity() -> None:
    rng = np.random.default_rng(3)
    told = pl.DataFrame(
        {
            "entity": ["A", "B"] * 400,
            "time": np.arange(800),
            "sentiment": rng.uniform(-0.2, 0.2, 800),
        }
    )
    moved = (pl.col("entity") == "B") & (pl.col("time") > 400)
    told = told.with_columns(sentiment=pl.col("sentiment") - pl.when(moved).then(0.7).otherwise(0))
    found = drifts(told.sample(fraction=1, shuffle=True, seed=0), Changes())
    assert set(found["entity"]) == {"B"}
    assert 400 < found["time"][0] < 520
    assert found["before"][0] > found["after"][0] + 0.3


def test_mistakes_are_one_sentence() -> None:
    with pytest.raises(ValueError, match="penalty = 0"):
        Changes(penalty=0)
