"""The forecast: what the parts find, λ, no look at what comes later, saved and loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from m6rec.arrays import Array, Ids
from m6rec.errors import DataError, RunError
from m6rec.opinion import forecast as forecasting
from m6rec.opinion import saved
from m6rec.opinion.across import Across
from m6rec.opinion.base import Base, levels, profile
from m6rec.opinion.forecast import Forecasting, fit
from m6rec.tracking import Run

DAY = 86_400
ALONE = Forecasting(lam=1.0)


def led(w: int = 240, followers: int = 3) -> tuple[Array, Ids]:
    """Entity 0 is noise; the others repeat it one window later; the last is noise of its own."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(followers + 2, w))
    x[1:-1, 1:] = 0.9 * x[0, :-1] + 0.3 * x[1:-1, 1:]
    return x, (np.arange(w) + 1) * DAY


def test_levels_are_the_weighted_mean_of_what_came_before() -> None:
    x = np.array([[np.nan, 2.0, np.nan, 4.0, 8.0]])
    for alpha in (0.0, 0.3, 1.0):
        for t in range(5):
            seen = x[0, : t + 1][~np.isnan(x[0, : t + 1])]
            weight = (1 - alpha) ** np.arange(len(seen))[::-1]
            wanted = (seen * weight).sum() / weight.sum() if len(seen) else np.nan
            np.testing.assert_allclose(levels(x, alpha)[0, t], wanted)


def test_the_base_finds_the_week() -> None:
    place = np.arange(70) % 7
    x = np.where(place == 5, 1.0, 0.0)[None] + 3.0
    pattern = profile(x, place, 7)
    assert pattern[0].argmax() == 5
    assert np.ptp(pattern[0]) == pytest.approx(10 / 14)  # drawn to none by 4 windows
    base, deviation = Base.fit(x, place, 0.0, 7).of(x, place, 0)
    assert base.shape == deviation.shape == x.shape
    assert base[0, 4] > base[0, 3] + 0.5, "the forecast of the sixth day stands at the fifth"


def test_neighbours_are_those_that_lead() -> None:
    x, _ = led()
    across = Across.fit(x, lags=3, k=5, sure=3.0, reg=0.1)
    names = ("leader", "a", "b", "c", "alone")
    for e in (1, 2, 3):
        name, back, weight = across.sources(e, names)[0]
        assert (name, back) == ("leader", 1)
        assert weight > 0.5
    made = across.forecast(x)
    assert np.corrcoef(made[1, :-1], x[1, 1:])[0, 1] > 0.8
    assert np.abs(made[4]).max() < np.abs(made[1]).max() / 3


def test_the_weights_are_the_ridge_regression_on_the_neighbours() -> None:
    x, _ = led(80)
    x[2, ::5] = np.nan
    across = Across.fit(x, lags=2, k=4, sure=2.0, reg=0.2)
    known = np.clip(np.nan_to_num(x), -4, 4)
    inputs = np.vstack([known[:, :-1], np.pad(known, ((0, 0), (1, 0)))[:, :-2]])  # now, before
    for e in range(len(x)):
        seen = ~np.isnan(x[e, 1:])
        columns = across.near[e][across.near[e] >= 0]
        a, y = inputs[columns][:, seen].T, np.clip(x[e, 1:][seen], -4, 4)
        gram = a.T @ a + (0.2 * seen.sum() + 1e-6) * np.eye(len(columns))
        wanted = np.linalg.solve(gram, a.T @ y)
        np.testing.assert_allclose(across.weight[e][across.near[e] >= 0], wanted, atol=1e-5)


def test_a_world_of_leaders_is_left_to_the_neighbours() -> None:
    x, ends = led()
    model = fit(x, ends, Forecasting(epochs=5), Run(threads=1))
    assert model.lam == 1.0
    base, across, _, fused = model.error
    assert fused == across < 0.7 * base
    found = model.forecast(x, ends)
    error = np.abs(found.value[1:4, 200:-1] - x[1:4, 201:]).mean()
    assert error < 0.6 * np.abs(found.base[1:4, 200:-1] - x[1:4, 201:]).mean()


def test_a_pattern_of_its_own_is_left_to_the_gru() -> None:
    rng = np.random.default_rng(1)
    start = rng.integers(0, 4, size=(12, 1))
    x = np.where((np.arange(200) + start) % 4 < 2, 1.0, -1.0) + rng.normal(0, 0.2, (12, 200))
    options = Forecasting(lags=1, k=1, sure=1e9, epochs=30, season=1)  # no help from neighbours
    model = fit(x, (np.arange(200) + 1) * DAY, options, Run(threads=1))
    base, _, gru, fused = model.error
    assert model.lam < 0.2
    assert fused <= gru < 0.5 * base


def test_noise_is_left_to_the_base() -> None:
    x = np.random.default_rng(2).normal(size=(6, 200))
    model = fit(x, (np.arange(200) + 1) * DAY, Forecasting(epochs=5), Run(threads=1))
    assert model.gain[0] <= 0.3
    assert model.error[3] <= model.error[0]


def test_bands_hold_what_they_say() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(20, 400)) * rng.uniform(0.5, 2, size=(20, 1))
    ends = (np.arange(400) + 1) * DAY
    model = fit(x[:, :300], ends[:300], Forecasting(lam=1.0, coverage=0.8), Run(threads=1))
    found = model.forecast(x, ends)
    inside = (x[:, 301:] >= found.low[:, 300:-1]) & (x[:, 301:] <= found.high[:, 300:-1])
    assert inside.mean() == pytest.approx(0.8, abs=0.03)


def test_nothing_looks_ahead() -> None:
    x, ends = led()
    x[0, ::7] = np.nan
    model = fit(x[:, :200], ends[:200], Forecasting(epochs=2), Run(threads=1))
    model = replace(model, lam=0.5, gain=(1.0, 1.0))
    whole = model.forecast(x, ends)
    changed = x.copy()
    changed[:, 220:] = 99.0
    other = model.forecast(changed, ends)
    for name in ("value", "low", "high", "base", "across", "gru"):
        a, b = getattr(whole, name)[:, :220], getattr(other, name)[:, :220]
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert not np.allclose(whole.value[:, 220], other.value[:, 220])


def test_without_torch_lambda_is_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecasting, "find_spec", lambda name: None)
    x, ends = led(100)
    model = fit(x, ends, Forecasting(), Run(threads=1))
    assert model.lam == 1.0
    assert not model.network


def test_a_gru_without_torch_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    x, ends = led(100)
    model = fit(x, ends, Forecasting(epochs=2), Run(threads=1))
    noise = np.random.default_rng(4).normal(size=(3, 60))
    silent = fit(noise, (np.arange(60) + 1) * DAY, Forecasting(epochs=1, lr=1e-9), Run(threads=1))
    monkeypatch.setattr(forecasting, "find_spec", lambda name: None)
    assert silent.gain[1] == 0
    assert silent.forecast(noise, (np.arange(60) + 1) * DAY).value.shape == noise.shape
    with pytest.raises(RunError, match="fit it again"):
        replace(model, network={"gru.weight_hh_l0": x}).forecast(x, ends)


def test_the_same_seed_gives_the_same_model() -> None:
    x, ends = led(100)
    a, b = (fit(x, ends, Forecasting(epochs=3), Run(seed=1, threads=1)).state() for _ in range(2))
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_saved_and_loaded_forecasts_the_same(tmp_path: Path) -> None:
    x, ends = led(100)
    model = fit(x, ends, Forecasting(epochs=3), Run(threads=1))
    names = ("a", "b", "c", "d", "e")
    saved.save(tmp_path / "f.safetensors", {"opinion": model}, names, 24.0)
    again = saved.load(tmp_path / "f.safetensors", names, 24.0)["opinion"]
    np.testing.assert_array_equal(again.forecast(x, ends).value, model.forecast(x, ends).value)
    assert (again.lam, again.gain, again.options) == (model.lam, model.gain, model.options)
    with pytest.raises(RunError, match=r"other entities \(f\)"):
        saved.load(tmp_path / "f.safetensors", (*names, "f"), 24.0)
    with pytest.raises(RunError, match=r"24\.0-hour windows"):
        saved.load(tmp_path / "f.safetensors", names, 12.0)
    (tmp_path / "f.safetensors").write_bytes(b"\x10")
    with pytest.raises(RunError, match="damaged"):
        saved.load(tmp_path / "f.safetensors", names, 24.0)
    with pytest.raises(RunError, match="no such file"):
        saved.load(tmp_path / "g.safetensors", names, 24.0)


def test_too_little_is_one_sentence() -> None:
    with pytest.raises(DataError, match="it needs 20"):
        fit(np.zeros((2, 10)), np.arange(10), ALONE, Run())
    with pytest.raises(ValueError, match="holdout = 1"):
        Forecasting(holdout=1)
    with pytest.raises(ValueError, match="lam = 2"):
        Forecasting(lam=2)
