"""The graph filter against its dense definition, and the basis against an exact SVD."""

from __future__ import annotations

import numpy as np
import pytest

from m6rec.models.additive import normalised
from m6rec.models.graph import Graph, right_basis
from m6rec.tracking import Run
from world import world


@pytest.mark.parametrize(("user_power", "item_power"), [(0.5, 0.5), (0.3, 0.4)])
def test_score_is_the_dense_filter(user_power: float, item_power: float) -> None:
    data = world()
    recipe = Graph(
        dim=6, user_power=user_power, item_power=item_power, low_pass=0.2, sharpen=1.5, sweeps=30
    )
    model = recipe.fit(data, Run())
    h = (data.matrix.toarray() > 0).astype(float)
    n_user, n_item = h.sum(axis=1), h.sum(axis=0)
    r = h / n_user[:, None] ** user_power / n_item**item_power
    r /= np.linalg.svd(r, compute_uv=False)[0]
    _, sigma, vt = np.linalg.svd(r)
    v, gain = model.basis.matrix, 1 - 1.5 * sigma[:6] ** 2
    np.testing.assert_allclose(v @ v.T, vt[:6].T @ vt[:6], atol=0.01)  # but for the rounding
    expected = h @ r.T @ r + 0.2 * (h / n_item**item_power) @ v * gain @ v.T * n_item**0.5
    np.testing.assert_allclose(model.score(data.query(np.arange(120))), expected, atol=2e-4)


def test_gf_cf_is_a_special_case() -> None:
    """Shen et al. (2021): s = r (R̃ᵀR̃ + α D^-½ V Vᵀ D^½)."""
    data = world()
    model = Graph(dim=4, low_pass=0.3, sharpen=0.0, sweeps=30).fit(data, Run())
    h = (data.matrix.toarray() > 0).astype(float)
    r = h / np.sqrt(h.sum(axis=1))[:, None] / np.sqrt(h.sum(axis=0))
    v = model.basis.matrix
    d = np.diag(h.sum(axis=0))
    expected = h @ (r.T @ r + 0.3 * np.linalg.inv(np.sqrt(d)) @ v @ v.T @ np.sqrt(d))
    np.testing.assert_allclose(model.score(data.query(np.arange(120))), expected, atol=2e-4)


def test_basis_is_close_to_the_exact_one() -> None:
    rows = normalised(world(n_users=300, n_items=200).matrix, 0.5, 0.5)
    vectors, singular = right_basis(rows, 10, 4, np.random.default_rng(0))
    _, exact, vt = np.linalg.svd(rows.toarray())
    np.testing.assert_allclose(singular, exact[:10], rtol=0.02)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(10), atol=1e-5)
    assert np.abs(vt[:3] @ vectors[:, :3]).max(axis=1).min() > 0.99


def test_more_dimensions_than_there_are_is_all_of_them() -> None:
    data = world()
    model = Graph(dim=500).fit(data, Run())
    assert len(model.singular) == data.n_items
    assert np.isfinite(model.score(data.query(np.arange(5)))).all()


def test_item_without_events_abstains() -> None:
    data = world()
    model = Graph(dim=8).fit(data.take(data.item != 7), Run())
    scores = model.score(data.query(np.arange(5)))
    assert np.flatnonzero(np.isnan(scores).any(axis=0)).tolist() == [7]


@pytest.mark.parametrize("options", [{"dim": 0}, {"sweeps": -1}])
def test_options_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Graph(**options)
