"""One side of a factorisation, cut into blocks of rows that are solved wherever the pool says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise

import numpy as np

from m6rec.arrays import Array, Floats, Ids, Mask
from m6rec.models.conjugate import EACH, solve_all
from m6rec.models.entries import Events
from m6rec.models.ridge import products, regressed, squares
from m6rec.pool import Pool, cut

MEASURED = 5000  # most users whose vectors tell the scale of a domain's


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """What stays of some rows from sweep to sweep.

    start (R + 1,), index, weight, target (N,), reg (R,): as of ``als.solve``. features: (R, p),
    whose map to the vectors is the prior. codes: the rows of the other side that the index
    counts through; None = all.
    """

    start: Ids
    index: Ids
    weight: Array
    target: Array
    reg: Array
    features: Floats
    codes: Ids | None = None

    def some(self) -> tuple[Mask, Floats, Array]:
        """Return the rows with entries (R,), and their features and strength."""
        counted = np.diff(self.start) > 0
        return counted, _of(self.features, counted), _of(self.reg, counted)


@dataclass(frozen=True, slots=True, eq=False)
class Solved:
    """vectors: (R, k). gram: (k, k) VᵀV of the rows with entries. prior: (p, k), the map from
    features to these."""

    vectors: Floats
    gram: Floats
    prior: Floats


class Side:
    """Users or items of one domain; on a cluster, their blocks are shared once."""

    def __init__(self, rows: Block, shrink: float, pool: Pool) -> None:
        """shrink: of the map from features, see ``ridge``."""
        count = np.diff(rows.start)
        bounds = cut(count + EACH, pool.size)
        self.pool, self.shrink = pool, shrink
        self.mean = float(rows.reg[count > 0].mean()) if count.any() else 0.0
        self.blocks = [pool.share(each) for each in _cut(rows, bounds)]
        self.square = total(pool.map(_squares, [(block,) for block in self.blocks]))

    def solve(self, factors: Floats, gram: Floats, prior: Floats) -> Solved:
        """Return the rows, solved from the other side's factors (n, k), the Gram matrix that
        stands for what was not observed, and the map from features to their priors."""
        given = self.pool.share(factors), gram, self.pool.share(prior)
        solved = self.pool.map(_solve, [(block, *given) for block in self.blocks])
        vectors, grams, moments = zip(*solved, strict=True)
        return Solved(np.concatenate(vectors), total(grams), self._map(total(moments)))

    def _map(self, product: Array) -> Floats:
        if not self.mean:
            return np.zeros(product.shape, np.float32)
        return regressed(self.square, product, self.mean, self.shrink)


def total(parts: Iterable[Array]) -> Array:
    """Return the sum of arrays of one shape."""
    return reduce(np.add, parts)


def _cut(rows: Block, bounds: Ids) -> Sequence[Block]:
    if len(bounds) == 2:
        return [rows]
    found = []
    for first, last in pairwise(bounds):
        at = slice(rows.start[first], rows.start[last])
        codes, index = np.unique(rows.index[at], return_inverse=True)
        found.append(
            Block(
                start=rows.start[first : last + 1] - rows.start[first],
                index=index,
                weight=rows.weight[at],
                target=rows.target[at],
                reg=rows.reg[first:last],
                features=rows.features[first:last],
                codes=codes,
            )
        )
    return found


def _of(rows: Array, some: Mask) -> Array:
    return rows if some.all() else rows[some]


def _squares(block: Block) -> Array:
    _, features, reg = block.some()
    return squares(features, reg)


def _solve(
    block: Block, factors: Floats, gram: Floats, prior: Floats
) -> tuple[Floats, Floats, Array]:
    if block.codes is not None:
        factors = factors[block.codes]
    counted, features, reg = block.some()
    found = solve_all(
        block.start, block.index, block.weight, block.target, factors, gram, counted, block.reg,
        block.features, prior,
    )  # fmt: skip
    some = _of(found, counted)
    return found, some.T @ some, products(features, some, reg)


def measured(part: Events, rng: np.random.Generator) -> Ids:
    """Draw the users whose vectors tell the scale of a domain's, in order."""
    active = np.flatnonzero(part.count)
    return np.sort(rng.permutation(active)[:MEASURED])


def scale(vectors: Floats) -> float:
    """Return the root of the mean square length of vectors (B, k); 1 where there are none."""
    square = float((vectors**2).sum(axis=1).mean()) if len(vectors) else 1.0
    return float(max(np.sqrt(square), 1e-6))
