"""Blend, Fallback and the weights λ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array

from m6rec.data.holdout import holdout
from m6rec.data.query import ACTIVITY_NAMES
from m6rec.data.splits import Split
from m6rec.errors import ConfigError
from m6rec.metrics import ranked
from m6rec.models import fusion
from m6rec.models.base import Recipe
from m6rec.models.compose import Blend
from m6rec.models.default import M6Rec, default_parts
from m6rec.models.fallback import Fallback
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
    liked, old = csr_array(truth.astype(np.float32)), np.zeros(n, np.bool_)
    pool = fusion.Pool.of([noise, good], liked, nothing, old, rng)
    table = fusion.learn(pool, np.arange(rows) % 2, 3, "ndcg@10")
    assert (table[:, 1] > 0.8).all()
    np.testing.assert_allclose(table.sum(axis=1), 1)
    learned = fusion.simplex_search(pool, "ndcg@10")
    best = max(pool.values(w, "ndcg@10").mean() for w in np.eye(2))
    assert pool.values(learned, "ndcg@10").mean() >= best


def test_two_views_of_half_the_truth_are_blended() -> None:
    rng = np.random.default_rng(1)
    rows, n = 500, 50
    truth = rng.random((rows, n)) < 0.06
    views = [(truth + 0.7 * rng.standard_normal((rows, n))).astype(np.float32) for _ in range(2)]
    nothing = csr_array((rows, n), dtype=np.float32)
    pools = [
        fusion.Pool.of([v[at] for v in views], csr_array(truth[at].astype(np.float32)),
                       csr_array(nothing[at]), np.zeros(n, np.bool_), rng)
        for at in (slice(0, 200), slice(200, 500))
    ]  # fmt: skip
    pool = fusion.Pool.joined(pools)
    assert pool.scores.shape[:2] == (2, rows)
    weights = fusion.simplex_search(pool, "ndcg@10")
    assert 0.25 < weights[0] < 0.75


def test_what_somebody_had_already_is_no_target() -> None:
    rng = np.random.default_rng(2)
    rows, n = 3, 900
    scores = rng.random((rows, n)).astype(np.float32)
    wanted, past = np.zeros((2, rows, n), np.float32)
    wanted[0, :5] = wanted[1, :5] = past[0, 2:8] = past[1, :9] = wanted[2, :800] = 1
    pool = fusion.Pool.of([scores], csr_array(wanted), csr_array(past), np.zeros(n, np.bool_), rng)
    assert np.diff(pool.targets.indptr).tolist() == [2, 0, fusion.TARGETS]
    assert pool.told.tolist() == [True, False, True]
    assert pool.scores.shape[2] <= fusion.TARGETS + fusion.TOP + fusion.RANDOM


def test_lambda_is_even_where_nothing_but_repeats_is_held_out() -> None:
    data = world(ordered=False)
    split = Split(train=data, test=data, context=data)
    chosen = Blend(parts=PARTS).choose(split, Run())
    assert chosen.weights == {name: ((0.5, 0.5),) * B for name in LOCAL}


def test_lambda_is_learned_of_items_that_are_shown() -> None:
    data = world(ordered=False)
    split = holdout(data, np.random.default_rng(0))
    train = replace(split.train, hidden=np.arange(data.n_items) >= data.n_items // 2)
    found = Blend(parts=PARTS).choose(Split(train=train, test=split.test, context=train), Run())
    assert found.weights["books"] == ((0.5, 0.5),) * B  # all are hidden
    assert found.weights["films"] != found.weights["books"]


def new_items(rows: int = 400, n: int = 60) -> tuple[fusion.Pool, np.ndarray]:
    """A part that knows old items and says nonsense of new ones, one that knows the new ones, and
    one that knows which are old."""
    rng = np.random.default_rng(0)
    truth, new = rng.random((rows, n)) < 0.05, np.arange(n) >= 40
    noise = [0.4 * rng.standard_normal((rows, n)) for _ in range(2)]
    old = np.where(new, noise[0], truth + noise[0])
    fresh = np.where(new, truth + noise[1], noise[1])
    views = [v.astype(np.float32) for v in (old, fresh, np.where(new, -1.0, 0.0) + 0 * old)]
    nothing = csr_array((rows, n), dtype=np.float32)
    liked = csr_array(truth.astype(np.float32))
    return fusion.Pool.of(views, liked, nothing, new, rng), np.zeros(rows, np.int64)


def test_new_items_get_weights_of_their_own_that_cost_old_ones_little() -> None:
    pool, buckets = new_items()
    table = fusion.learn(pool, buckets, 1, "ndcg@10")
    assert table[0, 0] > table[0, 1]
    own = fusion.learn_new(pool, table, buckets, "ndcg@10", 0.01)
    assert own is not None and own[1] > own[0]
    row, column = pool.targets.nonzero()
    kept = ~pool.new[row, column]
    shape = pool.targets.shape
    others = csr_array((np.ones(kept.sum()), (row[kept], column[kept])), shape=shape)
    some = np.flatnonzero(np.diff(others.indptr))

    def of_old(scores: np.ndarray) -> float:
        scores = scores.copy()
        scores[row[~kept], column[~kept]] = np.nan
        found = ranked(scores[some].astype(np.float32), csr_array(others[some]))
        return float(np.nan_to_num(found.metric("ndcg@10")).mean())

    alike = fusion.blend(pool.scores, table[buckets].T)
    apart = np.where(pool.new, fusion.blend(pool.scores, own[:, None]), alike)
    alone = np.where(pool.new, np.nan, alike)
    assert of_old(apart) >= 0.99 * of_old(alone)
    few = replace(pool, new=np.zeros_like(pool.new))
    assert fusion.learn_new(few, table, buckets, "ndcg@10", 0.01) is None


def test_a_blend_scores_and_explains_new_items_by_their_weights() -> None:
    data = world()
    new = np.flatnonzero(data.item_domain == 0)[-4:]
    train = data.take(~np.isin(data.item, new))
    parts = (Pct(dim=8, domains=LOCAL), Popular())
    rows = ((0.2, 0.8),) * 4
    same = Blend(parts=parts, weights={"films": rows, "books": rows}).fit(train, Run())
    apart = Blend(parts=parts, weights={"films": (*rows, (1.0, 0.0)), "books": rows})
    model = apart.fit(train, Run())
    query = train.query(np.arange(6))
    scores = model.score(query)
    old = np.setdiff1d(np.arange(data.n_items), new)
    np.testing.assert_array_equal(scores[:, old], same.score(query)[:, old])
    pct = model.part_scores(query, new)[0]
    np.testing.assert_allclose(scores[:, new], pct, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(model.score(query, new), scores[:, new])
    again = model.recipe.restore(model.state())
    np.testing.assert_array_equal(again.score(query), scores)
    items = np.tile([new[0], 0], (6, 1))
    for b, row in enumerate(model.explain(query, items)):
        for c, reasons in enumerate(row):
            total = sum(reason.value for reason in reasons)
            assert total == pytest.approx(scores[b, items[b, c]], abs=1e-3)


def test_weights_of_the_wrong_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="4 rows, or 5 with new items, of 1 numbers"):
        Blend(parts=(Popular(),), weights={"films": ((1.0,),) * 3})
    for recipe in (M6Rec, Blend):
        with pytest.raises(ValueError, match="new_items"):
            recipe(parts=(Popular(),), new_items=1.5)


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
    assert "window" in kinds and "towers" in kinds
    assert "towers" not in [part.kind for part in default_parts(world(), deep=False)]
    unordered = [part.kind for part in default_parts(world(ordered=False))]
    assert "window" not in unordered and "towers" not in unordered
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


def test_a_part_that_predicts_no_rating_gets_no_weight() -> None:
    rng = np.random.default_rng(2)
    y = rng.uniform(1, 5, 3000)
    spoken = np.stack([y + rng.normal(0, s, 3000) for s in (0.5, 1.0)]).astype(np.float32)
    silent = np.full((1, 3000), np.nan, np.float32)
    weights = fusion.least_squares(np.vstack([spoken[:1], silent, spoken[1:]]), y)
    np.testing.assert_array_equal(weights[[0, 2]], fusion.least_squares(spoken, y))
    assert weights[1] == 0
    np.testing.assert_array_equal(fusion.least_squares(np.vstack([silent] * 2), y), 0.5)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"kind": "blend", "metric": "ndgc@50"}, 'did you mean "ndcg"'),
        ({"kind": "m6rec", "metric": "rmse"}, "not a metric of ranks"),
        ({"kind": "blend", "weights": {"films": ((-1.0,),) * 4}}, "films: must be at least 0"),
        ({"kind": "fallback", "parts": ()}, "at least one model"),
    ],
)
def test_what_cannot_be_is_said_before_the_fit(table: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Recipe.from_table({"parts": [{"kind": "popular"}], **table})
