"""Popularity: overall, per domain, recent, and mean ratings."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from m6rec.data.query import DAY
from m6rec.models.popular import Popular
from m6rec.tracking import Run
from world import world


def test_overall_is_the_log_of_one_plus_the_users() -> None:
    data = world()
    score = Popular().fit(data, Run()).popularity
    users = (data.matrix.toarray() > 0).sum(axis=0)
    np.testing.assert_allclose(score, np.log(1 + users), rtol=1e-6)


def test_domain_scope_is_a_log_prior_in_each_domain() -> None:
    data = world()
    films = data.item_domain == 0
    busy = data.take(films[data.item] | (np.arange(len(data)) % 3 == 0))  # few events on books
    overall = Popular().fit(busy, Run()).popularity
    prior = Popular(scope="domain").fit(busy, Run()).popularity
    for domain in (films, ~films):
        assert np.exp(prior[domain]).sum() == pytest.approx(1, rel=1e-5)
        assert (np.argsort(prior[domain]) == np.argsort(overall[domain])).all()
    assert overall[films].mean() > overall[~films].mean() + 0.5
    assert abs(prior[films].mean() - prior[~films].mean()) < 0.2


def test_recent_popularity_halves_with_age() -> None:
    data = world()
    time = np.where(data.item == 3, data.now, data.now - 10 * DAY)
    aged = dataclasses.replace(data, time=time)
    score = Popular(half_life=10.0).fit(aged, Run()).popularity
    users = np.bincount(data.item, minlength=data.n_items)
    expected = np.log1p(np.where(np.arange(data.n_items) == 3, users, users / 2))
    np.testing.assert_allclose(score, expected, rtol=1e-6)


def test_ratings_are_shrunk_means_of_their_domain() -> None:
    data = world(explicit=True)
    score = Popular(shrink=4.0).fit(data, Run()).popularity
    own = data.item == 5
    films = data.item_domain[data.item] == 0
    mean = data.weight[films].mean()
    expected = (data.weight[own].sum() + 4 * mean) / (own.sum() + 4)
    assert score[5] == pytest.approx(expected, rel=1e-5)


def test_a_half_life_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="half_life = 0"):
        Popular(half_life=0.0)
