"""Rules: what each sees, cool-down, and that nothing looks ahead."""

from __future__ import annotations

import numpy as np
import pytest

from m6rec import config
from m6rec.errors import ConfigError
from m6rec.opinion.alerts import Rule, alerts, frame, signal
from m6rec.opinion.series import Series

DAY = 86_400
W = 120


def quiet(seed: int = 0, **measures: np.ndarray) -> Series:
    """Two entities, A and B, with small noise in all measures; given ones instead."""
    rng = np.random.default_rng(seed)
    values = {
        "opinion": rng.normal(0.1, 0.05, (2, W)),
        "evidence": np.full((2, W), 5.0),
        "attention": np.log1p(rng.poisson(10, (2, W))),
        "return": rng.normal(0, 0.01, (2, W)),
    }
    return Series(("A", "B"), (np.arange(W) + 1) * DAY, values | measures)


def shifted(name: str, entity: int, since: int, by: float, until: int = W) -> np.ndarray:
    x = quiet().values[name].copy()
    x[entity, since:until] += by
    return x


def times(found: list) -> list[tuple[str, int]]:
    return [(a.entity, a.time // DAY - 1) for a in found]


def test_quiet_series_raise_nothing() -> None:
    rules = [
        Rule(name="t", kind="threshold", below=-0.5),
        Rule(name="c", kind="change", score=5),
        Rule(name="s", kind="spike", measure="attention", score=5),
        Rule(name="d", kind="divergence"),
    ]
    assert alerts(quiet(), rules) == []


def test_a_threshold_is_where_it_is_said() -> None:
    x = quiet().values["opinion"].copy()
    x[0, 50], x[1, 60] = -0.6, 0.8
    rule = Rule(name="t", kind="threshold", below=-0.5, above=0.8)
    found = alerts(quiet(opinion=x), [rule])
    assert times(found) == [("A", 50), ("B", 60)]
    assert [(a.direction, a.expected) for a in found] == [(-1, -0.5), (1, 0.8)]
    assert found[0].score == pytest.approx(0.1)


def test_a_change_that_stays_is_found_at_once_if_large_and_later_if_small() -> None:
    rule = Rule(name="c", kind="change")
    large = alerts(quiet(opinion=shifted("opinion", 0, 70, -0.5)), [rule])
    assert times(large)[0] == ("A", 70)
    assert large[0].direction == -1
    assert large[0].expected == pytest.approx(0.1, abs=0.02)
    small = alerts(quiet(opinion=shifted("opinion", 0, 70, 0.15)), [rule])
    entity, at = times(small)[0]
    assert entity == "A"
    assert 70 < at <= 78
    assert small[0].windows > 1


def test_the_score_is_welchs_with_weights() -> None:
    series = quiet()
    series.values["opinion"][0, 10:13] = np.nan
    n = series.values["evidence"][0] = np.random.default_rng(1).uniform(0.5, 9, W)
    seen = signal(series, Rule(name="c", kind="change", span=1, back=20))
    x, g = series.values["opinion"][0], n / (10 + n)
    for t in (15, 40):
        past = [i for i in range(max(0, t - 20), t) if not np.isnan(x[i])]
        weight = g[past] / g[past].sum()
        mu = (weight * x[past]).sum()
        v = (g[past] * (x[past] - mu) ** 2).sum() / (len(past) - 1)
        score = abs(x[t] - mu) / np.sqrt(v * (1 / g[t] + 1 / g[past].sum()))
        assert seen.score[0, t] == pytest.approx(score)
    assert np.isnan(seen.score[0, 11]), "nothing was said"
    assert np.isnan(seen.score[0, 5]), "too little before"


def test_little_evidence_is_no_change() -> None:
    x = shifted("opinion", 0, 70, -0.5, until=71)
    rule = Rule(name="c", kind="change", span=1)
    strong = signal(quiet(opinion=x), rule).score[0, 70]
    few = quiet(opinion=x).values["evidence"].copy()
    few[0, 70] = 0.1
    assert signal(quiet(opinion=x, evidence=few), rule).score[0, 70] < 0.5 * strong


def test_a_spike_is_up_and_knows_the_week() -> None:
    busy = np.where(np.arange(W) % 7 == 0, 3.0, 2.0) + np.random.default_rng(0).normal(
        0, 0.1, (2, W)
    )
    rule = Rule(name="s", kind="spike", measure="attention")
    assert alerts(quiet(attention=busy), [rule]) == []
    busy[1, 101] += 1.5  # a day on which little is usual
    busy[0, 90] -= 1.5
    assert times(alerts(quiet(attention=busy), [rule])) == [("B", 101)]


def test_a_divergence_needs_both_in_opposite_directions() -> None:
    rule = Rule(name="d", kind="divergence", span=4)
    up = shifted("opinion", 0, 80, 0.5)
    down = shifted("return", 0, 80, -0.05)
    assert times(alerts(quiet(**{"opinion": up, "return": down}), [rule]))[0][0] == "A"
    same = shifted("return", 0, 80, 0.05)
    assert alerts(quiet(**{"opinion": up, "return": same}), [rule]) == []
    assert alerts(quiet(opinion=up), [rule]) == []


def test_the_cool_down_is_of_each_entity_and_rule() -> None:
    x = quiet().values["opinion"].copy()
    x[0, 50:60], x[1, 51] = -0.9, -0.9
    rule = Rule(name="t", kind="threshold", below=-0.5, cooldown=3)
    other = Rule(name="u", kind="threshold", below=-0.5, cooldown=20)
    found = alerts(quiet(opinion=x), [rule])
    assert times(found) == [("A", 50), ("B", 51), ("A", 54), ("A", 58)]
    assert times(alerts(quiet(opinion=x), [other])) == [("A", 50), ("B", 51)]
    late = alerts(quiet(opinion=x), [rule], since=(51 + 1) * DAY)
    assert times(late) == [("A", 54), ("A", 58)], "earlier ones count for the cool-down"


def test_nothing_looks_ahead() -> None:
    x = shifted("opinion", 0, 70, -0.4)
    rules = [
        Rule(name="c", kind="change"),
        Rule(name="s", kind="spike", measure="attention", score=1.5),
        Rule(name="d", kind="divergence", score=1.0),
        Rule(name="t", kind="threshold", below=0),
    ]
    whole = quiet(opinion=x)
    for w in (60, 75, 90):
        until = [a for a in alerts(whole, rules) if a.time <= w * DAY]
        assert alerts(whole.until(w), rules) == until


def test_the_same_alert_has_the_same_key() -> None:
    series = quiet(opinion=shifted("opinion", 0, 70, -0.5))
    rules = [Rule(name="c", kind="change"), Rule(name="t", kind="threshold", below=-0.3)]
    once, twice = alerts(series, rules), alerts(series.until(100), rules)
    assert {a.key for a in twice} <= {a.key for a in once}
    assert len({a.key for a in once}) == len(once)
    assert frame(once)["key"].to_list() == [a.key for a in once]
    assert frame([]).columns == frame(once).columns


def test_a_rule_may_be_about_some_entities() -> None:
    x = np.full((2, W), -1.0)
    rule = Rule(name="t", kind="threshold", below=-0.5, entities=("B",))
    assert {a.entity for a in alerts(quiet(opinion=x), [rule])} == {"B"}


def test_rules_are_toml() -> None:
    rule = Rule(name="low", kind="threshold", below=-0.5, severity="critical", entities=("A",))
    assert config.from_table(Rule, config.to_table(rule)) == rule
    with pytest.raises(ConfigError, match="severity = 'loud'"):
        config.from_table(Rule, {"name": "x", "kind": "change", "severity": "loud"})
    with pytest.raises(ConfigError, match="a threshold needs above or below"):
        config.from_table(Rule, {"name": "x", "kind": "threshold"})
    with pytest.raises(ConfigError, match=r'no measure "volumes".*evidence'):
        alerts(quiet(), [Rule(name="x", kind="spike", measure="volumes")])
    with pytest.raises(ConfigError, match="need prices"):
        alerts(quiet(), [Rule(name="x", kind="spike", measure="volume")])
