"""Intervals and tests on data whose spread is known."""

from __future__ import annotations

import numpy as np
import pytest

from m6rec.significance import LEAST, bootstrap_ci, holm, paired


def test_interval_agrees_with_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 2000)
    low, high = bootstrap_ci(values, np.random.default_rng(1), n=2000)
    error = values.std() / np.sqrt(2000)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)


def test_rows_of_one_user_are_drawn_together() -> None:
    """Ten copies of every row say no more than one; taken alone they would."""
    values = np.random.default_rng(0).normal(size=300)
    copies, user = np.repeat(values, 10), np.repeat(np.arange(300), 10)

    def width(**options: np.ndarray) -> float:
        low, high = bootstrap_ci(copies, np.random.default_rng(1), **options)
        return high - low

    single = np.subtract(*bootstrap_ci(values, np.random.default_rng(1))[::-1])
    assert width(cluster=user) == pytest.approx(single, rel=0.1)
    assert width() < 0.5 * single


def test_nan_and_weight_zero_are_left_out() -> None:
    values = np.r_[1.0, np.nan, 7.0, np.ones(LEAST)]
    weight = np.r_[2.0, 1.0, 0.0, np.full(LEAST, 3.0)]
    low, high = bootstrap_ci(values, np.random.default_rng(0), weight=weight)
    assert (low, high) == (1.0, 1.0)
    assert np.isnan(bootstrap_ci(np.full(3, np.nan), np.random.default_rng(0))).all()


def test_paired_test_finds_a_small_consistent_gain_and_no_other() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(1000)
    better = base + rng.normal(0.01, 0.05, 1000)
    test = paired(better, base, np.random.default_rng(1))
    assert test.difference == pytest.approx((better - base).mean())
    assert 0 < test.low < test.difference < test.high
    assert test.p < 0.001
    assert paired(base, better, np.random.default_rng(1)).difference == -test.difference
    assert paired(base, rng.permutation(base), np.random.default_rng(1)).p > 0.5
    assert paired(base, base, np.random.default_rng(1)).p == 1.0


def test_a_value_on_one_side_only_does_not_count() -> None:
    """Where both have a value they are equal; b has ones elsewhere."""
    a, b = np.zeros(100), np.repeat([0.0, 1.0], 50)
    a[50:] = np.nan
    for one, other in ((a, b), (b, a)):
        assert paired(one, other, np.random.default_rng(0)) == (0.0, 0.0, 0.0, 1.0)


def test_false_alarms_are_as_rare_as_the_p_value_says() -> None:
    rng = np.random.default_rng(3)
    for users in (LEAST, 60):
        p = [paired(*rng.normal(size=(2, users)), rng, n=200).p for _ in range(200)]
        assert 0.01 < np.mean(np.array(p) < 0.05) < 0.12


def test_root_compares_rmse() -> None:
    a, b = np.full(5, 4.0), np.ones(5)
    assert paired(a, b, np.random.default_rng(0), root=True).difference == 1.0


def test_few_users_prove_nothing() -> None:
    """Forty rows of nineteen users; twenty users are enough."""
    rng, user = np.random.default_rng(0), np.arange(40) % 19
    ones, zeros = np.ones(40), np.zeros(40)
    found = paired(ones, zeros, rng, cluster=user)
    assert found.difference == 1.0
    assert np.isnan([found.low, found.high, found.p]).all()
    assert np.isnan(bootstrap_ci(ones, rng, cluster=user)).all()
    assert paired(ones, zeros, rng, cluster=np.arange(40) % 20).p < 0.01


def test_holm_by_hand() -> None:
    p = np.array([0.01, 0.04, np.nan, 0.03, 0.005])
    np.testing.assert_allclose(holm(p), [0.03, 0.06, np.nan, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1.0, 1.0])
