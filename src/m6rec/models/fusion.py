"""Fusion weights: λ on the simplex, per domain and activity bucket, and of new items, learned on
a holdout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numba import prange
from scipy.sparse import csr_array

from m6rec.arrays import Array, Floats, Ids, Mask
from m6rec.compiled import compiled, plain
from m6rec.metrics import ranked
from m6rec.rank import top_k

TOP, RANDOM = 100, 200  # candidates of each row: the best of each part, and a random sample
TARGETS = 300  # most targets of a row
STEPS = (0.5, 0.2, 0.1, 0.05)  # shares of weight moved from all parts to one
FEWEST = 30  # rows, or targets among new items, from which λ of their own are learned
SHRINK = 300.0  # rows at which a bucket's own λ counts as much as its domain's


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """The calibrated part scores of R rows for a pool of C candidates.

    scores: (P, R, C); NaN = no candidate, or the part abstains. targets: (R, C). new: (R, C)
    candidates that are items without events.
    The pool of a row holds its targets, the best of every part and a random sample, so that
    a metric of the top is nearly that of the whole catalogue.
    """

    scores: Floats
    targets: csr_array
    new: Mask

    @classmethod
    def of(
        cls, scores: Sequence[Floats], targets: csr_array, seen: csr_array, new: Mask,
        rng: np.random.Generator,
    ) -> Pool:  # fmt: skip
        """Draw the pool from whole score rows, P of (R, n); seen items are no candidates, and
        of very many targets ``TARGETS`` are drawn, since the pools of all rows are as wide.

        new: (n,) items without events.
        """
        rows, n = scores[0].shape
        kept = np.zeros((rows, n), np.bool_)
        for s in scores:
            best, _ = top_k(s, min(TOP, n), exclude=seen)
            row, column = np.nonzero(best >= 0)
            kept[row, best[row, column]] = True
        kept[np.arange(rows)[:, None], rng.integers(0, n, (rows, min(RANDOM, n)))] = True
        hit = np.zeros((rows, n), np.bool_)
        hit[np.repeat(np.arange(rows), np.diff(targets.indptr)), targets.indices] = True
        past = np.repeat(np.arange(rows), np.diff(seen.indptr)), seen.indices
        kept[past] = hit[past] = False
        for r in np.flatnonzero(hit.sum(axis=1) > TARGETS):
            every = np.flatnonzero(hit[r])
            hit[r, rng.permutation(every)[TARGETS:]] = kept[r, every] = False
        row, column = np.nonzero(kept | hit)
        place = np.arange(len(row)) - np.searchsorted(row, np.arange(rows))[row]
        pooled = np.full((len(scores), rows, int(place.max(initial=0)) + 1), np.nan, np.float32)
        for p, s in enumerate(scores):
            pooled[p, row, place] = s[row, column]
        fresh = np.zeros(pooled.shape[1:], np.bool_)
        fresh[row, place] = new[column]
        at = hit[row, column]
        ones = np.ones(int(at.sum()), np.float32)
        return cls(pooled, csr_array((ones, (row[at], place[at])), shape=pooled.shape[1:]), fresh)

    @property
    def told(self) -> Mask:
        """(R,) rows that have a target."""
        return np.diff(self.targets.indptr) > 0

    @classmethod
    def joined(cls, pools: Sequence[Pool]) -> Pool:
        """Return the rows of several pools as one."""
        width = max(pool.scores.shape[2] for pool in pools)
        missing = [(0, 0), (0, 0)]
        wide = [
            np.pad(p.scores, [*missing, (0, width - p.scores.shape[2])], constant_values=np.nan)
            for p in pools
        ]
        before = np.cumsum([0, *(len(p.targets.indptr) - 1 for p in pools)])
        places = [p.targets.nonzero() for p in pools]
        row = np.concatenate([r + at for (r, _), at in zip(places, before, strict=False)])
        column = np.concatenate([c for _, c in places])
        ones = np.ones(len(row), np.float32)
        return cls(
            np.concatenate(wide, axis=1),
            csr_array((ones, (row, column)), shape=(int(before[-1]), width)),
            np.concatenate([np.pad(p.new, ((0, 0), (0, width - p.new.shape[1]))) for p in pools]),
        )

    def take(self, some: Mask) -> Pool:
        """Return some of the rows."""
        if some.all():
            return self
        return Pool(self.scores[:, some], csr_array(self.targets[some]), self.new[some])

    def values(self, weights: Array, metric: str) -> Array:
        """Return the metric of each row (R,) under weights (P,)."""
        blended = blend(self.scores, weights.astype(np.float32)[:, None])
        found: Array = ranked(blended, self.targets).metric(metric)
        return np.nan_to_num(found)


def blend(scores: Floats, weights: Array) -> Floats:
    """Return Σ_p λ_p s_p / Σ_p λ_p over the parts that do not abstain: (P, R, C) → (R, C).

    weights: (P, R) or (P, 1). NaN where every part abstains.
    """
    found = np.empty(scores.shape[1:], np.float32)
    weight = np.broadcast_to(weights, scores.shape[:2])
    _blend(plain(scores, np.float32), plain(weight, np.float32), found)
    return found


@compiled(parallel=True)
def _blend(scores, weights, found):  # type: ignore[no-untyped-def]
    parts, rows, columns = scores.shape
    for r in prange(rows):
        total, mass = np.zeros(columns, np.float32), np.zeros(columns, np.float32)
        said = np.zeros(columns, np.bool_)
        for p in range(parts):
            w = weights[p, r]
            if w > 0:
                _add_run(total, mass, said, scores[p, r], w, np.float32(0), w, True)
        for c in range(columns):
            found[r, c] = total[c] / mass[c] if said[c] else np.float32(np.nan)


@dataclass(frozen=True, slots=True, eq=False)
class Mixed:
    """Parts' scores that are being added up: Σ λ z and Σ λ of each cell (R, C), and whether a
    personal part with a λ said anything of it. domain: (C,) of each column. start: where columns
    of one domain that stand side by side begin, and the end."""

    total: Floats
    mass: Floats
    said: Mask
    domain: Ids
    start: Ids

    @classmethod
    def of(cls, rows: int, domain: Ids) -> Mixed:
        shape = (rows, len(domain))
        return cls(np.zeros(shape, np.float32), np.zeros(shape, np.float32),
                   np.zeros(shape, np.bool_), domain, runs(domain))  # fmt: skip

    def add(
        self,
        scores: Floats,
        weight: Array,
        calibration: Array,
        personal: bool = True,
        rows: Ids | None = None,
    ) -> None:
        """Add a part. scores: (R, C), or of some rows; NaN = abstains. weight: (R, D), 0 = the
        part does not count. calibration: (R, D, 2) mean and deviation. personal: whether it
        counts as having said something."""
        rows = np.arange(len(scores)) if rows is None else rows
        _add(self.total, self.mass, self.said, rows, scores,
             weight, calibration, self.domain, self.start, personal)  # fmt: skip

    def silent(self) -> tuple[Ids, Ids]:
        """Return the rows and the columns with cells of which no personal part has spoken."""
        rows, columns = (np.zeros(n, np.bool_) for n in self.said.shape)
        _silent(self.said, rows, columns)
        return np.flatnonzero(rows), np.flatnonzero(columns)

    def take(self, rows: Ids, columns: Ids) -> Mixed:
        """Return the sums of these rows and columns."""
        cells = np.ix_(rows, columns)
        domain = self.domain[columns]
        return Mixed(self.total[cells], self.mass[cells], self.said[cells], domain, runs(domain))

    def fill(self, other: Mixed, rows: Ids, columns: Ids) -> None:
        """Take over, for these rows and columns, the sums of cells that were silent here."""
        cells = np.ix_(rows, columns)
        heard = self.said[cells]
        self.total[cells] = np.where(heard, self.total[cells], other.total)
        self.mass[cells] = np.where(heard, self.mass[cells], other.mass)
        self.said[cells] |= other.said

    def scores(self) -> Floats:
        """Return Σ λ z / Σ λ, NaN where no personal part has spoken."""
        result = np.empty_like(self.total)
        _mean(self.total, self.mass, self.said, result)
        return result


def runs(domain: Ids) -> Ids:
    """Return where runs of equal domains (C,) begin, and C."""
    start: Ids = np.r_[0, np.flatnonzero(np.diff(domain)) + 1, len(domain)]
    return start


def calibrated(scores: Floats, calibration: Array, domain: Ids) -> Floats:
    """Return (score − mean) / deviation of each cell (R, C), float32; NaN stays. calibration:
    (R, D, 2) mean and deviation; domain: (C,) of each column."""
    found = np.empty(scores.shape, np.float32)
    _calibrate(scores, calibration, domain, found)
    return found


@compiled(parallel=True)
def _calibrate(scores, calibration, domain, found):  # type: ignore[no-untyped-def]
    for r in prange(scores.shape[0]):
        for c in range(scores.shape[1]):
            d = domain[c]
            found[r, c] = (scores[r, c] - calibration[r, d, 0]) / calibration[r, d, 1]


@compiled(parallel=True)
def _add(total, mass, said, rows, scores, weight, calibration, domain, start, personal):  # type: ignore[no-untyped-def]
    for i in prange(scores.shape[0]):
        r = rows[i]
        for n in range(len(start) - 1):
            first, last = start[n], start[n + 1]
            d = domain[first]
            w = weight[r, d]
            if w > 0:
                _add_run(
                    total[r, first:last], mass[r, first:last], said[r, first:last],
                    scores[i, first:last], w, calibration[r, d, 0], w / calibration[r, d, 1],
                    personal,
                )  # fmt: skip


# Without branches it runs on vector units.
@compiled()
def _add_run(total, mass, said, scores, w, mean, scale, personal):  # type: ignore[no-untyped-def]
    zero = np.float32(0)
    for c in range(len(scores)):
        z = (scores[c] - mean) * scale
        there = z == z
        total[c] += z if there else zero
        mass[c] += w if there else zero
        said[c] |= there & personal


@compiled(parallel=True)
def _silent(said, rows, columns):  # type: ignore[no-untyped-def]
    for r in prange(said.shape[0]):
        for c in range(said.shape[1]):
            if not said[r, c]:
                rows[r] = True
                columns[c] = True  # of several threads each writes the same


@compiled(parallel=True)
def _mean(total, mass, said, result):  # type: ignore[no-untyped-def]
    for r in prange(total.shape[0]):
        for c in range(total.shape[1]):
            result[r, c] = total[r, c] / mass[r, c] if said[r, c] else np.float32(np.nan)


def simplex_search(pool: Pool, metric: str, start: Array | None = None) -> Array:
    """Return the weights (P,) of the best mean metric; see ``climb``."""
    return climb(lambda w: pool.values(w, metric).mean(), len(pool.scores), start)


def climb(value: Callable[[Array], float], n: int, start: Array | None = None) -> Array:
    """Return weights (n,) on the simplex of great value: from the best single part (or ``start``),
    moving shares of weight to one part at a time while that helps."""
    corners = np.eye(n)
    candidates = [*corners] if start is None else [*corners, start]
    found = [value(w) for w in candidates]
    best: Array = candidates[int(np.argmax(found))]
    most = max(found)
    for step in STEPS:
        improved = True
        while improved:
            improved = False
            for corner in corners:
                for moved in ((1 - step) * best + step * corner, removed(best, corner, step)):
                    tried = value(moved)
                    if tried > most + 1e-6:
                        best, most, improved = moved, tried, True
    return best


def removed(weights: Array, corner: Array, step: float) -> Array:
    """Return the weights with a share of one part's weight spread over the others."""
    less = weights * (1 - corner * min(1.0, 2 * step))
    total = less.sum()
    moved: Array = less / total if total > 0 else weights
    return moved


def learn(pool: Pool, buckets: Ids, n_buckets: int, metric: str) -> Array:
    """Return λ (n_buckets, P): the domain's, and in each bucket its own, shrunk to the domain's.

    Where the best single part beats the shrunk blend in a bucket of some size, it is taken.
    """
    domain = simplex_search(pool, metric)
    table = np.tile(domain, (n_buckets, 1))
    for b in range(n_buckets):
        n = int((buckets == b).sum())
        if n < FEWEST:
            continue
        some = pool.take(buckets == b)
        own = simplex_search(some, metric, domain)
        share = n / (n + SHRINK)
        shrunk = share * own + (1 - share) * domain
        singles = [*np.eye(len(domain)), domain, shrunk]
        value = [some.values(w, metric).mean() for w in singles]
        guard = int(np.argmax(value)) if n > SHRINK else len(singles) - 1
        table[b] = singles[guard]
    return table


def learn_new(pool: Pool, table: Array, buckets: Ids, metric: str, cost: float) -> Array | None:
    """Return λ (P,) of items without events; None = as of the others.

    table: (n_buckets, P) λ of the others. Of all λ with which the other targets lose at most a
    share ``cost`` of their metric to new items, those are taken with which the targets among the
    new items are ranked best, if that is better than with the others' λ.
    """
    row, column = pool.targets.nonzero()
    among = pool.new[row, column]
    if among.sum() < FEWEST or among.all():
        return None

    def side(of: Mask) -> tuple[csr_array, Ids, tuple[Ids, Ids]]:
        """Targets of one kind, the rows that have some, and the cells of the other kind."""
        ones = np.ones(int(of.sum()), np.float32)
        targets = csr_array((ones, (row[of], column[of])), shape=pool.targets.shape)
        return targets, np.flatnonzero(np.diff(targets.indptr)), (row[~of], column[~of])

    wanted, others = side(among), side(~among)

    def mean(scores: Floats, kind: tuple[csr_array, Ids, tuple[Ids, Ids]]) -> float:
        targets, some, hits = kind
        scores = scores.copy()
        scores[hits] = np.nan  # what is wanted as well stands in nobody's way
        found = ranked(scores[some], csr_array(targets[some])).metric(metric)
        return float(np.nan_to_num(found).mean())

    alike = blend(pool.scores, table[buckets].T.astype(np.float32))
    least = (1 - cost) * mean(np.where(pool.new, np.float32(np.nan), alike), others)
    speak = np.flatnonzero([(~np.isnan(s[pool.new])).any() for s in pool.scores])

    def value(weights: Array) -> float:
        own = blend(pool.scores[speak], weights.astype(np.float32)[:, None])
        scores = np.where(pool.new, own, alike)
        return mean(scores, wanted) if mean(scores, others) >= least else -1.0

    if not len(speak):
        return None
    best = climb(value, len(speak))
    if value(best) <= mean(alike, wanted):
        return None
    found = np.zeros(len(pool.scores))
    found[speak] = best
    return found


def least_squares(scores: Floats, target: Array) -> Array:
    """Return λ (P,) on the simplex of least squared error: (P, N) predictions, (N,) ratings; 0 of
    parts that predict none of them."""
    n, silent = len(scores), np.isnan(scores).all(axis=1)
    if silent.any() and not silent.all():
        found = np.zeros(n)
        found[~silent] = least_squares(scores[~silent], target)
        return found
    known = ~np.isnan(scores).any(axis=0)
    if not known.any():
        return np.full(n, 1 / n)
    x, y = scores[:, known].astype(np.float64), target[known]
    error = x - y  # Σ λ = 1, so the blended error is Σ_p λ_p (x_p − y)
    gram = error @ error.T / known.sum()
    weights = np.full(n, 1 / n)
    for _ in range(2000):  # exponentiated gradient (Kivinen & Warmuth 1997)
        slope = gram @ weights
        weights *= np.exp(-0.5 * (slope - weights @ slope) / max(slope.max(), 1e-12))
        weights /= weights.sum()
    weights[weights < 1e-3] = 0
    weights /= weights.sum()
    return weights
