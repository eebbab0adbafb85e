"""Drift: quiet while things are as they were, one sentence for each thing that changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m6rec import artifacts
from m6rec.serving.drift import DAY, drift, stability
from m6rec.serving.live import Live
from m6rec.store import Event, Given, Store
from service import made_run

NOW = 1_780_000_000_000_000


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return artifacts.resolve(made_run(tmp_path_factory.mktemp("drift")))


@pytest.fixture
def store(tmp_path: Path, run: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path / 'm6rec.db'}")
    opened.import_run(artifacts.load(run))
    yield opened
    opened.close()


def of_films(store: Store, run: Path) -> dict[str, Any]:
    found = drift(store, Live.open(run, store), NOW)
    return next(each for each in found if each["domain"] == "films")


def day(store: Store, ago: int, rate: float, score: float, items: list[str] | None = None) -> None:
    """200 lists of one film each, so many days ago, of which a share is hit."""
    rng = np.random.default_rng(ago)
    at = NOW - ago * DAY - DAY // 2
    chosen = items or [f"films/i{i}" for i in rng.integers(20, size=200)]
    store.add_given(
        Given(request=f"r{ago}-{n}", user=f"u{n % 100}", item=item, position=0, time=at + n,
              run="run", score=score + rng.normal())
        for n, item in enumerate(chosen)
    )  # fmt: skip
    store.add_events(
        Event(user=f"u{n % 100}", item=item, type="event", time=at + n, request=f"r{ago}-{n}")
        for n, item in enumerate(chosen)
        if n % 100 < rate * 100
    )


def test_a_week_like_any_other_is_quiet(store: Store, run: Path) -> None:
    for ago in range(8):
        day(store, ago, 0.6, 1.0)
    found = of_films(store, run)
    assert found["warnings"] == []
    assert found["items"] < 0.25 and found["unknown"] == 0 and found["scores"] < 0.1
    assert found["hits"][1] < 0 < found["hits"][2]


def test_each_change_is_one_sentence(store: Store, run: Path) -> None:
    for ago in range(1, 8):
        day(store, ago, 0.6, 1.0)
    day(store, 0, 0.2, 3.0)
    store.add_events(
        Event(user=f"v{n}", item=f"films/fresh{n % 3}", type="event", time=NOW - DAY // 3)
        for n in range(300)
    )
    told = " | ".join(of_films(store, run)["warnings"])
    assert "unknown in training" in told
    assert "scores are spread otherwise" in told
    assert "fewer lists are hit than before (-" in told


def test_too_little_says_nothing(store: Store, run: Path) -> None:
    found = of_films(store, run)
    assert [found[name] for name in ("items", "unknown", "scores", "hits")] == [None] * 4


def test_stability_index() -> None:
    """By hand: shares (.5, .5) and (.25, .75), with many cases."""
    e, f = np.array([5e6, 5e6]), np.array([2.5e6, 7.5e6])
    assert stability(e, e) == pytest.approx(0)
    assert stability(e, f) == pytest.approx(0.25 * np.log(2) + 0.25 * np.log(1.5), rel=1e-4)
