"""Variational Bayes of ratings: exact where it can be checked, and better than what it replaces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array

from m6rec.data.dataset import Dataset
from m6rec.data.splits import Split
from m6rec.models import bayes
from m6rec.models.bayes import Bayes, Partners
from m6rec.models.pct import Pct
from m6rec.models.transfer import Local
from m6rec.tracking import Run
from world import own_group_share, world


def drawn(rng: np.random.Generator, n_users: int = 150, n_items: int = 80) -> np.ndarray:
    """Ratings of rank 3 with biases and noise of deviation ½, (n_users, n_items)."""
    u, v = rng.standard_normal((n_users, 3)), rng.standard_normal((n_items, 3))
    bias = 0.5 * rng.standard_normal((n_users, 1)) + 0.7 * rng.standard_normal(n_items)
    return u @ v.T + bias + 0.5 * rng.standard_normal((n_users, n_items))


def fitted(
    ratings: csr_array, features: np.ndarray, phi: np.ndarray, **options: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Predictions (n_users, n_items) and the state of a fit."""
    rng = np.random.default_rng(0)
    state = bayes.factorise(ratings, features, phi, Bayes(**options), 1.0, rng, lambda n: None)
    partners = Partners(state["items"], state["variance"], state["precision"])
    value = ratings.data - state["bias"][ratings.indices]
    users, _, _ = bayes.posterior(
        ratings.indptr, ratings.indices, value, partners, features @ state["prior"]
    )
    return users @ state["items"].T + state["bias"], state


def test_posterior_is_that_of_a_linear_gaussian_model() -> None:
    rng = np.random.default_rng(1)
    k, n, rows = 5, 12, 7
    y = rng.standard_normal((n, k)).astype(np.float32)
    s = rng.random((n, k)).astype(np.float32)
    precision = (0.5 + rng.random(k + 1)).astype(np.float32)
    prior = rng.standard_normal((rows, k)).astype(np.float32)
    index = np.concatenate([rng.choice(n, r, replace=False) for r in range(rows)]).astype(np.int32)
    start = np.r_[0, np.cumsum(np.arange(rows))]
    value = rng.standard_normal(len(index)).astype(np.float32)
    mean, variance, error = bayes.posterior(start, index, value, Partners(y, s, precision), prior)
    for r in range(rows):
        at = slice(start[r], start[r + 1])
        f, g = y[index[at]].astype(float), s[index[at]].astype(float)
        square = f.T @ f + np.diag(g.sum(axis=0))
        inverse = np.linalg.inv(precision[0] * square + np.diag(precision[1:]))
        x = inverse @ (precision[0] * f.T @ value[at] + precision[1:] * prior[r])
        np.testing.assert_allclose(mean[r], x, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(variance[r], np.diag(inverse), rtol=1e-4)
        expected = ((value[at] - f @ x) ** 2).sum() + x**2 @ g.sum(axis=0)
        expected += np.diag(inverse) @ np.diag(square)
        np.testing.assert_allclose(error[r], expected, rtol=1e-3, atol=1e-4)


def test_noise_and_ratings_are_recovered_without_any_tuning() -> None:
    rng = np.random.default_rng(2)
    full = drawn(rng)
    held = rng.random(full.shape) < 0.6
    ratings = csr_array(np.where(held, 0, full).astype(np.float32))
    ones = np.ones((150, 1), np.float32), np.ones((80, 1), np.float32)
    found, state = fitted(ratings, *ones, dim=8, sweeps=40)
    error = np.sqrt(((found - full)[held] ** 2).mean())
    assert error < 0.65  # 0.5 is the noise itself, 1.95 the deviation of the ratings
    assert 1 / np.sqrt(state["precision"][0]) == pytest.approx(0.5, rel=0.15)


def test_an_item_nobody_rated_is_placed_by_what_describes_it() -> None:
    rng = np.random.default_rng(3)
    kind = np.eye(4, dtype=np.float32)[np.arange(80) % 4]
    full = rng.standard_normal((150, 4)) @ kind.T
    seen = rng.random(full.shape) < 0.5
    seen[:, :4] = False
    rows, columns = np.nonzero(seen)
    ratings = csr_array((full[seen].astype(np.float32), (rows, columns)), shape=full.shape)
    phi = np.hstack([np.ones((80, 1), np.float32), kind])
    found, _ = fitted(ratings, np.ones((150, 1), np.float32), phi, dim=6, sweeps=20)
    assert np.corrcoef(found[:, :4].ravel(), full[:, :4].ravel())[0, 1] > 0.95


def test_presence_tells_audiences_apart_and_skips_the_unrated() -> None:
    rng = np.random.default_rng(4)
    seen = rng.random((90, 30)) < np.where(
        np.arange(90)[:, None] % 2 == np.arange(30) % 2, 0.6, 0.05
    )
    seen[:, 7] = False
    ratings = csr_array(seen.astype(np.float32))
    basis = bayes.presence_basis(ratings, 2, rng)
    assert np.abs(basis[7]).max() < 1e-6
    users = bayes.presence(ratings.indptr, ratings.indices, basis)
    liked = users @ basis.T
    same = np.arange(90)[:, None] % 2 == np.delete(np.arange(30), 7) % 2
    liked = np.delete(liked, 7, axis=1)
    assert liked[same].min() > liked[~same].mean()
    assert bayes.presence(np.zeros(2, int), np.zeros(0, np.int32), basis).tolist() == [[0.0, 0.0]]


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="dim"):
        Bayes(dim=0)


def mixed() -> Dataset:
    """Films are rated, books are only read."""
    data = world(explicit=True, n_users=200)
    domains = (data.domains[0], replace(data.domains[1], feedback="implicit"))
    return replace(data, domains=domains)


SHARED = {
    "films": Local(omega={"books": 1.0}),
    "books": Local(reg=0.5, nu=0.5, omega={"films": 1.0}),
}


@pytest.mark.parametrize("dim", [6, 24])
def test_rated_and_unrated_domains_inform_each_other(dim: int) -> None:
    data, users, films = mixed(), np.arange(20), np.arange(20)
    bare = replace(data, user_attributes={}, item_attributes={}, item_text=None)
    for known in (films, np.arange(20, 40)):  # the users keep one domain, asked of the other
        hidden = np.isin(data.user, users) & ~np.isin(data.item, known)
        split = Split.by_mask(bare, hidden)
        model = Pct(dim=dim, domains=SHARED).fit(split.train, Run())
        scores = model.score(split.train.query(users))
        asked = np.setdiff1d(np.arange(40), known)
        seen = np.isin(np.arange(40), known)[None].repeat(20, axis=0)
        assert own_group_share(scores, users, seen) > 0.7  # chance is 1/4
        if asked[0] == 0:
            error = scores[split.test.user, split.test.item] - split.test.weight
            assert (error**2).mean() < 0.85 * split.test.weight.var()


def test_reasons_of_mixed_domains_add_up_and_name_each_item_once() -> None:
    data = mixed()
    model = Pct(dim=24, domains=SHARED).fit(data, Run())
    query, items = data.query(np.arange(8)), np.tile(np.array([2, 33]), (8, 1))
    scores = model.score(query)
    for b, row in enumerate(model.explain(query, items)):
        for i, reasons in zip((2, 33), row, strict=True):
            total = sum(reason.value for reason in reasons)
            assert abs(total - scores[b, i]) <= 1e-4 * np.abs(scores).max()
            told = [reason.item for reason in reasons if reason.kind == "history"]
            assert len(told) == len(set(told))


def test_rated_domains_leave_nothing_to_be_tuned() -> None:
    data = world(explicit=True)
    learned = Pct(transfer=False).fit(data, Run()).recipe
    assert isinstance(learned, Pct)
    assert list(learned.domains.values()) == [Local(), Local()]
