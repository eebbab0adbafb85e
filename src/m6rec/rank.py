"""Scores to lists: the one place that excludes, sorts, diversifies and explores, for everybody."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import prange
from scipy.sparse import csr_array

from m6rec.arrays import Array, Ids, Mask, Scores
from m6rec.compiled import compiled, structure
from m6rec.data.query import ones

PADDING = -1e9  # worth of an empty place: below every item, above one that is taken
SPAN = 64  # most columns of which only the best is looked at first
HALVINGS = 24  # most steps to a level, as many as a float32 has bits of precision
GROUPS = 64  # rows are dealt out to this many groups, each with its own buffers
POOL = 200  # best items among which a diverse list is chosen; fixed, so that pages agree


class Lists(NamedTuple):
    """items: (B, k) columns of the scores, best first, -1 where there are no more.
    scores: (B, k) float32, NaN there. explored: (B, k) positions filled at random."""

    items: Ids
    scores: Scores
    explored: Mask


def rank(
    scores: Scores,
    k: int,
    *,
    exclude: csr_array | None = None,
    allowed: Mask | None = None,
    offset: int = 0,
    diversity: float = 0.0,
    alike: Array | None = None,
    explore: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Lists:
    """Return the lists to show: ``top_k``, then diversity, the page, and exploration.

    offset: how many items earlier pages have shown. diversity, alike: see ``diverse``.
    explore: share of positions, each drawn by ``rng``, that show a random item which the list
    does not hold (allowed, not excluded, perhaps not scored); the others move down. For the
    next page of a list with exploration, exclude what was shown (``with_items``) instead of
    giving an offset.
    """
    depth = k + offset
    if diversity:
        if alike is None:
            raise ValueError("diversity needs alike: what makes two items resemble each other")
        pool = top_k(scores, max(depth, POOL), exclude, allowed)
        items, value = diverse(*pool, depth, alike, diversity)
    else:
        items, value = top_k(scores, depth, exclude, allowed)
    items, value = items[:, offset:], value[:, offset:]
    if not explore:
        return Lists(items, value, np.zeros(items.shape, np.bool_))
    if rng is None:
        raise ValueError("explore needs rng: a seeded random stream")
    return _explored(scores, items, exclude, allowed, explore, rng)


def top_k(
    scores: Scores,
    k: int,
    exclude: csr_array | None = None,
    allowed: Mask | None = None,
) -> tuple[Ids, Scores]:
    """Return the k best columns of each row and their scores: (B, k) int32 and float32.

    scores: (B, n); NaN is never returned. exclude: (B, n), by its stored entries. allowed:
    (n,) or (B, n). Equal scores stand in the order of the columns. Where fewer than k are
    left, the rest is -1 and NaN.
    """
    n_rows, n = scores.shape
    k = max(0, k)
    items = np.full((n_rows, k), -1, np.int32)
    value = np.full((n_rows, k), np.nan, np.float32)
    if k and n:
        nothing = np.zeros(n_rows + 1, np.int64), np.zeros(0, np.int32)
        mask = np.ones((1, n), np.bool_) if allowed is None else np.atleast_2d(allowed)
        _select(
            np.ascontiguousarray(scores, np.float32),
            *(nothing if exclude is None else structure(exclude)),
            np.ascontiguousarray(mask, np.bool_),
            items,
            value,
        )
    return items, value


def diverse(
    items: Ids, scores: Scores, k: int, alike: Array, strength: float
) -> tuple[Ids, Scores]:
    """Reorder each list by maximal marginal relevance and keep k (Carbonell, Goldstein 1998).

    items, scores: (B, C) from ``top_k``, of which the first POOL are reordered. alike: (n,)
    codes such as domain or category, equal = alike; or (n, d) item vectors, compared by
    cosine. Each step takes the item with the greatest (1 − strength) · score, scaled to 0 … 1
    in its list, less strength · its greatest likeness to those already taken.
    """
    pool = items[:, :POOL]
    present = pool >= 0
    known = np.where(present, pool, 0)
    low = np.nanmin(np.where(present, scores[:, :POOL], np.inf), axis=1, keepdims=True)
    high = np.nanmax(np.where(present, scores[:, :POOL], -np.inf), axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        worth = (scores[:, :POOL] - low) / np.maximum(high - low, 1e-12)
    worth = np.where(present, (1 - strength) * worth, PADDING)
    trait = alike[known]  # (B, C) or (B, C, d)
    if alike.ndim == 2:
        trait = trait / np.maximum(np.linalg.norm(trait, axis=2, keepdims=True), 1e-12)
    likeness = np.full(pool.shape, -np.inf)
    rows = np.arange(len(pool))
    order = np.empty((len(pool), min(k, pool.shape[1])), np.int64)
    for position in range(order.shape[1]):
        penalty = strength * likeness if position else 0.0
        best = np.argmax(worth - penalty, axis=1)
        order[:, position] = best
        worth[rows, best] = -np.inf
        one = trait[rows, best]
        near = trait == one[:, None] if alike.ndim == 1 else np.einsum("bcd,bd->bc", trait, one)
        likeness = np.maximum(likeness, near)
    rest = slice(POOL, k)
    return (
        np.hstack([np.take_along_axis(pool, order, 1), items[:, rest]]),
        np.hstack([np.take_along_axis(scores[:, :POOL], order, 1), scores[:, rest]]),
    )


def these_items(items: Ids, n: int) -> csr_array:
    """Return the exclusion (1, n) of items (m,); -1 is skipped, and repeats count once."""
    column = np.unique(items[items >= 0])
    ones, ends = np.ones(len(column), np.float32), np.array([0, len(column)])
    return csr_array((ones, column, ends), shape=(1, n))


def with_items(exclude: csr_array, items: Ids) -> csr_array:
    """Return the exclusion (B, n) with the items (B, m) of each row added; -1 is skipped."""
    row, place = np.nonzero(items >= 0)
    entry = np.ones(len(row), np.float32)
    extra = csr_array((entry, (row, items[row, place])), shape=exclude.shape)
    return ones(exclude) + extra


def with_twins(exclude: csr_array, group: Ids) -> csr_array:
    """Return the exclusion (B, n) with all items of the same product added.

    group: (n,) code of the product, shared by its listings in several domains; -1 = no other.
    """
    if not (group[exclude.indices] >= 0).any():
        return exclude
    item = np.flatnonzero(group >= 0)
    shape = (len(group), int(group.max(initial=-1)) + 1)
    member = csr_array((np.ones(len(item), np.float32), (item, group[item])), shape=shape)
    return csr_array(ones(exclude) + ones(exclude) @ member @ member.T)


def _explored(
    scores: Scores,
    items: Ids,
    exclude: csr_array | None,
    allowed: Mask | None,
    share: float,
    rng: np.random.Generator,
) -> Lists:
    n_rows, k = items.shape
    none = np.zeros(0, np.int32)
    if exclude is None:
        exclude = csr_array((none, none, np.zeros(n_rows + 1, np.int32)), shape=scores.shape)
    listed = with_items(exclude, items)
    noise = rng.random(scores.shape, dtype=np.float32)
    drawn, _ = top_k(noise, k, listed, allowed)
    there = (items >= 0).sum(axis=1, keepdims=True)
    chosen = (rng.random((n_rows, k)) < share) & (np.arange(k) < there)
    chosen &= np.cumsum(chosen, axis=1) <= (drawn >= 0).sum(axis=1, keepdims=True)
    nth = np.where(chosen, np.cumsum(chosen, axis=1), np.cumsum(~chosen, axis=1)) - 1
    shown = np.where(
        chosen, np.take_along_axis(drawn, nth, axis=1), np.take_along_axis(items, nth, axis=1)
    )
    value = np.take_along_axis(scores, np.maximum(shown, 0).astype(np.int64), axis=1)
    return Lists(shown, np.where(shown >= 0, value, np.nan).astype(np.float32), chosen)


@compiled(parallel=True, nogil=True)
def _select(
    scores: Scores, start: Ids, exclude: Ids, allowed: Mask, items: Ids, value: Scores
) -> None:
    """Keep the k best of each row in a heap whose top is the worst; then empty it backwards.

    Columns are dealt out to spans; a level that the best of k spans reach, k items reach, so that
    only what reaches it comes near the heap.
    """
    n_rows, n = scores.shape
    k = items.shape[1]
    deep = max(1, min(SPAN, n // (8 * k)))  # columns of a span: there are far more spans than k
    n_spans = -(-n // deep)
    groups = min(n_rows, GROUPS)
    for group in prange(groups):
        left = np.full(n_spans * deep, np.nan, np.float32)  # scores of candidates, else NaN
        best = np.empty(n_spans, np.float32)
        for b in range(group, n_rows, groups):
            _candidates(scores[b], allowed[0] if len(allowed) == 1 else allowed[b], left)
            for e in range(start[b], start[b + 1]):
                left[exclude[e]] = np.nan
            _greatest(left, best)
            least = _level(best, k)
            item, heap = items[b], value[b]
            size = 0
            for span in range(n_spans):
                if not best[span] >= least:
                    continue
                for j in range(span, len(left), n_spans):
                    s = left[j]
                    if not s >= least:
                        continue
                    if size < k:
                        _rise(heap, item, size, s, j)
                        size += 1
                    elif _worse(heap[0], item[0], s, j):
                        _sink(heap, item, size, s, j)
            for last in range(size - 1, 0, -1):
                worst, code = heap[0], item[0]
                _sink(heap, item, last, heap[last], item[last])
                heap[last], item[last] = worst, code


# The loops of the next four stand alone and without branches, so that they run on vector units.
@compiled()
def _candidates(scores: Scores, allowed: Mask, into: Scores) -> None:
    for j in range(len(scores)):
        into[j] = scores[j] if allowed[j] else np.float32(np.nan)


@compiled()
def _greatest(left: Scores, best: Scores) -> None:
    """The greatest score of each span: the columns that are as far apart as there are spans."""
    best[:] = -np.inf
    for first in range(0, len(left), len(best)):
        row = left[first : first + len(best)]
        for c in range(len(best)):
            best[c] = row[c] if row[c] > best[c] else best[c]


@compiled()
def _level(best: Scores, k: int) -> Any:
    """Return a level that k to about 5/4 k of the spans reach, found by halving; -inf if none."""
    none = np.float32(-np.inf)
    low, high = np.float32(np.inf), none
    for c in range(len(best)):
        low = best[c] if best[c] < low and best[c] > none else low
        high = best[c] if best[c] > high else high
    if _reaching(best, low) < k:
        return none
    for _ in range(HALVINGS):
        level = np.float32(0.5) * low + np.float32(0.5) * high
        reached = _reaching(best, level)
        if reached < k:
            high = level
            continue
        low = level
        if reached <= k + k // 4:
            break
    return low


@compiled()
def _reaching(scores: Scores, level: float) -> int:
    count = 0
    for j in range(len(scores)):
        if scores[j] >= level:
            count += 1
    return count


@compiled()
def _worse(s: float, i: int, t: float, j: int) -> bool:
    return s < t or (s == t and i > j)


@compiled()
def _rise(heap: Scores, item: Ids, place: int, s: float, i: int) -> None:
    """Put an entry at the end of a heap and move it up to its place."""
    while place > 0:
        parent = (place - 1) // 2
        if not _worse(s, i, heap[parent], item[parent]):
            break
        heap[place], item[place] = heap[parent], item[parent]
        place = parent
    heap[place], item[place] = s, i


@compiled()
def _sink(heap: Scores, item: Ids, size: int, s: float, i: int) -> None:
    """Replace the top of a heap of this size and move the entry down to its place."""
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and _worse(heap[child + 1], item[child + 1], heap[child], item[child]):
            child += 1
        if not _worse(heap[child], item[child], s, i):
            break
        heap[place], item[place] = heap[child], item[child]
        place = child
    heap[place], item[place] = s, i
