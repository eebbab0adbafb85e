"""Short vectors of all items, in one byte a number: a first guess of every score of a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import prange

from m6rec.arrays import Array, Floats, Ids, Scores
from m6rec.candidates.outline import Asked, Outline
from m6rec.compiled import compiled
from m6rec.data.query import Query
from m6rec.models.rounded import Rounded

DIM = 64  # length of the short vectors
SAMPLE = 20_000  # items from which the shortening is learned
CHUNK = 8192  # items that are shortened at once
STEP, SPARE = 64, 8  # every 64th guess is in a sample; more of it that reach the level
LEAST = np.float32(-np.inf)


@dataclass(frozen=True, eq=False)
class Sketch:
    """turn: (d, dim), what shortens the vectors of requests. middle: (G, d), the mean item of each
    group, which is taken off before its items are shortened. rows: (n, dim). group: (n,)."""

    outline: Outline
    turn: Floats
    middle: Floats
    rows: Rounded
    group: Ids

    @classmethod
    def of(cls, outline: Outline, query: Query, rng: np.random.Generator, dim: int = DIM) -> Sketch:
        """Learn the shortening from requests and a sample of the items, and shorten all items."""
        n, n_groups = len(outline.group), 2 * outline.n_domains
        items = np.sort(rng.permutation(n)[:SAMPLE])
        group, x = outline.group[items], outline.vectors(items)
        middle = np.zeros((n_groups, x.shape[1]), np.float32)
        for g in np.unique(group).tolist():
            middle[g] = x[group == g].mean(axis=0)
        asked = outline.asked(query, sparse=False)
        y = asked.vectors[:, outline.groups][asked.known[:, outline.groups]]
        turn, back = balanced(y, x - middle[group], dim)
        rows = []
        for first in range(0, n, CHUNK):
            some = np.arange(first, min(n, first + CHUNK))
            centred = outline.vectors(some) - middle[outline.group[some]]
            rows.append(Rounded.of((centred @ back).astype(np.float32)))
        codes, scale = (np.concatenate(each) for each in zip(*rows, strict=True))
        return cls(outline, turn, middle, Rounded(codes, scale), outline.group)

    def guesses(self, asked: Asked, items: Ids | None = None) -> Scores:
        """Return nearly the scores of the requests: (B, n), or (B, C) of these items."""
        at = slice(None) if items is None else items
        group, rows = self.group[at], self.rows if items is None else self.rows.take(items)
        found = np.zeros((len(asked.offset), len(group)), np.float32)
        for row, weight in asked.rows:
            _add_some(row if items is None else row[:, at], weight, group, found)
        rows.add_by_group(*self.short(asked), group, found)
        return found

    def short(self, asked: Asked) -> tuple[Floats, Floats]:
        """Return the short vectors (B, G, dim) of requests, and what each group has (B, G)."""
        offset = asked.offset + (asked.vectors * self.middle).sum(axis=2)
        return asked.vectors @ self.turn, offset.astype(np.float32)


def balanced(y: Floats, x: Floats, dim: int) -> tuple[Floats, Floats]:
    """Return maps (d, r) of requests and of items, r ≤ dim, after which the products of y (N, d)
    with x (M, d) differ least, in squares, from those before: the truncated SVD of y xᵀ, by way
    of both second moments (as in balanced truncation, Moore 1981)."""
    asked, there = _root(y), _root(x)
    u, s, v = np.linalg.svd(asked @ there)
    r = min(dim, max(1, int((s > 1e-6 * s.max(initial=0)).sum()))) if len(s) else 0
    size = np.sqrt(np.maximum(s[:r], 1e-30))
    return (there @ v[:r].T / size).astype(np.float32), (asked @ u[:, :r] / size).astype(np.float32)


def _root(rows: Floats) -> Array:
    """The square root (d, d) of the second moment of rows (N, d)."""
    moment = (rows.T @ rows).astype(np.float64) / max(1, len(rows))
    square, turn = np.linalg.eigh(moment)
    root: Array = (turn * np.sqrt(np.maximum(square, 0))) @ turn.T
    return root


@compiled(parallel=True)
def _add_some(row, weight, group, found):  # type: ignore[no-untyped-def]
    for b in prange(len(found)):
        for i in range(min(row.shape[1], found.shape[1])):
            found[b, i] += weight[b, group[i]] * row[b, i]


def best(guesses: Scores, allowed: Array, n: int) -> Ids:
    """Return the n greatest that are allowed, and what equals the n-th, in the order of the codes.

    A sample tells a level that some three times as many reach, so that few are sorted.
    """
    masked = np.where(allowed, guesses, LEAST)
    near = np.flatnonzero(masked > _level(masked, n))
    if len(near) < n:
        near = np.flatnonzero(masked > LEAST)
    if len(near) > n:
        value = masked[near]
        near = near[value >= np.partition(value, len(value) - n)[len(value) - n]]
    return near


def _level(values: Scores, n: int) -> Any:
    sample = values[::STEP]
    place = len(sample) - 3 * n // STEP - SPARE
    return np.partition(sample, place)[place] if place > 0 else LEAST
