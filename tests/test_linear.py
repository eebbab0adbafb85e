"""EASE against its definition, on either Gram side, whole, sparsified and by domain."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from m6rec.data.dataset import Dataset
from m6rec.errors import ConfigError
from m6rec.models.linear import ItemSide, Linear, LinearModel, UserSide
from m6rec.tracking import Run
from world import world


def literal(x: np.ndarray, reg: float) -> np.ndarray:
    """Steck (2019), equation 8: B = I − P · diagMat(1 ⊘ diag(P)), P = (XᵀX + λI)⁻¹."""
    p = np.linalg.inv(x.T @ x + reg * np.eye(x.shape[1]))
    return np.eye(x.shape[1]) - p / np.diag(p)


def fit(data: Dataset, **options: object) -> LinearModel:
    return Linear(**options).fit(data, Run())  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize(("n_users", "side"), [(120, ItemSide), (25, UserSide)])
def test_both_sides_are_the_closed_form(n_users: int, side: type, precision: str) -> None:
    data = world(n_users=n_users)
    model = fit(data, reg=7.0, precision=precision)
    assert isinstance(model.blocks[0], side)
    x = (data.matrix.toarray() > 0).astype(float)
    np.testing.assert_allclose(
        model.score(data.query(np.arange(9))), x[:9] @ literal(x, 7.0), atol=1e-5
    )


def test_domain_scope_is_one_regression_for_each_domain() -> None:
    data = world()
    model = fit(data, reg=7.0, scope="domain")
    x = (data.matrix.toarray() > 0).astype(float)
    books = data.item_domain == 1
    scores = model.score(data.query(np.arange(9)))
    np.testing.assert_allclose(
        scores[:, books], x[:9, books] @ literal(x[:, books], 7.0), atol=1e-5
    )
    only_films = data.take(data.item_domain[data.item] == 0).query(np.arange(9))
    assert np.isnan(model.score(only_films)[:, books]).all()
    assert not np.isnan(model.score(only_films)[:, ~books]).any()


@pytest.mark.parametrize("n_users", [120, 25])
def test_top_keeps_the_largest_weights_towards_each_item(n_users: int) -> None:
    data = world(n_users=n_users)
    x = (data.matrix.toarray() > 0).astype(float)
    b = literal(x, 7.0)
    cut = np.sort(np.abs(b), axis=0)[-5]
    expected = x[:9] @ np.where(np.abs(b) >= cut, b, 0)
    model = fit(data, reg=7.0, top=5)
    np.testing.assert_allclose(model.score(data.query(np.arange(9))), expected, atol=1e-5)


def test_item_without_events_abstains() -> None:
    data = world()
    model = fit(data.take(data.item != 7), reg=7.0)
    scores = model.score(data.query(np.arange(5)))
    assert np.flatnonzero(np.isnan(scores).any(axis=0)).tolist() == [7]


def test_binary_and_weighted_histories_differ() -> None:
    data = world()
    heavy = dataclasses.replace(data, weight=data.weight * 3)
    same = fit(data, reg=7.0).score(data.query(np.arange(5)))
    np.testing.assert_allclose(
        fit(heavy, reg=7.0).score(heavy.query(np.arange(5))), same, atol=1e-6
    )
    raw = fit(heavy, reg=63.0, binary=False).score(heavy.query(np.arange(5)))
    np.testing.assert_allclose(raw, 3 * same, atol=1e-5)  # λ scales with the square


def test_what_does_not_fit_in_memory_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"120 users × 40 items.*max_memory_gb = 1e-06"):
        fit(world(), max_memory_gb=1e-6)


def test_explicit_domains_abstain() -> None:
    data = world(explicit=True)
    assert np.isnan(fit(data).score(data.query(np.arange(4)))).all()


def test_a_gram_matrix_that_cannot_be_inverted_is_refused() -> None:
    twins = Dataset.build(user=np.repeat([0, 1], 3), item=np.tile([0, 1, 2], 2), users=2, items=3)
    with pytest.raises(ConfigError, match=r"reg = 1e-09 in float32; raise reg, or use precision"):
        fit(twins, reg=1e-9, precision="float32")
