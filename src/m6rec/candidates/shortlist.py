"""Candidates: a request is scored exactly, but only on the items that can be among its best."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from m6rec.arrays import Ids, Mask, Scores
from m6rec.candidates.index import Index, Lists, library
from m6rec.candidates.outline import Asked, Outline, outlined
from m6rec.candidates.sketch import DIM, Sketch, best
from m6rec.data.dataset import Dataset
from m6rec.data.query import Query
from m6rec.models.base import Model
from m6rec.rank import top_k
from m6rec.tracking import Run

log = logging.getLogger("m6rec")

EXACT = 75_000  # items up to which "auto" scores all
READ = 1_000_000  # items up to which "auto" reads the short vectors of all
SIZES = (500, 1000, 2000, 5000, 10_000)  # candidates that "auto" tries, in this order
LEAST = 0.98  # share of the exact best DEPTH that must be among them
DEPTH = 100
ROUGH = 4  # × n items, the best of a rough guess, are guessed anew
TAUGHT, TRIED = 512, 64  # users from whom the shortening is learned, and on whom it is tried
TOGETHER, WIDE = 8, 20_000  # most requests scored together, and candidates that they have in all


class Wanted(NamedTuple):
    """What one request looks for. n: candidates. allowed: (n_items,) items. exclude: (M,) codes."""

    n: int
    allowed: Mask
    exclude: Ids | None = None

    def left(self) -> Mask:
        """(n_items,) what may be a candidate."""
        there = self.allowed.copy()
        if self.exclude is not None:
            there[self.exclude] = False
        return there


class Found(NamedTuple):
    """codes: (C,) the candidates of one request, increasing; None = all items. scores: (C,)."""

    codes: Ids | None
    scores: Scores


@dataclass(frozen=True, eq=False)
class Shortlist:
    """Finds the candidates of a request: the n best by a guess of the fused score (see
    ``Outline`` and ``Sketch``), and all items that came after the fit.

    lists: finds what is guessed in faster, None = all items are. recall: the mean share of the
    exact best 100 of users of the run that was among n candidates.
    """

    sketch: Sketch
    n: int
    lists: Lists | None = None
    recall: float = float("nan")

    @classmethod
    def of(
        cls, model: Model, data: Dataset, n: int, index: Index = "auto", dim: int = DIM
    ) -> Shortlist | None:
        """Build the short vectors of a model's items, from users of the data; None where the
        model is no blend of rankings, or there are no users."""
        if index == "ivf":
            library()
        users = np.unique(data.user)
        if not outlined(model) or data.explicit.any() or not len(users):
            return None
        rng = Run(seed=0).rng("candidates")
        query = data.query(np.sort(rng.permutation(users)[:TAUGHT]))
        outline = Outline(model, query.take(slice(0, 32)))
        if not outline.embeds:
            return None
        sketch = Sketch.of(outline, query, rng, dim)
        large = data.n_items > READ and find_spec("faiss") is not None
        listed = index == "ivf" or (index == "auto" and large)
        return cls(sketch, n, Lists(sketch) if listed else None)

    @classmethod
    def chosen(
        cls, model: Model, data: Dataset, candidates: int | str, index: Index = "auto"
    ) -> Shortlist | None:
        """Return what finds the candidates of a run, or None: all items are scored.

        candidates: how many; 0 = all; "auto" = all up to EXACT items, else the least of SIZES
        with which LEAST of the exact best 100 are found for TRIED users of the run, or all.
        """
        if candidates == 0 or (candidates == "auto" and data.n_items <= EXACT):
            return None
        auto = candidates == "auto"
        made = cls.of(model, data, SIZES[0] if auto else int(candidates), index)
        if made is None or not auto:
            return made
        rng = Run(seed=1).rng("candidates")
        query = data.query(np.sort(rng.permutation(np.unique(data.user))[:TRIED]))
        found = recalls(model, made, query, ~data.hidden, SIZES)
        for n, recall in zip(SIZES, found, strict=True):
            if recall >= LEAST:
                log.info("lists: %d candidates of %d items hold %.4f of the exact best %d",
                         n, data.n_items, recall, DEPTH)  # fmt: skip
                return cls(made.sketch, n, made.lists, recall)
        log.warning(
            "lists: %d candidates hold only %.3f of the exact best %d, so all %d items are scored",
            SIZES[-1], found[-1], DEPTH, data.n_items,
        )  # fmt: skip
        return None

    def wanted(self, depth: int, allowed: Mask, exclude: Ids | None = None) -> Wanted:
        """Return what to look for, for a list of ``depth``."""
        return Wanted(self.n * max(1, -(-depth // DEPTH)), allowed, exclude)

    def candidates(self, query: Query, wanted: Sequence[Wanted]) -> list[Ids | None]:
        """Return for each request the codes of about n candidates, increasing; None = all items,
        where nothing personal is known, or what can be guessed is too little."""
        found: list[Ids | None] = [None] * len(query)
        open_: dict[int, Mask] = {}
        for b, one in enumerate(wanted):
            there = one.left()
            if np.count_nonzero(there) <= 2 * one.n:
                found[b] = np.flatnonzero(there)
            else:
                open_[b] = there
        if open_:
            short = self.sketch.short(self.sketch.outline.asked(query.at([*open_])))
            rough = self.sketch.rough(short) if self.lists is None else [None] * len(open_)
            for row, (b, there) in enumerate(open_.items()):
                found[b] = self._best(short.take(row), rough[row], wanted[b].n, there)
        return found

    def _best(self, short: Asked, rough: Scores | None, n: int, there: Mask) -> Ids | None:
        """The candidates of one request, from a rough guess (n_items,), or else from the lists."""
        outline = self.sketch.outline
        fitted = len(outline.group)
        later = np.arange(fitted, len(there))[there[fitted:]]
        there = there[:fitted] & outline.guessed
        unknown = outline.groups[~short.known[0, outline.groups]]
        if len(unknown) and np.isin(outline.group[there], unknown).any():
            return None
        if np.count_nonzero(there) < n:
            return None
        near = self._listed(short, n, there) if rough is None else best(rough, there, ROUGH * n)
        (guesses,) = self.sketch.guesses(short, near)
        return np.concatenate([near[best(guesses, np.ones(len(near), np.bool_), n)], later])

    def _listed(self, short: Asked, n: int, allowed: Mask) -> Ids:
        assert self.lists is not None
        found = [self.lists.found(short.vectors[0], n, allowed)]
        for row, _ in short.rows:
            found.append(best(row[0], allowed & (row[0] > 0), n))
        return np.unique(np.concatenate(found))

    def found(self, model: Model, query: Query, wanted: Sequence[Wanted]) -> list[Found]:
        """Return the candidates of each request and their scores. model: that of the run, or one
        that came of it by updates."""
        found: list[Found] = []
        step = max(1, min(TOGETHER, WIDE // self.n))
        for first in range(0, len(query), step):
            rows = range(first, min(len(query), first + step))
            found += self._found(model, query.at(rows), wanted[first : first + step])
        return found

    def _found(self, model: Model, query: Query, wanted: Sequence[Wanted]) -> list[Found]:
        """Score together: each request on the candidates of all."""
        codes = self.candidates(query, wanted)
        some = {b: each for b, each in enumerate(codes) if each is not None and len(each)}
        scored: dict[int, Scores] = {}
        if some:
            union = np.unique(np.concatenate([*some.values()]))
            rows = model.score(query.at([*some]), union)
            for row, (b, own) in zip(rows, some.items(), strict=True):
                scored[b] = row[np.searchsorted(union, own)]
        nothing = np.zeros(0, np.float32)
        return [
            Found(None, model.score(query.at([b]))[0])
            if own is None
            else Found(own, scored.get(b, nothing))
            for b, own in enumerate(codes)
        ]

    def scores(
        self, model: Model, query: Query, depth: int, allowed: Mask,
        exclude: csr_array | None = None,
    ) -> Scores:  # fmt: skip
        """Return (B, n_items): the scores of each request's candidates for a list of ``depth``,
        NaN of all others. exclude: (B, n_items), by its stored entries."""
        gone = (
            [None] * len(query)
            if exclude is None
            else np.split(exclude.indices, exclude.indptr[1:-1])
        )
        wanted = [self.wanted(depth, allowed, each) for each in gone]
        scores = np.full((len(query), model.n_items), np.nan, np.float32)
        for b, each in enumerate(self.found(model, query, wanted)):
            scores[b, slice(None) if each.codes is None else each.codes] = each.scores
        return scores


def recalls(
    model: Model, made: Shortlist, query: Query, allowed: Mask, sizes: tuple[int, ...]
) -> list[float]:
    """Return for each number of candidates the mean share of the exact best DEPTH of requests
    that is among them, over requests that have candidates; NaN where none has. What the requests
    have seen is left out."""
    found: list[list[float]] = [[] for _ in sizes]
    for b in range(len(query)):
        one = query.at([b])
        exact, _ = top_k(model.score(one), DEPTH, exclude=one.seen, allowed=allowed)
        best_ = exact[exact >= 0]
        for shares, n in zip(found, sizes, strict=True):
            (codes,) = made.candidates(one, [Wanted(n, allowed, one.seen.indices)])
            if codes is not None and len(best_):
                shares.append(float(np.isin(best_, codes).mean()))
    return [float(np.mean(shares)) if shares else float("nan") for shares in found]
