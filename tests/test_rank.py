"""Lists: selection against a full sort, exclusion, twins, diversity, exploration, pages."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from m6rec.rank import diverse, rank, top_k, with_items, with_twins


def noisy(seed: int, n_rows: int = 30, n: int = 50) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores with many ties and NaN, an exclusion and a mask."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 8, (n_rows, n)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.1] = np.nan
    return scores, rng.random(scores.shape) < 0.2, rng.random(n) < 0.8


def literal(scores: np.ndarray, usable: np.ndarray, k: int) -> list[list[int]]:
    """Sort all usable columns of each row by score, then code."""
    lists = []
    for row, keep in zip(scores, usable, strict=True):
        codes = [j for j in range(len(row)) if keep[j] and not np.isnan(row[j])]
        codes = sorted(codes, key=lambda j, row=row: (-row[j], j))[:k]
        lists.append(codes + [-1] * (k - len(codes)))
    return lists


@pytest.mark.parametrize("k", [1, 3, 10, 60])
def test_top_k_equals_a_full_sort(k: int) -> None:
    for seed in range(5):
        scores, gone, allowed = noisy(seed)
        items, value = top_k(scores, k, csr_array(gone), allowed)
        assert items.tolist() == literal(scores, ~gone & allowed, k)
        expected = np.where(items >= 0, np.take_along_axis(scores, items.clip(0), 1), np.nan)
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("k", [1, 10, 100, 400])
def test_wide_rows_equal_a_full_sort_whatever_the_scores(k: int) -> None:
    """Spans of many columns, of few and of one; ties, both zeros, infinities, mostly NaN."""
    rng = np.random.default_rng(k)
    scores = rng.standard_normal((8, 3001)).astype(np.float32)
    scores[1] = np.round(scores[1])
    scores[2] = 0
    scores[2, ::2] = -0.0
    scores[3, rng.random(3001) < 0.3] = np.inf
    scores[4, rng.random(3001) < 0.999] = -np.inf
    scores[5, rng.random(3001) < 0.99] = np.nan
    scores[6] = np.exp(20 * scores[6])
    scores[7] = np.arange(3001)
    gone = rng.random(scores.shape) < 0.05
    allowed = rng.random(3001) < 0.9
    items, value = top_k(scores, k, csr_array(gone), allowed)
    assert items.tolist() == literal(scores, ~gone & allowed, k)
    expected = np.where(items >= 0, np.take_along_axis(scores, items.clip(0), 1), np.nan)
    np.testing.assert_array_equal(value, expected)


def test_mask_may_differ_by_row() -> None:
    scores, _, _ = noisy(3)
    allowed = np.random.default_rng(0).random(scores.shape) < 0.5
    items, _ = top_k(scores, 5, None, allowed)
    assert items.tolist() == literal(scores, allowed, 5)


def test_nothing_left_is_all_padding() -> None:
    scores = np.full((2, 4), np.nan, np.float32)
    items, value = top_k(scores, 3)
    assert (items == -1).all() and np.isnan(value).all()
    assert top_k(scores[:, :0], 3)[0].tolist() == [[-1] * 3] * 2
    assert top_k(scores, 0)[0].shape == (2, 0)


def test_entries_of_weight_zero_and_unsorted_rows_are_excluded() -> None:
    scores = np.array([[3, 2, 1, 0]], np.float32)
    stored = csr_array(
        (np.zeros(2, np.float32), np.array([2, 0]), np.array([0, 2])), shape=scores.shape
    )
    assert top_k(scores, 4, stored)[0].tolist() == [[1, 3, -1, -1]]


def test_twins_of_what_was_seen_are_excluded() -> None:
    group = np.array([0, -1, 0, 1, 1, -1])
    seen = csr_array(np.array([[1, 0, 0, 0, 0, 0], [0, -1, 0, 0, 1, 0]], np.float32))
    gone = with_twins(seen, group)
    items, _ = top_k(np.ones((2, 6), np.float32), 6, gone)
    assert items.tolist() == [[1, 3, 4, 5, -1, -1], [0, 2, 5, -1, -1, -1]]


def test_given_items_are_excluded_even_where_the_sum_would_cancel() -> None:
    seen = csr_array(np.array([[-1, 0, 0], [0, 0, 0]], np.float32))
    gone = with_items(seen, np.array([[0, -1], [2, 1]]))
    items, _ = top_k(np.ones((2, 3), np.float32), 2, gone)
    assert items.tolist() == [[1, 2], [0, -1]]


@pytest.mark.parametrize("diversity", [0.0, 0.5])
def test_pages_follow_without_repeats(diversity: float) -> None:
    scores = np.random.default_rng(1).random((4, 300), dtype=np.float32)
    alike = np.arange(300) % 5
    whole = rank(scores, 260, diversity=diversity, alike=alike).items
    pages = [
        rank(scores, 20, offset=20 * p, diversity=diversity, alike=alike).items for p in range(13)
    ]
    np.testing.assert_array_equal(np.hstack(pages), whole)
    assert all(len(set(row)) == 260 for row in whole.tolist())


def test_diversity_is_maximal_marginal_relevance() -> None:
    rng = np.random.default_rng(2)
    scores = rng.random((6, 40), dtype=np.float32)
    vectors = rng.standard_normal((40, 3))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    items, value = top_k(scores, 15)
    chosen, _ = diverse(items, value, 6, vectors, 0.4)
    for b in range(6):
        low, high = value[b].min(), value[b].max()
        taken: list[int] = []
        for _ in range(6):
            left = [j for j in items[b] if j not in taken]

            def worth(j: int, b: int = b, taken: list[int] = taken) -> float:
                near = max((float(unit[j] @ unit[i]) for i in taken), default=0.0)
                return 0.6 * (scores[b, j] - low) / (high - low) - 0.4 * near  # noqa: B023

            taken.append(max(left, key=worth))
        assert chosen[b].tolist() == taken


def test_blocks_alternate_under_full_diversity() -> None:
    scores = np.array([[9, 8, 7, 3, 2, 1]], np.float32)
    block = np.array([0, 0, 0, 1, 1, 2])
    items = rank(scores, 3, diversity=0.9, alike=block).items
    assert sorted(block[items[0]]) == [0, 1, 2]
    assert items[0, 0] == 0


def test_short_and_empty_lists_stay_whole_under_diversity() -> None:
    scores = np.array([[5, np.nan, 3, 1], [np.nan] * 4], np.float32)
    lists = rank(scores, 6, diversity=0.5, alike=np.array([0, 0, 0, 1]))
    assert lists.items.tolist() == [[0, 3, 2, -1, -1, -1], [-1] * 6]


def test_options_that_need_another_say_so() -> None:
    scores = np.ones((1, 3), np.float32)
    with pytest.raises(ValueError, match="diversity needs alike"):
        rank(scores, 2, diversity=0.5)
    with pytest.raises(ValueError, match="explore needs rng"):
        rank(scores, 2, explore=0.5)


def test_exploration_is_seeded_marked_and_fresh() -> None:
    scores = np.random.default_rng(4).random((200, 60), dtype=np.float32)
    scores[:, 50:] = np.nan  # not scored, yet explored
    gone = csr_array(np.random.default_rng(5).random(scores.shape) < 0.3)
    allowed = np.arange(60) != 7
    plain, _ = top_k(scores, 10, gone, allowed)

    def lists(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        return rank(scores, 10, exclude=gone, allowed=allowed, explore=0.3, rng=rng)

    items, value, explored = lists(0)
    np.testing.assert_array_equal(items, lists(0)[0])
    assert (items != lists(1)[0]).any()
    assert 0.25 < explored.mean() < 0.35
    assert (items[explored] >= 50).any()
    assert np.isnan(value[items >= 50]).all()
    dense = gone.toarray()
    for b, row in enumerate(items):
        assert len(set(row)) == 10
        assert 7 not in row and not dense[b, row].any()
        kept = row[~explored[b]]
        assert kept.tolist() == plain[b, : len(kept)].tolist()  # the best stay, in order
        assert not set(row[explored[b]]) & set(plain[b])


def test_exploration_with_nothing_left_changes_nothing() -> None:
    scores = np.array([[3, 2, 1]], np.float32)
    lists = rank(scores, 3, explore=1.0, rng=np.random.default_rng(0))
    assert lists.items.tolist() == [[0, 1, 2]]
    assert not lists.explored.any()
