"""The options of each domain, ω among them, learned on holdouts with a guard."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from m6rec.arrays import Array, Ids, Mask
from m6rec.checkpoint import NOWHERE, Saved
from m6rec.config import to_table
from m6rec.data.dataset import Dataset
from m6rec.data.query import Query
from m6rec.data.splits import Split
from m6rec.metrics import ranked
from m6rec.models.base import Model
from m6rec.models.popular import Popular
from m6rec.pool import Pool
from m6rec.tracking import Run

SOURCES = 4  # most other domains that a domain listens to: those with the most shared users
ROWS = 4000  # most users of one holdout that a domain is judged by
WANTED = 8000  # a domain with fewer than ROWS is judged by several holdouts, until it has these
HOLDOUTS = 4  # most holdouts
ORDERED = 2  # most of events in order: one more would hold out the same newest events again
FEWEST = 20  # users by whom anything is told with certainty
SURE = 1.64  # standard errors by which a source must help: 5 % of the useless ones would
STRENGTHS = (  # reg, nu
    (0.05, 1.0), (0.2, 1.0), (0.5, 1.0), (0.3, 0.7), (1.0, 0.7), (0.7, 0.5), (2.0, 0.5), (5.0, 0.5),
)  # fmt: skip
SHARED = ((1.0, 1.0), (0.3, 1.0), (0.1, 1.0), (1.0, 2.0))  # ω, and reg beside the one alone
SINGLES = (0.3, 0.1)  # ω at which a source is tried by itself; 1 hides what is trusted a little
MISSED = 1.0  # standard errors that it must cost to leave a source out of several
ALPHAS = (0.05, 0.2, 0.5)
METRIC = "ndcg@100"  # of a judge
ASKED = 512  # requests at once


@dataclass(frozen=True, kw_only=True)
class Local:
    """The options of one domain.

    reg: λ, strength of the priors. nu: ν, its growth with the number of events.
    alpha: α, weight of an unobserved entry beside 1 of an observed one (implicit domains).
    omega: source domain → ω in [0, 1], how much its vectors inform this domain's.
    warm: whether sources also inform users with history of their own here; False = only others.
    ridge: shrinkage of A, what attributes say of a user, in implicit domains; left out, as of
        "pct".
    """

    reg: float = 0.2
    nu: float = 1.0
    alpha: float = 0.2
    omega: Mapping[str, float] = field(default_factory=dict)
    warm: bool = True
    ridge: float | None = None

    def __post_init__(self) -> None:
        if self.reg <= 0 or self.alpha <= 0:
            raise ValueError("reg and alpha must be above 0")
        if self.ridge is not None and self.ridge < 0:
            raise ValueError("ridge must be at least 0")
        if any(not 0 <= omega <= 1 for omega in self.omega.values()):
            raise ValueError("omega must lie between 0 and 1")


Options = dict[str, Local]


def choose(
    given: Mapping[str, Local],
    holdouts: Callable[[int], Split],
    fit: Callable[[Options, int, Mask], Model],
    run: Run,
    transfer: bool,
    saved: Saved = NOWHERE,
) -> Options:
    """Return the options of every domain: those given, and the others learned on holdouts.

    holdouts: number, below ``HOLDOUTS`` → holdout. fit: options, number of a holdout, thin (D,) →
    the model of its train, in which only thin domains need all sweeps. saved: where what each
    attempt gives is kept.
    First each domain alone: (reg, nu), then alpha. Then, where there are several, its likeliest
    sources one by one: what does not help by itself must not hide what does. Then ω of the others,
    all alike, then each left out in turn, and for good unless it is missed. ω > 0 is kept only
    where the paired gain over standing alone exceeds ``SURE`` standard errors: transfer is never
    forced where it hurts. Elsewhere sources inform only users without history in the domain, and
    only if users fare better by them, their own history in the domain being kept from the model,
    than by popularity; again by ``SURE`` standard errors, without those that are not missed.
    """
    train = holdouts(0).train
    names = [d.name for d in train.domains]
    best: Options = {n: given.get(n, Local()) for n in names}
    steps = list(alone(train, names))
    sources = likely_sources(train) if transfer else {n: [] for n in names}
    if all(n in given for n in names) or not (steps or any(sources.values())):
        return best
    court = Court(holdouts, fit, run, saved)

    def attempt(candidates: Options, least: float = 0.0) -> None:
        """Try the candidates of all domains at once; keep each that is better in its domain, by
        more than so many standard errors."""
        open_ = {n: c for n, c in candidates.items() if n not in given and c != best[n]}
        for name, found in court.values(best, open_).items():
            if court.gain(name, found, values[name]) > least:
                best[name], values[name] = open_[name], found
        run.log(options={n: to_table(open_[n]) for n in open_})

    total = 1 + len(steps) + len(SHARED) + SOURCES * (len(SINGLES) + 2)
    with run.progress("options", total) as advance:
        values = court.values(best, {n: best[n] for n in names if n not in given})
        advance(1)
        for changes in steps:
            attempt({n: replace(best[n], **changes[n]) for n in names})
            advance(1)
        if any(sources.values()):
            lonely = dict(best)
            helping: dict[str, list[str]] = {n: [] for n in names}
            for place, omega in product(range(SOURCES), SINGLES):
                single = {
                    n: replace(lonely[n], omega={sources[n][place]: omega})
                    for n in names
                    if n not in given
                    and len(sources[n]) > max(1, place)
                    and sources[n][place] not in helping[n]
                }
                for n, found in (court.values(lonely, single) if single else {}).items():
                    if court.gain(n, found, values[n]) > 0:
                        helping[n].append(sources[n][place])
                advance(1)
            tested = {n: helping[n] if len(sources[n]) > 1 else sources[n] for n in names}
            rivals: dict[str, tuple[Local, Array]] = {}
            for omega, factor in SHARED:
                tried = {
                    n: replace(
                        lonely[n],
                        reg=factor * lonely[n].reg,
                        omega=dict.fromkeys(tested[n], omega),
                    )
                    for n in names
                    if tested[n] and n not in given
                }
                for n, found in (court.values(lonely, tried) if tried else {}).items():
                    if n not in rivals or court.gain(n, found, rivals[n][1]) > 0:
                        rivals[n] = tried[n], found
                advance(1)
            for n, (candidate, found) in rivals.items():
                if court.gain(n, found, values[n]) > SURE:
                    best[n], values[n] = candidate, found
            for place in range(SOURCES):
                without = {n: left_out(best[n], tested[n], place) for n in names}
                attempt({n: c for n, c in without.items() if c.omega}, -MISSED)
                advance(1)
            cold = {
                n: replace(best[n], omega=dict.fromkeys(tested[n] or sources[n], 1.0), warm=False)
                for n in names
                if sources[n] and n not in given and not best[n].omega
            }
            served = court.cold(best, cold)
            for place in range(SOURCES):
                fewer = {n: left_out(cold[n], sources[n], place) for n in cold}
                fewer = {n: c for n, c in fewer.items() if c.omega and c != cold[n]}
                for n, told in court.cold(best, fewer).items():
                    if gain(told[0], served[n][0], told[2]) > -MISSED:
                        cold[n], served[n] = fewer[n], told
                advance(1)
            best |= {n: cold[n] for n, told in served.items() if gain(*told) > SURE}
    return best


def alone(train: Dataset, names: Sequence[str]) -> Iterator[dict[str, dict[str, Any]]]:
    """Yield changes of the options of all domains, to be tried one after the other.

    Explicit domains have nothing to try: their strengths come out of the fit.
    """
    implicit = {n for n, d in zip(names, train.domains, strict=True) if d.feedback == "implicit"}
    tried: list[dict[str, Any]] = [{"reg": reg, "nu": nu} for reg, nu in STRENGTHS]
    for values in [*tried, *({"alpha": alpha} for alpha in ALPHAS)] if implicit else []:
        yield {n: values if n in implicit else {} for n in names}


def left_out(local: Local, sources: Sequence[str], place: int) -> Local:
    """Return the options without the source at that place of the list."""
    gone = sources[place] if place < len(sources) else None
    return replace(local, omega={s: w for s, w in local.omega.items() if s != gone})


def likely_sources(train: Dataset) -> dict[str, list[str]]:
    """Return for each domain the other domains that share users with it, most shared first."""
    domain = train.item_domain[train.item]
    active = np.zeros((train.n_users, train.n_domains), np.float32)
    active[train.user, domain] = 1
    shared = active.T @ active
    np.fill_diagonal(shared, 0)
    order = np.argsort(-shared, axis=1, kind="stable")
    return {
        d.name: [train.domains[s].name for s in order[t][:SOURCES] if shared[t, s] > 0]
        for t, d in enumerate(train.domains)
    }


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


class Court:
    """The holdouts, each with its judge; the domains that are thin in the first use more."""

    def __init__(
        self,
        holdouts: Callable[[int], Split],
        fit: Callable[[Options, int, Mask], Model],
        run: Run,
        saved: Saved = NOWHERE,
    ) -> None:
        self.fit, self.run, self.saved, self.tried = fit, run, saved, 0
        self.names = [d.name for d in holdouts(0).train.domains]
        self.judges = [self._judge(holdouts, 0)]
        rows = np.array([len(rows) for rows in self.judges[0].rows])
        self.thin: Mask = rows < ROWS
        wanted = np.ceil(WANTED / np.maximum(rows, 1))
        most = ORDERED if holdouts(0).train.ordered else HOLDOUTS
        self.uses = np.where(self.thin, wanted, 1).clip(1, most).astype(int)
        self.judges += [self._judge(holdouts, r) for r in range(1, self.uses.max())]
        used = [self.judges[:n] for n in self.uses.tolist()]
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

    def heard(self, candidates: Options) -> Iterator[tuple[int, Options]]:
        """Yield each holdout that is used, and the candidates of the domains that use it."""
        for r in range(len(self.judges)):
            here = {
                n: candidates[n]
                for n, uses in zip(self.names, self.uses, strict=True)
                if n in candidates and r < uses
            }
            if here:
                yield r, here

    def values(self, best: Options, candidates: Options) -> dict[str, Array]:
        """Return the values of each candidate (R,) in its domain over its holdouts."""
        kept = self.saved.part(str(self.tried))
        values = kept.read() or self._values(best, candidates)
        kept.write(values)
        for n, each in values.items():
            if len(each):
                self.run.scalar(f"holdout/{n}", each.mean(), self.tried)
        self.tried += 1
        return values

    def _values(self, best: Options, candidates: Options) -> dict[str, Array]:
        found: dict[str, list[Array]] = {}
        for r, here in self.heard(candidates):
            others = {n: replace(local, omega={}) for n, local in best.items()}
            model = self.fit({**others, **here}, r, self.thin)
            for n in here:
                judged = self.judges[r](model, self.names.index(n), (n, *here[n].omega))
                found.setdefault(n, []).append(judged)
        return {n: np.concatenate(v) for n, v in found.items()}

    def cold(self, best: Options, candidates: Options) -> dict[str, tuple[Array, Array, Ids]]:
        """Return ``Judge.cold`` of each domain over its holdouts."""
        found: dict[str, list[tuple[Array, Array, Ids]]] = {}
        for r, here in self.heard(candidates):
            model = self.fit({**best, **here}, r, self.thin)
            for n in here:
                found.setdefault(n, []).append(self.judges[r].cold(model, self.names.index(n)))
        joined = {
            n: [np.concatenate(c) for c in zip(*rows, strict=True)] for n, rows in found.items()
        }
        return {
            n: (by_model, by_popularity, rows)
            for n, (by_model, by_popularity, rows) in joined.items()
        }


class Judge:
    """The holdout as values per user and domain: NDCG, or −(error²).

    A user for whom the model abstains gets what is popular, as in any list that is shown.
    """

    def __init__(self, split: Split, popular: Model, rng: np.random.Generator, pool: Pool) -> None:
        self.split, self.popular, self.pool = split, popular, pool
        targets = split.test.positives
        self.items: list[Ids] = []
        self.rows: list[Ids] = []
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
        query = told.query(users, self.split.moments(domain)[users])
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
