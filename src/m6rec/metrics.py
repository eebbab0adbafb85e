"""Metrics: pure functions on arrays. Ties never help, and an abstained score ranks last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import prange
from scipy.sparse import csr_array

from m6rec.arrays import Array, Ids, Mask, Scores
from m6rec.compiled import compiled, structure
from m6rec.errors import ConfigError, suggestion

# of pessimistic ranks | of the top-k lists as shown | of predicted values
RANKING = ("precision", "recall", "capped_recall", "hit", "ndcg", "mrr", "map", "auc")
LISTS = ("coverage", "gini", "novelty", "diversity")
RATING = ("rmse", "mae")
GROUPS = 64  # rows are dealt out to this many groups, each with its own buffers
LEVELS = 4  # scores that are compared with an item's at once


def parse(metric: str) -> tuple[str, int | None]:
    """Return name and k of a metric such as "ndcg@10"; without "@k", the whole list counts.

    Raises ConfigError for an unknown name or a k that is not a whole number above 0.
    """
    name, at, depth = metric.strip().lower().partition("@")
    known = (*RANKING, *LISTS, *RATING)
    if name not in known:
        raise ConfigError(
            f'metric "{metric}" is unknown{suggestion(name, known)} (known: {", ".join(known)})'
        )
    if at and not (depth.isdecimal() and int(depth) > 0):
        raise ConfigError(f'metric "{metric}": write a whole number above 0 after "@"')
    if name in RATING and at:
        raise ConfigError(f'metric "{metric}": "{name}" has no "@k"; write "{name}"')
    if name in LISTS and not at:
        raise ConfigError(f'metric "{metric}": say how long the lists are, as in "{name}@10"')
    return name, int(depth) if at else None


def of_ranks(metric: str) -> tuple[str, int | None]:
    """Return ``parse`` of a metric of ranks; ConfigError for others."""
    name, k = parse(metric)
    if name not in RANKING:
        raise ConfigError(
            f'metric "{metric}" is not a metric of ranks (these are: {", ".join(RANKING)})'
        )
    return name, k


@dataclass(frozen=True, slots=True, eq=False)
class RankedRows:
    """Where the T targets of B rows came among their candidates.

    row, item, rank: (T,) sorted by row, then rank; rank 1 is best.
    candidates: (B,) how many items were ranked, the targets among them.
    """

    row: Ids
    item: Ids
    rank: Ids
    candidates: Ids

    def __len__(self) -> int:
        return len(self.candidates)

    @property
    def targets(self) -> Ids:
        """(B,) targets of each row."""
        return np.bincount(self.row, minlength=len(self))

    def only(self, kept: Mask) -> RankedRows:
        """Return the targets of a mask (T,); the others turn into ordinary candidates."""
        return RankedRows(self.row[kept], self.item[kept], self.rank[kept], self.candidates)

    def metric(self, metric: str) -> Array:
        """Return (B,) float64 values of a ranking metric; NaN for rows without targets.

        With n targets at ranks r_1 < … < r_n, all sums over r_j ≤ k:
        precision = hits / k, recall = hits / n, capped_recall = hits / min(k, n),
        hit = [hits > 0], mrr = 1 / r_1, map = Σ (j / r_j) / min(k, n),
        ndcg = Σ 1 / log2(r_j + 1) ÷ the same of the best possible ranks,
        auc = share of (target, other) pairs in the right order, none for a target beyond k.
        """
        name, k = of_ranks(metric)
        n = self.targets
        cut = self.candidates if k is None else np.full(len(self), k)
        place = np.arange(len(self.row)) - (np.cumsum(n) - n)[self.row] + 1  # j of r_j
        near = self.rank <= cut[self.row]

        def total(gain: Array) -> Array:
            return np.bincount(self.row, np.where(near, gain, 0.0), len(self))

        with np.errstate(invalid="ignore", divide="ignore"):
            best = np.minimum(cut, n)
            if name == "precision":
                value = total(np.ones(len(near))) / cut
            elif name == "recall":
                value = total(np.ones(len(near))) / n
            elif name == "capped_recall":
                value = total(np.ones(len(near))) / best
            elif name == "hit":
                value = total(place == 1)
            elif name == "mrr":
                value = total((place == 1) / self.rank)
            elif name == "map":
                value = total(place / self.rank) / best
            elif name == "ndcg":
                ideal = np.r_[0.0, np.cumsum(1 / np.log2(np.arange(int(best.max(initial=0))) + 2))]
                value = total(1 / np.log2(self.rank + 1)) / ideal[best]
            else:
                others = self.candidates - n
                value = total(others[self.row] - (self.rank - place)) / (n * others)
        return np.where(n > 0, value, np.nan)


def ranked(
    scores: Scores,
    targets: csr_array,
    exclude: csr_array | None = None,
    allowed: Mask | None = None,
) -> RankedRows:
    """Rank every target of each row among all candidates, in the worst order the scores allow.

    scores: (B, n) float32; NaN = abstained, ranks with -inf. targets, exclude: (B, n), by their
    stored entries. allowed: (n,) items that may be shown. Candidates are all allowed items that
    are not excluded; a target that is no candidate is left out. Other candidates with the score
    of a target count as better than it.
    """
    start, item = structure(targets)
    row = np.repeat(np.arange(len(scores)), np.diff(start))
    level = np.nan_to_num(scores[row, item], nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    order = np.lexsort((-level, row))
    item, level = item[order], level[order]
    nothing = np.zeros(len(scores) + 1, np.int64), np.zeros(0, np.int32)
    rank, candidates = _ranks(
        np.ascontiguousarray(scores, np.float32),
        start,
        item,
        np.asarray(level, np.float32),
        *(nothing if exclude is None else structure(exclude)),
        np.ones(scores.shape[1], np.bool_) if allowed is None else allowed,
    )
    kept = rank > 0
    return RankedRows(row[kept], item[kept], rank[kept], candidates)


def ranked_in_samples(
    scores: Scores,
    targets: csr_array,
    seen: csr_array,
    pool: Ids,
    n_samples: int,
    user: Ids,
    seed: int,
) -> tuple[RankedRows, Ids]:
    """Rank each target alone among ``n_samples`` items drawn uniformly from ``pool``.

    scores, targets, seen as in ``ranked``. pool: (P,) item codes; those the row has seen and
    the target itself are never drawn, none is drawn twice, and where fewer are left all are
    used. user: (B,) what the draw of a row depends on besides target and seed, so that every
    model and every batch meets the same draw. Returns one row per target, and its row in scores.
    """
    start, item = structure(targets)
    rank, candidates = _sampled_ranks(
        np.ascontiguousarray(scores, np.float32),
        start,
        item,
        *structure(seen),
        np.asarray(pool, np.int32),
        n_samples,
        np.asarray(user, np.int64),
        seed,
    )
    kept = rank > 0
    row = np.repeat(np.arange(len(scores)), np.diff(start))[kept]
    each = np.arange(len(row))
    return RankedRows(each, item[kept], rank[kept], candidates[kept]), row


def coverage(lists: Ids, n_items: int) -> float:
    """Return the share of ``n_items`` that occur in lists (B, k); -1 = no item."""
    return len(np.unique(lists[lists >= 0])) / max(n_items, 1)


def gini(lists: Ids, n_items: int) -> float:
    """Return how unequally lists (B, k) show ``n_items``: 0 = all alike, near 1 = one alone."""
    shown = np.unique(lists[lists >= 0], return_counts=True)[1]
    count = np.sort(np.r_[np.zeros(max(0, n_items - len(shown))), shown])
    n = len(count)
    if not count.sum():
        return float("nan")
    return float(((2 * np.arange(1, n + 1) - n - 1) * count).sum() / (n * count.sum()))


def novelty(lists: Ids, item_users: Ids, n_users: int) -> Array:
    """Return (B,) mean −log2 of the share of users that know an item; NaN for empty lists.

    item_users: (n_items,) users of each item in train, of ``n_users``; one more is added to
    both, so that an item without users has a finite value.
    """
    bits = np.log2(n_users + 1) - np.log2(np.asarray(item_users) + 1)
    there = lists >= 0
    with np.errstate(invalid="ignore"):
        value: Array = np.where(there, bits[lists], 0.0).sum(axis=1) / there.sum(axis=1)
    return value


def diversity(lists: Ids, vectors: csr_array) -> Array:
    """Return (B,) 1 − mean cosine over the pairs of a list; NaN for fewer than two items.

    vectors: (n_items, d) sparse; an item without any entry is like nothing.
    """
    length = np.sqrt(vectors.multiply(vectors).sum(axis=1))
    inverse = np.divide(1.0, length, out=np.zeros(len(length)), where=length > 0)
    unit = csr_array(vectors.multiply(inverse[:, None]))
    row, place = np.nonzero(lists >= 0)
    n = np.bincount(row, minlength=len(lists))
    member = csr_array(
        (np.ones(len(row)), (row, lists[row, place])), shape=(len(lists), len(length))
    )
    total = member @ unit  # |Σ x|² = Σ |x|² + 2 Σ over pairs
    pairs = total.multiply(total).sum(axis=1) - member @ (length > 0).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        value: Array = 1 - pairs / (n * (n - 1))
    return np.where(n > 1, value, np.nan)


@compiled(parallel=True, nogil=True)
def _ranks(
    scores: Scores,
    start: Ids,
    target: Ids,
    level: Scores,
    exclude_start: Ids,
    exclude: Ids,
    allowed: Mask,
) -> tuple[Ids, Ids]:
    """Ranks of targets that stand best first in each row; 0 = no candidate."""
    n_rows, n_items = scores.shape
    rank = np.zeros(len(target), np.int64)
    candidates = np.full(n_rows, allowed.sum(), np.int64)
    groups = min(n_rows, GROUPS)
    for group in prange(groups):
        other = np.empty(n_items, np.float32)  # scores of other candidates, else NaN
        levels = np.empty(LEVELS, np.float32)
        reaching = np.empty(LEVELS, np.int64)
        for b in range(group, n_rows, groups):
            _candidates(scores[b], allowed, other)
            for e in range(exclude_start[b], exclude_start[b + 1]):
                candidates[b] -= other[exclude[e]] == other[exclude[e]]
                other[exclude[e]] = np.nan
            before = 0
            for t in range(start[b], start[b + 1]):
                if other[target[t]] == other[target[t]]:
                    before += 1
                    rank[t] = before
                    other[target[t]] = np.nan
            for first in range(start[b], start[b + 1], LEVELS):
                last = min(first + LEVELS, start[b + 1])
                levels[: last - first] = level[first:last]
                _reaching(other, levels, reaching)
                for t in range(first, last):
                    rank[t] += reaching[t - first] if rank[t] > 0 else 0
    return rank, candidates


# Loops without branches, on 32 bits, run on vector units.
@compiled()
def _candidates(scores: Scores, allowed: Mask, into: Scores) -> None:
    """Scores of the allowed items, abstained ones -inf; else NaN."""
    for j in range(len(scores)):
        s = scores[j] if scores[j] == scores[j] else np.float32(-np.inf)
        into[j] = s if allowed[j] else np.float32(np.nan)


@compiled()
def _reaching(scores: Scores, levels: Scores, reaching: Ids) -> None:
    """Count the scores at or above each of the levels, in one pass."""
    a = b = c = d = np.int32(0)
    level_a, level_b, level_c, level_d = levels[0], levels[1], levels[2], levels[3]
    for j in range(len(scores)):
        s = scores[j]
        a = np.int32(a + (s >= level_a))
        b = np.int32(b + (s >= level_b))
        c = np.int32(c + (s >= level_c))
        d = np.int32(d + (s >= level_d))
    reaching[0], reaching[1], reaching[2], reaching[3] = a, b, c, d


@compiled(parallel=True, nogil=True)
def _sampled_ranks(
    scores: Scores,
    start: Ids,
    target: Ids,
    seen_start: Ids,
    seen: Ids,
    pool: Ids,
    n_samples: int,
    user: Ids,
    seed: int,
) -> tuple[Ids, Ids]:
    n_rows, n_items = scores.shape
    rank = np.zeros(len(target), np.int64)
    candidates = np.zeros(len(target), np.int64)
    pooled = np.zeros(n_items, np.bool_)
    pooled[pool] = True
    for b in prange(n_rows):
        left = len(pool)
        taken = np.full(n_items, -1, np.int64)  # last target that drew the item
        for e in seen[seen_start[b] : seen_start[b + 1]]:
            left -= pooled[e]
            taken[e] = len(target)
        for t in range(start[b], start[b + 1]):
            item = target[t]
            if taken[item] == len(target):  # seen: no candidate
                continue
            level = scores[b, item]
            taken[item] = t
            n = min(n_samples, left - pooled[item])
            state = _mixed(_mixed(_mixed(seed) + np.uint64(user[b])) + np.uint64(item))
            drawn, reaching = 0, 0
            while drawn < n:
                state = state + np.uint64(1)
                high = _mixed(state) >> np.uint64(32)
                other = pool[(high * np.uint64(len(pool))) >> np.uint64(32)]
                if taken[other] == t or taken[other] == len(target):
                    continue
                taken[other] = t
                drawn += 1
                # a NaN level is reached by all, a NaN score reaches nothing else
                reaching += level != level or scores[b, other] >= level
            rank[t] = 1 + reaching
            candidates[t] = 1 + n
    return rank, candidates


@compiled()
def _mixed(value: Any) -> Any:
    """The finaliser of splitmix64: 64 well-mixed bits of a counter."""
    z = np.uint64(value) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
