"""Neighbours against the source formulas, written as plain loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array

from m6rec.data.dataset import Dataset
from m6rec.models.neighbours import Neighbours, NeighboursModel, RP3Beta
from m6rec.models.rankings import similarities
from m6rec.tracking import Run
from world import world

MEASURES = ["cosine", "pearson", "adjusted"]


def fit(data: Dataset, **options: object) -> NeighboursModel:
    return Neighbours(**options).fit(data, Run())  # type: ignore[arg-type]


def implicit(n_users: int = 30) -> Dataset:
    """A world whose events weigh 1 to 3."""
    data = world(n_users=n_users)
    weight = np.random.default_rng(4).integers(1, 4, len(data)).astype(np.float32)
    return Dataset.build(
        user=data.user,
        item=data.item,
        weight=weight,
        users=data.users,
        items=data.items,
        domains=data.domains,
        item_domain=data.item_domain,
    )


def literal_similarity(rows: np.ndarray, measure: str, shrink: float = 0.0) -> np.ndarray:
    """s_ij = Σ r_ik r_jk / (‖r_i‖‖r_j‖) in loops, after centring each row (pearson) or each
    column (adjusted) on its mean; 0 for pairs that share nothing."""
    n, m = rows.shape
    s = np.zeros((n, n))
    row_mean, column_mean = rows.mean(axis=1), rows.mean(axis=0)
    for i in range(n):
        for j in range(n):
            dot = left = right = 0.0
            common = 0
            for k in range(m):
                a, b = rows[i, k], rows[j, k]
                common += a > 0 and b > 0
                if measure == "pearson":
                    a, b = a - row_mean[i], b - row_mean[j]
                if measure == "adjusted":
                    a, b = a - column_mean[k], b - column_mean[k]
                dot, left, right = dot + a * b, left + a * a, right + b * b
            if i != j and common and dot > 0:
                s[i, j] = dot / np.sqrt(left * right) * common / (common + shrink)
    return s


@pytest.mark.parametrize("shrink", [0.0, 3.0])
@pytest.mark.parametrize("measure", MEASURES)
def test_similarities_are_the_source_formula(measure: str, shrink: float) -> None:
    rows = implicit().matrix.toarray().T
    found = similarities(csr_array(rows), measure, 40, shrink)  # type: ignore[arg-type]
    np.testing.assert_allclose(
        found.toarray(), literal_similarity(rows, measure, shrink), atol=1e-5
    )


def test_values_of_any_sign_are_compared() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(-2, 3, (300, 9)).astype(np.float32)  # many sums cancel on the way
    full = csr_array((rows.ravel(), np.tile(np.arange(9), 300), np.arange(0, 2701, 9)))
    size = np.sqrt((rows**2).sum(axis=1)) + 1e-9
    expected = np.maximum(rows @ rows.T / np.outer(size, size), 0)
    np.fill_diagonal(expected, 0)
    expected[expected < 1e-6] = 0
    found = similarities(full, "cosine", 300).toarray()
    np.testing.assert_allclose(np.where(found < 1e-6, 0, found), expected, atol=1e-5)


def test_only_the_k_most_similar_are_kept() -> None:
    rows = implicit().matrix.toarray().T
    every = literal_similarity(rows, "cosine")
    found = similarities(csr_array(rows), "cosine", 5)
    assert (np.diff(found.indptr) == np.minimum((every > 0).sum(axis=1), 5)).all()
    lowest = np.array([row[row > 0].min() for row in found.toarray()])
    fifth = np.sort(every, axis=1)[:, -5]
    np.testing.assert_allclose(lowest, np.where(fifth > 0, fifth, lowest), atol=1e-6)


@pytest.mark.parametrize("measure", MEASURES)
def test_item_scores_are_the_source_formula(measure: str) -> None:
    data = implicit()
    r = data.matrix.toarray()
    s = literal_similarity(r.T, measure)
    expected = np.zeros_like(r)
    for u in range(len(r)):
        for j in range(r.shape[1]):
            for k in range(r.shape[1]):
                expected[u, j] += r[u, k] * s[k, j]  # r̂_uj = Σ_k r_uk s_kj
    model = fit(data, similarity=measure, k=40)
    np.testing.assert_allclose(model.score(data.query(np.arange(30))), expected, atol=1e-4)


@pytest.mark.parametrize("measure", MEASURES)
def test_user_scores_are_the_source_formula(measure: str) -> None:
    data = implicit()
    r = data.matrix.toarray()
    asked = r[:4]
    expected = np.zeros_like(asked)
    for b in range(len(asked)):
        for v in range(len(r)):
            if v == b:
                s = 1.0
            else:
                s = literal_similarity(r, measure, 2.0)[b, v]
            if v == b:
                common = (r[b] > 0).sum()
                s = common / (common + 2.0)
            expected[b] += s * r[v]
    model = fit(data, by="user", similarity=measure, k=30, shrink=2.0)
    np.testing.assert_allclose(
        model.score(data.query(np.arange(4))), expected, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("by", ["item", "user"])
def test_domain_scope_leaves_the_other_domain_out(by: str) -> None:
    data = implicit()
    books = data.item_domain == 1
    alone = data.take(books[data.item])
    users = np.arange(10)
    joint = fit(data, by=by, scope="domain").score(data.query(users))
    np.testing.assert_allclose(
        joint[:, books], fit(alone, by=by).score(alone.query(users))[:, books], rtol=1e-5
    )


def literal_baseline(r: np.ndarray, reg_item: float, reg_user: float) -> tuple[np.ndarray, ...]:
    """Item values and user biases by 10 sweeps of alternating least squares; NaN = unrated."""
    mean = np.nanmean(r)
    item, user = np.zeros(r.shape[1]), np.zeros(r.shape[0])
    for sweep in range(11):
        for u in range(len(user)):
            left = r[u] - mean - item
            user[u] = np.nansum(left) / (reg_user + np.isfinite(left).sum())
        if sweep == 10:
            break
        for i in range(len(item)):
            left = r[:, i] - mean - user
            item[i] = np.nansum(left) / (reg_item + np.isfinite(left).sum())
    return mean + item, user


def literal_ratings(r: np.ndarray, by: str, measure: str, k: int, shrink: float) -> np.ndarray:
    """Koren (2010): r̂_ui = b_ui + Σ s (r − b) / Σ s over the k most similar that have a rating."""
    item, user = literal_baseline(r, 10.0, 15.0)
    base = item + user[:, None]
    centre = {
        "cosine": np.zeros_like(r),
        "pearson": np.broadcast_to(
            np.nanmean(r, axis=0) if by == "item" else np.nanmean(r, axis=1)[:, None], r.shape
        ),
        "adjusted": np.broadcast_to(
            np.nanmean(r, axis=1)[:, None] if by == "item" else np.nanmean(r, axis=0), r.shape
        ),
        "baseline": base,
    }[measure]
    x = (r - centre).T if by == "item" else r - centre
    n = len(x)
    s = np.zeros((n, n))
    for a in range(n):
        for b in range(n):
            both = np.isfinite(x[a]) & np.isfinite(x[b])
            dot = (x[a] * x[b])[both].sum()
            over = both if measure != "cosine" else np.ones_like(both)
            length = np.sqrt(np.nansum(x[a][over] ** 2) * np.nansum(x[b][over] ** 2))
            if dot > 1e-6 and length > 0:
                s[a, b] = dot / length * both.sum() / (both.sum() + shrink)
    predicted = base.copy()
    left = r - base
    for u in range(r.shape[0]):
        for i in range(r.shape[1]):
            if by == "item":
                pairs = [(s[i, j], left[u, j]) for j in range(n) if np.isfinite(r[u, j]) and j != i]
            else:
                pairs = [(s[u, v], left[v, i]) for v in range(n) if np.isfinite(r[v, i]) and v != u]
            near = sorted((p for p in pairs if p[0] > 0), reverse=True)[:k]
            if near:
                predicted[u, i] += sum(w * x for w, x in near) / sum(w for w, _ in near)
    return predicted


@pytest.mark.parametrize("by", ["item", "user"])
@pytest.mark.parametrize("measure", [*MEASURES, "baseline"])
def test_ratings_are_the_formula_of_the_source(by: str, measure: str) -> None:
    data = world(explicit=True, n_users=24)
    r = data.matrix.toarray()
    r[r == 0] = np.nan
    model = fit(data, by=by, similarity=measure, k=40, shrink=5.0)
    scores = model.score(data.query(np.arange(24)))
    new = np.isnan(r)  # a rated cell would be its own neighbour
    expected = literal_ratings(r, by, measure, 40, 5.0).clip(1, 5)
    np.testing.assert_allclose(scores[new], expected[new], atol=2e-3)


def test_ratings_use_only_the_k_nearest() -> None:
    data = world(explicit=True, n_users=24)
    r = data.matrix.toarray()
    r[r == 0] = np.nan
    expected = literal_ratings(r, "item", "cosine", 2, 0.0).clip(1, 5)
    scores = fit(data, k=2).score(data.query(np.arange(24)))
    new = np.isnan(r)
    assert (np.abs(scores[new] - expected[new]) < 2e-3).mean() > 0.97  # the rest are ties


def test_a_user_bias_comes_from_the_query_alone() -> None:
    data = world(explicit=True)
    model = fit(data)
    kind = data.query(np.array([3]))
    harsh = data.query(np.array([3]))
    harsh.history.data[:] = np.maximum(harsh.history.data - 2, 1)
    assert model.score(harsh).mean() < model.score(kind).mean() - 0.5


def test_rp3beta_is_the_walk_of_three_steps() -> None:
    data = world(n_users=30)
    x = (data.matrix.toarray() > 0).astype(float)
    to_user, to_item = x.T / x.sum(axis=0)[:, None], x / x.sum(axis=1)[:, None]
    walk = (to_user**0.7) @ (to_item**0.7) / x.sum(axis=0) ** 0.4  # Paudel et al. (2017)
    np.fill_diagonal(walk, 0)
    model = RP3Beta(alpha=0.7, beta=0.4, k=40).fit(data, Run())
    np.testing.assert_allclose(
        model.score(data.query(np.arange(30))), x @ walk, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [({"k": 0}, "k = 0"), ({"shrink": -1.0}, "shrink"), ({"reg_user": -1.0}, "reg_user")],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Neighbours(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("scope", ["all", "auto"])
@pytest.mark.parametrize("by", ["item", "user"])
def test_ratings_on_two_scales_have_two_baselines(by: str, scope: str) -> None:
    data = world(explicit=True)
    books = data.item_domain[data.item] == 1
    mixed = replace(data, weight=np.where(books, 20 * data.weight, data.weight))
    found = fit(mixed, by=by, scope=scope)
    apart = fit(mixed, by=by, scope="domain")
    query = mixed.query(np.arange(20))
    np.testing.assert_array_equal(found.score(query), apart.score(query))
    assert np.nanmax(found.score(query)[:, :20]) <= 5 < 20 <= np.nanmin(found.score(query)[:, 20:])
    alike = fit(data, by=by, scope=scope).score(query)
    assert not np.allclose(alike, fit(data, by=by, scope="domain").score(query), equal_nan=True)


@pytest.mark.parametrize("measure", ["cosine", "pearson", "adjusted"])
@pytest.mark.parametrize("by", ["item", "user"])
def test_what_has_no_events_changes_no_similarity(by: str, measure: str) -> None:
    data = implicit()
    wider = Dataset.build(
        user=data.user, item=data.item, weight=data.weight, users=300, items=400,
        domains=data.domains, item_domain=np.r_[data.item_domain, np.ones(360, np.int16)],
    )  # fmt: skip
    users = np.arange(10)
    found, expected = (
        fit(d, by=by, similarity=measure).score(d.query(users)) for d in (wider, data)
    )
    np.testing.assert_allclose(found[:, :40], expected, rtol=1e-4, atol=1e-5)
