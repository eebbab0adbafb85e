"""Ratings on scales of their own: what a part is told, and what comes back."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from m6rec.data.dataset import Dataset
from m6rec.data.normalise import By, Kind
from m6rec.data.schema import Domain
from m6rec.models.base import Recipe
from m6rec.models.neighbours import Neighbours
from m6rec.models.normalised import Normalised, Scales
from m6rec.models.pct import Pct
from m6rec.models.popular import Popular
from m6rec.tracking import Run
from world import world


def stretched(data: Dataset) -> Dataset:
    """Every third user rates from 0 to 100 where the others rate from 1 to 5."""
    return replace(data, weight=np.where(data.user % 3 == 0, 25 * (data.weight - 1), data.weight))


def error(recipe: Recipe, data: Dataset) -> float:
    """Mean relative error of every fifth rating, in deviations of its user."""
    hidden = np.arange(len(data)) % 5 == 0
    train, test = data.take(~hidden), data.take(hidden)
    scores = recipe.fit(train, Run(threads=1)).score(train.query(np.arange(data.n_users)))
    deviation = np.where(test.user % 3 == 0, 25, 1)
    return float(np.mean(((scores[test.user, test.item] - test.weight) / deviation) ** 2))


def test_users_with_scales_of_their_own_are_understood() -> None:
    data = stretched(world(explicit=True))
    plain = Neighbours(k=10, similarity="cosine")
    assert error(Normalised(part=plain), data) < 0.5 * error(plain, data)


@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize("by", get_args(By))
def test_ratings_come_back(kind: Kind, by: By) -> None:
    data = world(explicit=True)
    scales = Scales.fit(Normalised(part=Popular(), scale=kind, by=by), data)
    known = scales.of(data.matrix)
    told = scales.apply(known, data.user, data.item, data.weight)
    back = scales.inverse(known, data.user, data.item, told)
    if kind == "quantile":  # interpolated between few ratings
        assert np.corrcoef(back, data.weight)[0, 1] > 0.9
    else:
        np.testing.assert_allclose(back, data.weight, atol=1e-5)


def test_zscore_within_a_user_is_told_on_the_scale_of_the_domain() -> None:
    data = world(explicit=True)
    scales = Scales.fit(Normalised(part=Popular()), data)
    told = scales.told(data).weight
    films = data.item_domain[data.item] == 0
    mine = films & (data.user == 7)
    r = data.weight[mine]
    expected = scales.mean[0] + scales.deviation[0] * (r - r.mean()) / r.std()
    np.testing.assert_allclose(told[mine], expected, rtol=1e-5)


@pytest.mark.parametrize("by", get_args(By))
def test_a_new_user_has_scales_by_history_and_nobody_those_of_the_domain(by: By) -> None:
    data = stretched(world(explicit=True))
    model = Normalised(part=Neighbours(k=10), by=by).fit(data, Run(threads=1))
    known = data.query(np.array([3]))
    stranger = replace(known, user=np.array([-1]))
    np.testing.assert_array_equal(model.score(known), model.score(stranger))
    empty = data.query(np.array([-1]))
    assert model.score(empty).shape == (1, data.n_items)


def test_implicit_domains_pass_through() -> None:
    data = world()
    mixed = replace(
        data, domains=(data.domains[0], Domain(name="books", feedback="explicit")),
        weight=np.where(data.item_domain[data.item] == 1, data.user % 5 + 1.0, 1.0).astype("f4"),
    )  # fmt: skip
    plain = Neighbours(k=10, scope="domain").fit(mixed, Run(threads=1))
    model = Normalised(part=Neighbours(k=10, scope="domain")).fit(mixed, Run(threads=1))
    query, films = mixed.query(np.arange(9)), np.flatnonzero(mixed.item_domain == 0)
    np.testing.assert_allclose(model.score(query, films), plain.score(query, films), rtol=1e-5)


def test_options_of_the_part_are_chosen_on_normalised_ratings() -> None:
    data = world(explicit=True)
    model = Normalised(part=Pct(dim=4)).fit(data, Run(threads=1))
    assert isinstance(model.recipe.part, Pct)
    assert set(model.recipe.part.domains) == {"films", "books"}
