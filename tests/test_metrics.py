"""Metrics against literal definitions on a full sort; ties, NaN and samples against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from m6rec.errors import ConfigError
from m6rec.metrics import (
    RANKING,
    RankedRows,
    coverage,
    diversity,
    gini,
    novelty,
    parse,
    ranked,
    ranked_in_samples,
)


def problem(seed: int, n_rows: int = 12, n: int = 30) -> dict[str, np.ndarray]:
    """Scores with many ties and NaN, targets, an exclusion that overlaps them, and a mask."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 6, (n_rows, n)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.15] = np.nan
    return {
        "scores": scores,
        "targets": rng.random(scores.shape) < 0.15,
        "exclude": rng.random(scores.shape) < 0.2,
        "allowed": rng.random(n) < 0.8,
    }


def worst_lists(p: dict[str, np.ndarray]) -> list[list[bool]]:
    """For each row, whether each candidate is a target, in the worst order scores allow."""
    lists = []
    for row, target, gone in zip(p["scores"], p["targets"], p["exclude"], strict=True):
        usable = [j for j in range(len(row)) if p["allowed"][j] and not gone[j]]
        score = [-math.inf if np.isnan(s) else float(s) for s in row]
        usable.sort(key=lambda j, s=score, t=target: (-s[j], t[j]))
        lists.append([bool(target[j]) for j in usable])
    return lists


def literal(name: str, hits: list[bool], k: int | None) -> float:
    """The textbook definition on one list of hits and misses."""
    n = sum(hits)
    if n == 0:
        return math.nan
    k = len(hits) if k is None else k
    top = hits[:k]
    found = sum(top)
    if name == "precision":
        return found / k
    if name == "recall":
        return found / n
    if name == "capped_recall":
        return found / min(k, n)
    if name == "hit":
        return float(found > 0)
    if name == "ndcg":
        gain = sum(h / math.log2(i + 2) for i, h in enumerate(top))
        return gain / sum(1 / math.log2(i + 2) for i in range(min(k, n)))
    if name == "mrr":
        return next((1 / (i + 1) for i, h in enumerate(top) if h), 0.0)
    if name == "map":
        return sum(sum(top[: i + 1]) / (i + 1) for i, h in enumerate(top) if h) / min(k, n)
    assert name == "auc"
    others = len(hits) - n
    right = sum(hits[i + 1 :].count(False) for i, h in enumerate(top) if h)
    return right / (n * others) if others else math.nan


@pytest.mark.parametrize("k", [None, 1, 3, 10, 100])
@pytest.mark.parametrize("name", RANKING)
def test_metrics_equal_their_definitions(name: str, k: int | None) -> None:
    metric = name if k is None else f"{name}@{k}"
    for seed in range(4):
        p = problem(seed)
        got = ranked(
            p["scores"], csr_array(p["targets"]), csr_array(p["exclude"]), p["allowed"]
        ).metric(metric)
        expected = [literal(name, hits, k) for hits in worst_lists(p)]
        np.testing.assert_allclose(got, expected, atol=1e-12)


def test_targets_that_are_no_candidates_are_left_out() -> None:
    p = problem(7)
    rows = ranked(p["scores"], csr_array(p["targets"]), csr_array(p["exclude"]), p["allowed"])
    shown = p["targets"] & ~p["exclude"] & p["allowed"]
    np.testing.assert_array_equal(rows.targets, shown.sum(axis=1))
    assert shown[rows.row, rows.item].all()
    np.testing.assert_array_equal(rows.candidates, (~p["exclude"] & p["allowed"]).sum(axis=1))


@pytest.mark.parametrize("n_targets", [1, 4, 6, 11])
def test_ranks_are_counts_of_what_reaches_the_score(n_targets: int) -> None:
    rng = np.random.default_rng(n_targets)
    scores = rng.integers(0, 40, (70, 90)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.1] = np.nan
    scores[rng.random(scores.shape) < 0.05] = np.inf
    targets = np.argsort(rng.random(scores.shape), axis=1) < n_targets
    gone, allowed = rng.random(scores.shape) < 0.2, rng.random(90) < 0.9
    rows = ranked(scores, csr_array(targets), csr_array(gone), allowed)
    level = np.where(np.isnan(scores), -np.inf, scores)
    usable = allowed & ~gone
    for b in range(70):
        mine = np.flatnonzero(targets[b] & usable[b])
        mine = mine[np.argsort(-level[b, mine], kind="stable")]
        others = level[b][usable[b] & ~targets[b]]
        expected = [j + 1 + int((others >= level[b, i]).sum()) for j, i in enumerate(mine)]
        assert rows.rank[rows.row == b].tolist() == expected
        assert rows.candidates[b] == usable[b].sum()


def test_a_constant_model_gets_the_worst() -> None:
    targets = csr_array(np.eye(5, 40, dtype=np.float32))
    for scores in (np.zeros((5, 40), np.float32), np.full((5, 40), np.nan, np.float32)):
        rows = ranked(scores, targets)
        assert (rows.rank == 40).all()
        assert (rows.metric("auc") == 0).all()


def test_only_turns_the_others_into_candidates() -> None:
    scores = np.array([[4, 3, 2, 1]], np.float32)
    rows = ranked(scores, csr_array(np.array([[1, 0, 1, 0]])))
    second = rows.only(rows.item == 2)
    assert second.rank.tolist() == [3]
    assert second.metric("mrr")[0] == pytest.approx(1 / 3)
    assert second.metric("auc")[0] == pytest.approx(1 / 3)
    assert np.isnan(rows.only(rows.item == 1).metric("ndcg@2")).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(RANKING), st.sampled_from(["", "@2", "@7"]))
def test_values_lie_between_0_and_1_and_perfect_scores_reach_1(
    seed: int, name: str, cut: str
) -> None:
    p = problem(seed, n_rows=3)
    targets = csr_array(p["targets"])
    values = ranked(p["scores"], targets).metric(name + cut)
    known = values[~np.isnan(values)]
    assert ((known >= 0) & (known <= 1 + 1e-12)).all()
    if name in ("ndcg", "mrr", "map", "hit", "capped_recall"):
        best = ranked(p["targets"].astype(np.float32), targets).metric(name + cut)
        np.testing.assert_allclose(best[~np.isnan(best)], 1.0)


def sampled(
    p: dict[str, np.ndarray], seed: int = 0, n: int = 9, **change: np.ndarray
) -> tuple[RankedRows, np.ndarray]:
    p = {**p, **change}
    pool = np.flatnonzero(p["allowed"])
    user = p.get("user", np.arange(len(p["scores"])))
    return ranked_in_samples(
        p["scores"], csr_array(p["targets"]), csr_array(p["exclude"]), pool, n, user, seed
    )


def test_samples_are_uniform_over_unseen_pool_items() -> None:
    """Mark one item at a time as the only better one: it is drawn n / available of the time."""
    n_users, n = 4000, 12
    scores = np.zeros((n_users, n), np.float32)
    targets = np.zeros((n_users, n), np.bool_)
    targets[:, 3] = True
    exclude = np.zeros_like(targets)
    exclude[:, 5] = True
    pool = np.array([0, 1, 2, 3, 5, 6, 7, 8, 9, 10])  # 8 available: not 3 (target), not 5 (seen)
    scores[:, 3] = 1.0
    for item, share in ((0, 3 / 8), (10, 3 / 8), (5, 0.0), (11, 0.0), (4, 0.0)):
        better = scores.copy()
        better[:, item] = 2.0
        rows, at = ranked_in_samples(
            better, csr_array(targets), csr_array(exclude), pool, 3, np.arange(n_users), 0
        )
        assert (rows.candidates == 4).all() and (at == np.arange(n_users)).all()
        drawn = (rows.rank == 2).mean()
        assert abs(drawn - share) < 4 * math.sqrt(0.25 / n_users), item


def test_taking_all_items_is_the_full_ranking_of_each_target_alone() -> None:
    p = problem(3)
    p["targets"] &= p["allowed"]
    rows, at = sampled(p, n=1000)
    assert len(rows.rank) == (p["targets"] & ~p["exclude"]).sum()
    for rank, item, row in zip(rows.rank, rows.item, at, strict=True):
        score = np.nan_to_num(p["scores"][row], nan=-np.inf)
        others = p["allowed"] & ~p["exclude"][row] & (np.arange(30) != item)
        assert rank == 1 + (score[others] >= score[item]).sum()


def test_draws_depend_on_user_and_seed_and_not_on_the_batch() -> None:
    p = problem(5, n_rows=40)
    rows, at = sampled(p)
    again, _ = sampled(p)
    np.testing.assert_array_equal(rows.rank, again.rank)
    assert (rows.rank != sampled(p, seed=1)[0].rank).any()
    half = np.arange(20, 40)
    part = {k: v if k == "allowed" else v[half] for k, v in p.items()}
    np.testing.assert_array_equal(sampled(part, user=half)[0].rank, rows.rank[at >= 20])


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("ndgc@10", 'did you mean "ndcg"'),
        ("ndcg@0", "whole number above 0"),
        ("ndcg@", "whole number above 0"),
        ("rmse@3", 'has no "@k"'),
        ("coverage", 'as in "coverage@10"'),
    ],
)
def test_wrong_names_are_one_sentence(metric: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(metric)


def test_names_are_parsed() -> None:
    assert parse("NDCG@10 ") == ("ndcg", 10)
    assert parse("mrr") == ("mrr", None)


def test_metrics_of_lists_equal_their_definitions() -> None:
    rng = np.random.default_rng(0)
    lists = np.array([rng.permutation(12)[:4] for _ in range(9)])
    lists[0, 2:], lists[1, 1:], lists[2] = -1, -1, -1
    assert coverage(lists, 15) == len(set(lists.ravel()) - {-1}) / 15
    shown = np.array([(lists == i).sum() for i in range(15)])
    expected = np.abs(shown[:, None] - shown).sum() / (2 * 15**2 * shown.mean())
    assert gini(lists, 15) == pytest.approx(expected)

    users = rng.integers(0, 50, 15)
    vectors = rng.random((15, 3)) * (rng.random((15, 3)) < 0.7)
    vectors[lists[3, 0]] = 0  # like nothing, not even itself
    bits, apart = novelty(lists, users, 50), diversity(lists, csr_array(vectors))
    for b, row in enumerate(lists):
        items = row[row >= 0]
        if not len(items):
            assert np.isnan(bits[b])
            continue
        assert bits[b] == pytest.approx(np.mean([-math.log2((users[i] + 1) / 51) for i in items]))
        cosines = [
            float(vectors[i] @ vectors[j])
            / max(float(np.linalg.norm(vectors[i]) * np.linalg.norm(vectors[j])), 1e-12)
            for i in items
            for j in items
            if i != j
        ]
        if cosines:
            assert apart[b] == pytest.approx(1 - np.mean(cosines))
        else:
            assert np.isnan(apart[b])
