"""Blend, Fallback and the weights λ."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from m6rec.data.query import ACTIVITY_NAMES
from m6rec.data.splits import Split
from m6rec.models import fusion
from m6rec.models.compose import Blend, Fallback
from m6rec.models.default import M6Rec, default_parts
from m6rec.models.neighbours import Neighbours
from m6rec.models.pct import Pct
from m6rec.models.popular import Popular
from m6rec.models.seeds import Seeds
from m6rec.models.transfer import Local
from m6rec.tracking import Run
from world import world

LOCAL = {"films": Local(), "books": Local()}
PARTS = (Neighbours(k=10), Pct(dim=16, domains=LOCAL))
B = len(ACTIVITY_NAMES)


def test_two_parts_give_lambda_p_plus_the_rest_q() -> None:
    data = world()
    table = {"films": ((0.3, 0.7),) * B, "books": ((1.0, 0.0),) * B}
    model = Blend(parts=PARTS, weights=table).fit(data, Run())
    query = data.query(np.arange(30))
    p, q = model.part_scores(query, np.arange(40))
    films = data.item_domain == 0
    scores = model.score(query)
    np.testing.assert_allclose(scores[:, films], (0.3 * p + 0.7 * q)[:, films], atol=1e-5)
    np.testing.assert_allclose(scores[:, ~films], p[:, ~films], atol=1e-5)


def test_lambda_is_renormalised_over_the_parts_that_speak() -> None:
    scores = np.array([[[1.0, np.nan, np.nan]], [[3.0, 5.0, np.nan]]], np.float32)  # (2, 1, 3)
    found = fusion.blend(scores, np.array([[0.25], [0.75]], np.float32))
    np.testing.assert_allclose(found[0, :2], [2.5, 5.0])
    assert np.isnan(found[0, 2])


def test_lambda_leaves_out_noise_and_is_never_below_the_best_part() -> None:
    rng = np.random.default_rng(0)
    rows, n = 400, 60
    truth = rng.random((rows, n)) < 0.05
    good = (truth + 0.3 * rng.standard_normal((rows, n))).astype(np.float32)
    noise = rng.standard_normal((rows, n)).astype(np.float32)
    nothing = csr_array((rows, n), dtype=np.float32)
    pool = fusion.Pool.of([noise, good], csr_array(truth.astype(np.float32)), nothing, rng)
    table = fusion.learn(pool, np.arange(rows) % 2, 3, "ndcg@10")
    assert (table[:, 1] > 0.8).all()
    np.testing.assert_allclose(table.sum(axis=1), 1)
    everyone = np.arange(rows)
    learned = fusion.simplex_search(pool, "ndcg@10", everyone)
    best = max(pool.values(w, "ndcg@10", everyone).mean() for w in np.eye(2))
    assert pool.values(learned, "ndcg@10", everyone).mean() >= best


def test_two_views_of_half_the_truth_are_blended() -> None:
    rng = np.random.default_rng(1)
    rows, n = 500, 50
    truth = rng.random((rows, n)) < 0.06
    views = [(truth + 0.7 * rng.standard_normal((rows, n))).astype(np.float32) for _ in range(2)]
    nothing = csr_array((rows, n), dtype=np.float32)
    pools = [
        fusion.Pool.of([v[at] for v in views], csr_array(truth[at].astype(np.float32)),
                       csr_array(nothing[at]), rng)
        for at in (slice(0, 200), slice(200, 500))
    ]  # fmt: skip
    pool = fusion.Pool.joined(pools)
    assert pool.scores.shape[:2] == (2, rows)
    weights = fusion.simplex_search(pool, "ndcg@10", np.arange(rows))
    assert 0.25 < weights[0] < 0.75


def test_rating_weights_are_the_best_on_the_simplex() -> None:
    rng = np.random.default_rng(2)
    y = rng.uniform(1, 5, 3000)
    parts = np.stack([y + rng.normal(0, s, 3000) for s in (0.5, 1.0, 3.0)]).astype(np.float32)
    weights = fusion.least_squares(parts, y)
    grid = [(a, b, 1 - a - b) for a in np.linspace(0, 1, 41) for b in np.linspace(0, 1 - a, 41)]
    error = [((np.array(w) @ parts - y) ** 2).mean() for w in grid]
    assert ((weights @ parts - y) ** 2).mean() <= min(error) + 1e-3


def test_learned_on_a_holdout_of_train_and_reported() -> None:
    data = world()
    split = Split.by_mask(data, np.arange(len(data)) % 5 == 0)
    model = Blend(parts=PARTS).fit(split.train, Run(seed=1))
    recipe = model.recipe
    assert isinstance(recipe, Blend)
    assert set(recipe.weights) == {"films", "books"}
    assert all(abs(sum(row) - 1) < 1e-3 for rows in recipe.weights.values() for row in rows)
    lambdas = model.lambdas(data.query(np.arange(5)))
    assert lambdas.shape == (5, 2, 2)
    np.testing.assert_allclose(lambdas.sum(axis=2), 1, rtol=1e-5)


def test_fallback_takes_the_first_that_speaks() -> None:
    data = world()
    model = Fallback(parts=(Neighbours(k=10), Popular())).fit(data, Run())
    personal, popular = model.part_scores(data.query(np.array([0, -1])), np.arange(40))
    scores = model.score(data.query(np.array([0, -1])))
    np.testing.assert_array_equal(scores[1], popular[1])
    known = ~np.isnan(personal[0])
    assert known.any()
    np.testing.assert_array_equal(scores[0, known], personal[0, known])


def test_default_parts_suit_the_data() -> None:
    kinds = [part.kind for part in default_parts(world())]
    assert "window" in kinds
    assert "window" not in [part.kind for part in default_parts(world(ordered=False))]
    assert all(p.kind != "linear" for p in default_parts(world(explicit=True)))
    model = M6Rec(parts=PARTS).fit(world(), Run())
    assert model.recipe.kind == "m6rec"
    assert not np.isnan(model.score(world().query(np.array([-1])))).any()


def test_seeds_answer_whom_nothing_is_known_of() -> None:
    data = world()
    parts = (Neighbours(k=10), Popular())
    model = M6Rec(parts=parts, seeds=Seeds(items=("films/i7",))).fit(data, Run())
    films = np.flatnonzero(data.item_domain == 0)
    empty = model.score(data.query(np.array([-1])), films)[0]
    assert films[empty.argmax()] == 7
    reasons = model.explain(data.query(np.array([-1])), np.array([[7, 9]]))
    assert [r[0].part for r in reasons[0]] == ["seeds", "seeds"]
    known = model.score(data.query(np.arange(40)), films)
    assert (films[known.argmax(axis=1)] == 7).mean() < 0.5
