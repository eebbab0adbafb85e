"""Normalisation: what each kind means, groups, inverses, and what is missing."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m6rec.data.normalise import Kind, Normaliser
from m6rec.errors import ConfigError

KINDS = get_args(Kind)
numbers = st.lists(st.integers(-50, 50).map(float), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(numbers, st.sampled_from(KINDS), st.integers(1, 4), st.integers(0, 5))
def test_inverse_gives_back_fitted_values(
    values: list[float], kind: Kind, n: int, seed: int
) -> None:
    x = np.array(values)
    group = np.random.default_rng(seed).integers(-1, n, len(x))
    fitted = Normaliser.fit(x, kind, group, n)
    if kind == "quantile":  # exact at the ends of a group; knots are interpolated between
        x = np.array([x.min(), x.max()])
        group = np.array([-1, -1])
    np.testing.assert_allclose(
        fitted.inverse(fitted.apply(x, group), group), x, rtol=1e-9, atol=1e-6
    )


@settings(max_examples=60, deadline=None)
@given(numbers, st.sampled_from(KINDS))
def test_order_is_kept(values: list[float], kind: Kind) -> None:
    x = np.sort(values)
    assert (np.diff(Normaliser.fit(x, kind).apply(x)) >= -1e-12).all()


def test_each_kind_means_what_it_says() -> None:
    x = np.array([1.0, 2.0, 3.0, 6.0, np.nan])
    apply = {kind: Normaliser.fit(x, kind).apply(x) for kind in KINDS}
    np.testing.assert_allclose(apply["none"], x)
    np.testing.assert_allclose(apply["center"][:4], [-2, -1, 0, 3])
    np.testing.assert_allclose(apply["minmax"][:4], [0, 0.2, 0.4, 1])
    assert abs(np.nanmean(apply["zscore"])) < 1e-12
    assert np.nanstd(apply["zscore"]) == pytest.approx(1)
    logged = np.log1p(x[:4])
    np.testing.assert_allclose(apply["log"][:4], (logged - logged.mean()) / logged.std())
    np.testing.assert_allclose(apply["quantile"][:4], [0, 1 / 3, 2 / 3, 1], atol=0.02)
    assert all(np.isnan(y[4]) for y in apply.values())


def test_quantile_of_ties_is_the_middle_of_their_range() -> None:
    fitted = Normaliser.fit(np.array([1.0, 2.0, 2.0, 2.0, 3.0]), "quantile")
    assert fitted.apply(np.array([2.0]))[0] == pytest.approx(0.5, abs=0.02)
    assert fitted.inverse(np.array([0.5]))[0] == 2


def test_the_overall_figures_may_be_of_other_values() -> None:
    value, group = np.array([5.0, 3.0, 2.0]), np.array([0, 0, 1])
    fitted = Normaliser.fit(value, "center", group, 3, overall=np.array([1.0, 2.0]))
    np.testing.assert_allclose(fitted.center, [4, 2, 1.5, 1.5])


def test_equal_ratings_take_the_overall_scale() -> None:
    group, value = np.array([0, 0, 1, 1]), np.array([5.0, 5.0, 1.0, 3.0])
    fitted = Normaliser.fit(value, "zscore", group, 2)
    assert fitted.scale[0] == pytest.approx(value.std())
    assert fitted.apply(np.array([1.0]), np.array([0]))[0] == pytest.approx(-4 / value.std())


def test_state_round_trip() -> None:
    x = np.random.default_rng(0).normal(size=50)
    for kind in KINDS:
        fitted = Normaliser.fit(x, kind)
        again = Normaliser.restore(kind, fitted.state())
        np.testing.assert_array_equal(again.apply(x), fitted.apply(x))


def test_unknown_kind_is_named() -> None:
    with pytest.raises(ConfigError, match=r'normalise = "z-score".*did you mean "zscore"'):
        Normaliser.fit(np.ones(2), "z-score")  # type: ignore[arg-type]
