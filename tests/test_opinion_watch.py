"""From readings to a report, and the backtest beside CUSUM, on made-up worlds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from m6rec.errors import ConfigError, DataError
from m6rec.opinion.alerts import Rule, Signal, alarms, alerts
from m6rec.opinion.backtest import backtest, compare
from m6rec.opinion.cusum import cusum, limit
from m6rec.opinion.events import _SUGGESTIONS, _TEXTS, Event, words
from m6rec.opinion.forecast import Forecasting
from m6rec.opinion.series import Series, build
from m6rec.opinion.shocks import Made, World, make
from m6rec.opinion.stories import FIRMS, documents, named
from m6rec.opinion.watch import Report, Watching, watch
from m6rec.tracking import Run

DAY = 86_400
WORLD = World(entities=6, sectors=2, windows=140, documents=15, shocks=4, size=0.7, seed=1)
OPTIONS = Watching(forecast=Forecasting(lam=1.0), measures=("opinion", "return", "documents"))


@pytest.fixture(scope="module")
def made() -> Made:
    return named(make(WORLD))


@pytest.fixture(scope="module")
def report(made: Made) -> Report:
    told = documents(made)
    return watch(made.readings, made.prices, OPTIONS, documents=told, run=Run(threads=1))


def test_the_generator_is_what_it_says(made: Made) -> None:
    readings = made.readings
    assert readings["sentiment"].is_between(-1, 1).all()
    assert readings["confidence"].is_between(0.5, 1).all()
    per_day = readings.height / WORLD.windows / WORLD.entities
    assert 0.6 * WORLD.documents < per_day < 1.6 * WORLD.documents
    series = build(make(WORLD).readings)
    assert series.values["opinion"].shape == made.opinion.shape
    assert np.nanmean(np.abs(series.values["opinion"] - made.opinion)) < 0.1
    assert made.shocks.height == 4
    assert named(make(WORLD)).readings.equals(made.readings), "the same seed, the same world"
    assert not make(replace(WORLD, seed=2)).readings.equals(make(WORLD).readings)


def test_stories_are_in_two_languages_and_have_the_tone_of_the_reading(made: Made) -> None:
    told = documents(made)
    assert told["document"].to_list() == made.readings["document"].to_list()
    share = (told["language"] == "zh").mean()
    assert 0.35 < share < 0.45
    sad = told.filter(made.readings["sentiment"] < -0.8)
    assert sad.filter(pl.col("title").str.contains("beats|record|growth|创新高|增长")).height == 0
    names = {name for firm in FIRMS for name in firm}
    assert all(any(name in title for name in names) for title in told["title"].head(50))


def test_a_report_finds_the_shocks(made: Made, report: Report) -> None:
    raised = [event.alert for event in report.events]
    assert raised == sorted(raised, key=lambda a: -a.time)
    result = backtest(
        report.series,
        [a for a in raised if a.kind == "change"],
        made.shocks,
        horizon=8,
        since=int(report.series.ends[50]),
    )
    assert result.recall >= 0.75
    assert report.changes.filter(pl.col("known") <= pl.col("time")).height == 0
    assert set(report.drifts.columns) == {"entity", "time", "before", "after"}


def test_a_report_forecasts_the_next_window(report: Report) -> None:
    assert set(report.models) == {"opinion", "return", "documents"}
    opinion = report.forecast.filter(pl.col("measure") == "opinion")
    assert opinion.height == 6
    assert (opinion["time"] == int(report.series.ends[-1]) + DAY).all()
    assert (opinion["low"] <= opinion["forecast"]).all()
    assert (opinion["forecast"] <= opinion["high"]).all()
    assert opinion["low"].min() >= -1


def test_what_drove_an_alert(made: Made, report: Report) -> None:
    event = next(e for e in report.events if e.alert.kind == "change")
    a = event.alert
    assert event.documents.height == 5
    shares = event.documents["share"].to_list()
    assert shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) <= 1
    own = made.readings.filter(pl.col("document").is_in(event.documents["document"].to_list()))
    assert set(own["entity"]) == {a.entity}
    assert (own["time"] < a.time).all()
    assert (own["time"] >= a.time - a.windows * DAY).all()
    pushed = a.direction * (event.documents["sentiment"] - a.expected)
    assert (pushed > 0).all()
    assert event.terms
    assert a.entity not in dict(event.along)


def test_nothing_after_a_window_has_a_part_in_its_alerts(made: Made, report: Report) -> None:
    event = report.events[len(report.events) // 2]
    cut = watch(
        made.readings,
        made.prices,
        replace(OPTIONS, measures=()),
        documents=documents(made),
        until=event.alert.time,
    )
    again = next(e for e in cut.events if e.alert.key == event.alert.key)
    assert again.alert == event.alert
    assert again.documents.equals(event.documents)
    assert (again.terms, again.along) == (event.terms, event.along)


def test_records_are_what_a_store_keeps(report: Report) -> None:
    record = report.records()[0]
    event = report.events[0]
    assert record.key == event.alert.key
    assert record.text == event.text()
    assert record.details["suggestion_zh"] == event.suggestion("zh")
    assert record.details["documents"][0]["share"] == event.documents["share"][0]


def test_no_text_says_what_to_buy(report: Report) -> None:
    texts = [
        text for of in (_TEXTS, _SUGGESTIONS) for told in of.values() for text in told.values()
    ]
    texts += [e.text(x) + e.suggestion(x) for e in report.events for x in ("en", "zh")]
    for text in texts:
        lower = text.lower()
        orders = ("buy", "sell", "hold", "invest", "should", "买", "卖", "持有", "建仓", "减仓")
        assert not any(word in lower for word in orders), text


def test_words_of_both_languages() -> None:
    found = words(["Profit WARNING, at 3 AM", "公司发布盈利预警", None])
    assert {"profit", "warning"} <= found
    assert "am" not in found
    assert any("盈利" in word or "预警" in word for word in found)


def test_an_alert_without_documents_says_so(made: Made) -> None:
    found = watch(made.readings, options=replace(OPTIONS, measures=()))
    event = next(e for e in found.events if e.alert.kind == "change")
    assert event.terms == ()
    assert set(event.documents["title"]) == {""}
    silent = Event(event.alert, event.documents.head(0), 0, (), ())
    assert silent.suggestion().startswith("No document")
    assert silent.suggestion("zh").startswith("没有文章")


def test_too_short_for_a_forecast_is_a_note(made: Made) -> None:
    few = made.readings.filter(pl.col("time") < WORLD.start + 10 * DAY)
    found = watch(few, options=OPTIONS)
    assert found.forecast.height == 0
    assert "it needs 20" in found.notes[0]


def test_an_unknown_measure_is_one_sentence(made: Made) -> None:
    with pytest.raises(ConfigError, match=r'"opinio".*did you mean "opinion"') as found:
        watch(made.readings, options=replace(OPTIONS, measures=("opinio",)))
    assert "volume" in str(found.value)


def shocked() -> tuple[Series, pl.DataFrame]:
    x = np.random.default_rng(0).normal(0, 0.1, (3, 100))
    x[0, 60:70] += 1
    x[1, 80:90] -= 1
    values = {"opinion": x, "evidence": np.full(x.shape, 9.0)}
    series = Series(("A", "B", "C"), (np.arange(100) + 1) * DAY, values)
    shocks = [("A", 60 * DAY, 1), ("B", 80 * DAY + 3600, -1), ("C", 70 * DAY, 1)]
    return series, pl.DataFrame(shocks, schema=["entity", "time", "direction"], orient="row")


def test_the_backtest_counts_as_by_hand() -> None:
    series, shocks = shocked()
    raised = alerts(series, [Rule(name="t", kind="threshold", above=0.6, below=-0.6, cooldown=3)])
    assert [(a.entity, a.time // DAY - 1) for a in raised] == [
        ("A", 60), ("A", 64), ("A", 68), ("B", 80), ("B", 84), ("B", 88)
    ]  # fmt: skip
    found = backtest(series, raised, shocks, horizon=5)
    assert (found.shocks, found.alerts, found.found, found.true) == (3, 6, 2, 4)
    assert found.precision == pytest.approx(4 / 6)
    assert found.recall == pytest.approx(2 / 3)
    assert found.delay_mean == 0.0
    assert found.false_per_year == pytest.approx(2 / (3 * 100 / 365.25))
    wrong = shocks.with_columns(direction=-pl.col("direction"))
    assert backtest(series, raised, wrong, horizon=5).found == 0
    assert backtest(series, raised, shocks.drop("direction"), horizon=5).found == 2
    with pytest.raises(DataError, match="no column entity"):
        backtest(series, raised, shocks.drop("entity"), horizon=5)


def test_cusum_is_the_recursion() -> None:
    x = np.random.default_rng(1).normal(size=(1, 60))
    x[0, 20] = np.nan
    seen = cusum(x, 4.0)
    up = down = 0.0
    past: list[float] = []
    for t, v in enumerate(x[0]):
        if np.isnan(v):
            continue
        if len(past) >= 10:
            z = (v - np.mean(past)) / np.std(past, ddof=1)
            up, down = max(0, up + z - 0.5), max(0, down - z - 0.5)
            assert seen.score[0, t] == pytest.approx(max(up, down))
            if max(up, down) >= 4:
                up = down = 0
        past.append(v)


def test_a_limit_gives_the_false_alarms_asked_for() -> None:
    x = np.random.default_rng(2).normal(size=(20, 300))

    def detect(at: float) -> Signal:
        return cusum(x, at)

    at = limit(detect, 1 / 100, cooldown=5, since=20)
    found = len(alarms(detect(at), at, 5, 20)[0])
    assert 0.8 * 56 < found <= 56  # of 20 × 280 windows
    assert limit(detect, 1 / 1000, 5, 20) > at


def test_compare_puts_cusum_beside_the_rules() -> None:
    world = make(replace(WORLD, windows=200, shocks=6))
    series = build(world.readings, world.prices)
    rules = [Rule(name="c", kind="change"), Rule(name="s", kind="spike", measure="attention")]
    found = compare(series, rules, world.shocks, 8)
    assert found["rule"].to_list() == ["c", "s", "CUSUM"]
    assert found["recall"][0] >= 0.8
    assert found["recall"][2] >= 0.5
