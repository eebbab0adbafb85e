"""Short vectors of all items, in one byte a number: a first guess of every score of a request."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Self

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
HEAD = 16  # numbers of each vector, the weightiest, that a rough guess of all items reads
BLOCK = 512  # items of one group that stand together in the head


class Head(NamedTuple):
    """The first HEAD numbers of all items, n of them, dealt out in blocks of one group each, so
    that a vector register holds the same number of several items.

    codes: (K, HEAD, BLOCK) int8. scale: (K, BLOCK). items: (K, BLOCK) codes, n = an empty place.
    group: (K,).
    """

    codes: Array
    scale: Floats
    items: Ids
    group: Ids

    @classmethod
    def of(cls, rows: Rounded, group: Ids) -> Self:
        """Deal out rows (n, dim) by their group (n,)."""
        n, dim = rows.codes.shape
        places, of_block = [np.zeros((0, BLOCK), np.int32)], []
        for g in np.unique(group).tolist():
            inside = np.flatnonzero(group == g).astype(np.int32)
            missing = np.full(-len(inside) % BLOCK, n, np.int32)
            places.append(np.concatenate([inside, missing]).reshape(-1, BLOCK))
            of_block += [g] * len(places[-1])
        items = np.concatenate(places)
        codes = np.zeros((n + 1, HEAD), np.int8)
        codes[:n, : min(dim, HEAD)] = rows.codes[:, :HEAD]
        scale = np.append(rows.scale, np.float32(0))
        dealt = np.ascontiguousarray(codes[items].swapaxes(1, 2))
        return cls(dealt, scale[items], items, np.array(of_block, np.int16))


@dataclass(frozen=True, eq=False)
class Sketch:
    """turn: (d, dim), what shortens the vectors of requests; the first numbers say most. middle:
    (G, d), the mean item of each group, which is taken off before its items are shortened. rows:
    (n, dim). group: (n,)."""

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
        short = Rounded(*(np.concatenate(each) for each in zip(*rows, strict=True)))
        return cls(outline, turn, middle, short, outline.group)

    @cached_property
    def head(self) -> Head:
        """The heads of the rows; never made where an index finds what is near."""
        return Head.of(self.rows, self.group)

    def short(self, asked: Asked) -> Asked:
        """Return what is asked by short vectors (B, G, dim)."""
        offset = asked.offset + (asked.vectors * self.middle).sum(axis=2)
        return replace(asked, vectors=asked.vectors @ self.turn, offset=offset.astype(np.float32))

    def rough(self, short: Asked) -> Scores:
        """Return roughly the scores (B, n) of requests, by the heads of the short vectors."""
        n, dim = len(self.group), min(HEAD, short.vectors.shape[2])
        heads = np.zeros((*short.offset.shape, HEAD), np.float32)
        heads[:, :, :dim] = short.vectors[:, :, :dim]
        found = np.zeros((len(heads), n + 1), np.float32)  # with a place for what is no item
        for row, weight in short.rows:
            _add_some(row, weight, self.group, found)
        _add_heads(heads, short.offset, *self.head, found)
        return found[:, :n]

    def guesses(self, short: Asked, items: Ids) -> Scores:
        """Return nearly the scores (B, C) of these items."""
        found = np.zeros((len(short.offset), len(items)), np.float32)
        for row, weight in short.rows:
            _add_some(row[:, items], weight, self.group[items], found)
        self.rows.add_by_group(short.vectors, short.offset, self.group, items, found)
        return found


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
        for i in range(min(row.shape[1], len(group))):
            found[b, i] += weight[b, group[i]] * row[b, i]


@compiled(parallel=True, fastmath={"contract"})
def _add_heads(vectors, offset, codes, scale, items, group, found):  # type: ignore[no-untyped-def]
    for k in prange(len(group)):
        g, total = group[k], np.empty(BLOCK, np.float32)
        for b in range(len(vectors)):
            total[:] = 0
            for d in range(0, HEAD, 8):
                v, c = vectors[b, g, d : d + 8], codes[k, d : d + 8]
                for i in range(BLOCK):  # written out, so that it runs on vector units
                    total[i] += (
                        v[0] * np.float32(c[0, i]) + v[1] * np.float32(c[1, i])
                        + v[2] * np.float32(c[2, i]) + v[3] * np.float32(c[3, i])
                        + v[4] * np.float32(c[4, i]) + v[5] * np.float32(c[5, i])
                        + v[6] * np.float32(c[6, i]) + v[7] * np.float32(c[7, i])
                    )  # fmt: skip
            for i in range(BLOCK):
                found[b, items[k, i]] += total[i] * scale[k, i] + offset[b, g]


def best(guesses: Scores, allowed: Array, n: int) -> Ids:
    """Return the n greatest that are allowed, and what equals the n-th, in the order of the codes.

    A sample tells a level that some three times as many reach, so that few are sorted.
    """
    sample = np.where(allowed[::STEP], guesses[::STEP], LEAST)
    place = len(sample) - 3 * n // STEP - SPARE
    near: Ids = _above(guesses, allowed, np.partition(sample, place)[place] if place > 0 else LEAST)
    if len(near) < n:
        near = _above(guesses, allowed, LEAST)
    if len(near) > n:
        value = guesses[near]
        near = near[value >= np.partition(value, len(value) - n)[len(value) - n]]
    return near


@compiled()
def _above(guesses, allowed, level):  # type: ignore[no-untyped-def]
    found, n = np.empty(len(guesses), np.int64), 0
    for i in range(len(guesses)):
        found[n] = i
        n += allowed[i] and guesses[i] > level
    return found[:n].copy()
