"""Holdouts and their judges: what a candidate of options is worth to the users of each domain."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache

import numpy as np
from scipy.sparse import csr_array

from m6rec.arrays import Array, Ids, Mask
from m6rec.data.dataset import Dataset
from m6rec.data.holdout import holdout
from m6rec.data.query import Query
from m6rec.data.splits import Split
from m6rec.metrics import ranked
from m6rec.models.base import Model
from m6rec.models.popular import Popular
from m6rec.pool import Pool
from m6rec.tracking import Run

ROWS = 4000  # most users of one holdout that a domain is judged by
WANTED = 8000  # a domain with fewer than ROWS is judged by several holdouts, until it has these
HOLDOUTS = 4  # most holdouts
ORDERED = 2  # most of events in order: one more would hold out the same newest events again
FEWEST = 20  # users by whom anything is told with certainty
METRIC = "ndcg@100"  # of a judge
ASKED = 512  # requests at once


def gain(new: Array, old: Array, users: Ids | None = None) -> float:
    """Return the mean paired difference in standard errors; 0 where there are too few users.

    users: (R,) whose value each is; several of one user are not independent, so that the error is
    that of their sums. None = each is of another.
    """
    difference = new - old
    of = np.arange(len(new)) if users is None else np.unique(users, return_inverse=True)[1]
    n = int(of.max(initial=-1)) + 1
    if n < FEWEST:
        return 0.0
    mean = difference.mean()
    error = np.sqrt((np.bincount(of, difference - mean) ** 2).sum() * n / (n - 1)) / len(new)
    return float(mean / error) if error > 0 else float(np.sign(mean) * np.inf) if mean else 0.0


def carved(split: Split, run: Run) -> Callable[[int], Split]:
    """Return number → holdout: the split, then further ones, carved from its train."""

    @cache
    def holdouts(r: int) -> Split:
        return holdout(split.train, run.rng("holdout", str(r))) if r else split

    return holdouts


class Judges:
    """The holdouts, each with its judge; the domains that are thin in the first use more.

    users: domain → (R,) whose values those of a candidate are. thin: (D,) the thin domains.
    """

    def __init__(self, holdouts: Callable[[int], Split], run: Run) -> None:
        """holdouts: number, below ``HOLDOUTS`` → holdout."""
        self.run = run
        self.names = [d.name for d in holdouts(0).train.domains]
        self.each = [self._judge(holdouts, 0)]
        rows = np.array([len(rows) for rows in self.each[0].rows])
        self.thin: Mask = rows < ROWS
        wanted = np.ceil(WANTED / np.maximum(rows, 1))
        train = holdouts(0).train
        most = 1 if len(train) < 2 else ORDERED if train.ordered else HOLDOUTS
        self.uses = np.where(self.thin, wanted, 1).clip(1, most).astype(int)
        self.each += [self._judge(holdouts, r) for r in range(1, self.uses.max())]
        used = [self.each[:n] for n in self.uses.tolist()]
        self.users = {
            name: np.concatenate([judge.rows[d] for judge in used[d]])
            for d, name in enumerate(self.names)
        }

    def _judge(self, holdouts: Callable[[int], Split], r: int) -> Judge:
        split = holdouts(r)
        popular = Popular().fit(split.train, self.run)
        return Judge(split, popular, self.run.rng("rows", str(r)), self.run.pool)

    def gain(self, name: str, new: Array, old: Array) -> float:
        """Return ``gain`` of values (R,) of a domain."""
        return gain(new, old, self.users[name])

    def heard(self, asked: Collection[str]) -> Iterator[tuple[int, Judge, list[str]]]:
        """Yield each holdout that is used, its judge, and those of the domains that use it."""
        uses = dict(zip(self.names, self.uses.tolist(), strict=True))
        for r, judge in enumerate(self.each):
            if here := [name for name in self.names if name in asked and r < uses[name]]:
                yield r, judge, here


class Judge:
    """The holdout as values per user and domain: NDCG, or −(error²).

    A user for whom the model abstains gets what is popular, as in any list that is shown.
    """

    def __init__(self, split: Split, popular: Model, rng: np.random.Generator, pool: Pool) -> None:
        self.split, self.popular, self.pool = split, popular, pool
        targets = split.test.positives
        self.items: list[Ids] = []
        self.rows: list[Ids] = []
        self.moments: list[Ids] = []  # when each of the rows is asked
        domain = split.context.item_domain[split.context.item]
        order, size = (
            np.argsort(domain, kind="stable"),
            np.bincount(domain, minlength=split.train.n_domains),
        )
        self._events = np.split(order, np.cumsum(size)[:-1])  # of each domain
        self._contexts: dict[frozenset[str], Dataset] = {}
        for d in range(split.train.n_domains):
            items = np.flatnonzero((split.train.item_domain == d) & ~split.train.hidden)
            users = np.flatnonzero(np.diff(csr_array(targets[:, items]).indptr))
            self.items.append(items)
            self.rows.append(np.sort(rng.permutation(users)[:ROWS]))
            self.moments.append(split.moments(d)[self.rows[d]])

    def cold(self, model: Model, domain: int) -> tuple[Array, Array, Ids]:
        """Return the values of users whose history in a domain is kept from the model, by the
        model and by popularity, and who they are. Few users have really none; these are all that
        others know."""
        context = self.split.context
        others = context.take(context.item_domain[context.item] != domain)
        rows = self.rows[domain]
        rows = rows[np.diff(others.start)[rows] > 0]
        asked = domain, rows, others, context
        return self._values(model, *asked), self._values(self.popular, *asked), rows

    def __call__(self, model: Model, domain: int, heard: Iterable[str] = ()) -> Array:
        """Return (R,) values, higher is better, of the domain's holdout users.

        heard: the domains whose history the model reads there, by default all: the others are
        left out of the requests, which would grow with the number of domains.
        """
        told = self._told(frozenset(heard))
        return self._values(model, domain, self.rows[domain], told, told)

    def _told(self, heard: frozenset[str]) -> Dataset:
        """Return the events of the context in these domains; all, where users are described by
        them."""
        context = self.split.context
        if not heard or context.derivation is not None or len(heard) == context.n_domains:
            return context
        if heard not in self._contexts:
            of = [self._events[context.domain(name)] for name in sorted(heard)]
            self._contexts[heard] = context.take(np.sort(np.concatenate(of)))
        return self._contexts[heard]

    def _values(self, model: Model, domain: int, rows: Ids, told: Dataset, known: Dataset) -> Array:
        """Values of these users; told: what requests are made of, known: what is not asked for."""
        shared = [self.pool.share(value) for value in (model, self.popular, self.items[domain])]
        parts = (
            (*shared, *self._part(domain, rows[at : at + ASKED], told, known))
            for at in range(0, len(rows), ASKED)
        )
        return np.concatenate([np.zeros(0), *self.pool.map(judged, parts)])

    def _part(
        self, domain: int, users: Ids, told: Dataset, known: Dataset
    ) -> tuple[Query, csr_array, csr_array | None]:
        """Return requests, targets, and what is seen; None = the targets are ratings."""
        items = self.items[domain]
        at = np.searchsorted(self.rows[domain], users)
        query = told.query(users, self.moments[domain][at])
        targets = csr_array(csr_array(self.split.test.positives[users])[:, items])
        if self.split.train.domains[domain].feedback == "explicit":
            return query, targets, None
        whole = query if known is told else known.query(users)
        return query, targets, csr_array(whole.seen[:, items])


def judged(
    model: Model, popular: Model, items: Ids, query: Query, targets: csr_array,
    seen: csr_array | None,
) -> Array:  # fmt: skip
    """Return the values of some requests; see ``Judge``."""
    scores = model.score(query, items)
    silent = np.isnan(scores).all(axis=1)
    scores[silent] = popular.score(query, items)[silent]
    if seen is not None:
        return np.nan_to_num(ranked(scores, targets, seen).metric(METRIC))
    row = np.repeat(np.arange(len(query)), np.diff(targets.indptr))
    error = np.nan_to_num(scores[row, targets.indices]) - targets.data
    return -np.bincount(row, error**2, len(query))
