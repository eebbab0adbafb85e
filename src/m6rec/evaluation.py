"""Honest evaluation: how well a model answers the test part of a split, per user and domain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_array, hstack

from m6rec.arrays import Array, Ids, Mask, Scores
from m6rec.checkpoint import hash_of
from m6rec.compiled import threads
from m6rec.data.dataset import Dataset
from m6rec.data.query import ACTIVITY_NAMES, Query, activity_bucket
from m6rec.data.schema import Domain
from m6rec.data.splits import Split
from m6rec.errors import ConfigError, DataError, suggestion
from m6rec.metrics import (
    LISTS,
    RANKING,
    RankedRows,
    diversity,
    novelty,
    parse,
    ranked,
    ranked_in_samples,
)
from m6rec.models.base import Model
from m6rec.rank import top_k
from m6rec.results import Evaluation, Rows, compare
from m6rec.tracking import Run

__all__ = ["Evaluation", "Rows", "compare", "evaluate"]

SLICES = ("domain", "activity", "cold")
IMPLICIT = ("ndcg@10", "recall@10", "hit@10", "mrr@10")
EXPLICIT = ("rmse", "mae")
CELLS = 8_000_000  # scores that a batch holds at once: what stays near the processor


def evaluate(
    model: Model,
    split: Split,
    *,
    metrics: Sequence[str] = (),
    protocol: str = "full",
    seeds: int = 1,
    by: Sequence[str] = SLICES,
    batch: int | None = None,
    run: Run | None = None,
) -> Evaluation:
    """Ask the model for every test user with the history in ``split.context``; compare.

    A row is one user in one domain: its targets are the user's positive test events there
    (in explicit domains: ratings at or above the domain's mean in train), its candidates all
    items of the domain but hidden ones and those in the history. ``metrics``: by default
    NDCG, recall, hit rate and MRR at 10, or RMSE and MAE where domains are explicit.
    protocol: "full", or "sampled:N": each target alone against N items of the domain's train
    items drawn uniformly from those not in the user's history; ``seeds`` draws, averaged.
    by: slices to report: "domain", "activity" (of the user in the domain), "cold" (users
    without history there, items without train events). batch: rows scored at once.
    Raises ConfigError for an unknown metric, protocol or slice.
    """
    run = run or Run()
    train = split.train
    n_samples = _samples(protocol)
    wanted = tuple(dict.fromkeys(metrics)) or _default(train, n_samples)
    check(wanted, protocol, by, seeds)
    answers = _answers(split.test)
    cold = np.bincount(train.item, minlength=train.n_items) == 0
    kinds = {"all": np.ones(train.n_items, np.bool_)}
    if "cold" in by and cold[split.test.item].any():
        kinds |= {"cold items": cold, "warm items": ~cold}
    found: dict[str, list[Rows]] = {kind: [] for kind in kinds}
    n_ranked = 0
    tested = split.test.user.astype(np.int64) * train.n_domains
    n_rows = len(np.unique(tested + train.item_domain[split.test.item]))
    with threads(run.threads), run.progress("evaluate", n_rows) as advance:
        measure = _Measure(
            item_domain=train.item_domain,
            domains=train.domains,
            means=_means(train),
            metrics=wanted,
            samples=n_samples,
            warm=~cold,
            seeds=seeds,
            kinds=kinds,
            beyond=_Beyond(train, wanted),
        )
        shared = run.pool.share(model), run.pool.share(measure)
        parts = (
            (*shared, part)
            for domain in range(train.n_domains)
            for part in _parts(split, answers, domain, batch, run.pool.size)
        )
        for size, ranked_here, tables in run.pool.map(_measured, parts):
            n_ranked += ranked_here
            for kind, rows in tables.items():
                found[kind].append(rows)
            advance(size)
    if not found["all"]:
        raise DataError(
            "the test part holds no positive event to evaluate (what is in the history already "
            "does not count); choose another split or test"
        )
    tables = {kind: Rows.joined(rows) for kind, rows in found.items()}
    slices = {"all": tables["all"], **_slices(tables["all"], by, split)}
    slices |= {kind: rows for kind, rows in tables.items() if kind != "all" and len(rows)}
    return Evaluation(
        metrics=wanted,
        protocol=protocol,
        slices=slices,
        dropped=_n_targets(answers, split) - n_ranked,
        asked=_asked(protocol, seeds, split.test),
        seed=run.seed,
    )


def _default(train: Dataset, n_samples: int) -> tuple[str, ...]:
    explicit = [domain.feedback == "explicit" for domain in train.domains]
    ranks = () if all(explicit) and not n_samples else IMPLICIT
    return ranks + (EXPLICIT if any(explicit) and not n_samples else ())


def check(metrics: Sequence[str], protocol: str, by: Sequence[str], seeds: int) -> None:
    """Raise ConfigError for what ``evaluate`` would refuse, whatever the data."""
    _samples(protocol)
    if seeds < 1:
        raise ConfigError(f"seeds = {seeds}: at least 1 draw is needed")
    for metric in metrics:
        if parse(metric)[0] not in RANKING and protocol != "full":
            raise ConfigError(
                f'metric "{metric}" needs protocol = "full": "{protocol}" only ranks test events'
            )
    for name in by:
        if name not in SLICES:
            raise ConfigError(
                f'by "{name}" is no slice{suggestion(name, SLICES)} (known: {", ".join(SLICES)})'
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Part:
    """B requests of one domain: pairs, liked and seen are (B, n), items are (n,)."""

    domain: int
    query: Query
    items: Ids
    pairs: csr_array  # test events with their values
    liked: csr_array  # those that are targets
    seen: csr_array

    def __len__(self) -> int:
        return len(self.query)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Measure:
    """What all parts are measured by. means: (D,) of train ratings. warm: (n_items,) what
    samples are drawn from. kinds: name → (n_items,) the targets that count."""

    item_domain: Ids
    domains: tuple[Domain, ...]
    means: Array
    metrics: tuple[str, ...]
    samples: int
    seeds: int
    warm: Mask
    kinds: Mapping[str, Mask]
    beyond: _Beyond


def _measured(model: Model, measure: _Measure, part: _Part) -> tuple[int, int, dict[str, Rows]]:
    """Score one part; return its requests, the targets that were ranked, and rows by kind."""
    whole = len(part.items) == len(measure.item_domain)
    scores = model.score(part.query, None if whole else part.items)
    user, (liked, seen) = part.query.user, (part.liked, part.seen)
    if n := measure.samples:
        pool = np.flatnonzero(measure.warm[part.items])
        places = [
            ranked_in_samples(scores, liked, seen, pool, n, user, seed)
            for seed in range(measure.seeds)
        ]
    else:
        places = [(ranked(scores, liked, seen), np.arange(len(part)))]
    lists = measure.beyond.lists(part, scores)
    tables = {
        kind: _rows(part, scores, places, chosen[part.items], measure, lists)
        for kind, chosen in measure.kinds.items()
    }
    return len(part), len(places[0][0].row), tables


def _answers(test: Dataset) -> csr_array:
    """(n_users, n_items) positive test events and ratings; an answer does not grow old."""
    lasting = tuple(replace(event, half_life=None) for event in test.events)
    return replace(test, events=lasting).positives


def _parts(
    split: Split, answers: csr_array, domain: int, batch: int | None, n: int
) -> Iterator[_Part]:
    """Yield the requests of a domain, at least 2n parts of them where n > 1 run at once."""
    train = split.train
    items = np.flatnonzero((train.item_domain == domain) & ~train.hidden).astype(np.int32)
    if not len(items):
        return
    pairs = csr_array(answers[:, items])
    liked = _liked(pairs, split, domain)
    moments = split.moments(domain)
    users = np.flatnonzero(np.diff(pairs.indptr))
    size = batch or min(max(CELLS // len(items), 64), 4096)
    if n > 1:
        size = max(1, min(size, len(users) // (2 * n)))
    for at in range(0, len(users), size):
        chosen = users[at : at + size]
        query = split.context.query(chosen, moments[chosen])
        yield _Part(
            domain=domain,
            query=query,
            items=items,
            pairs=csr_array(pairs[chosen]),
            liked=csr_array(liked[chosen]),
            seen=csr_array(query.seen[:, items]),
        )


def _liked(pairs: csr_array, split: Split, domain: int) -> csr_array:
    """Return the pairs that are targets: all, or ratings of at least the domain's mean."""
    if split.train.domains[domain].feedback == "implicit" or not pairs.nnz:
        return pairs
    keep = pairs.data >= _means(split.train)[domain]
    row = np.repeat(np.arange(pairs.shape[0]), np.diff(pairs.indptr))[keep]
    return csr_array((pairs.data[keep], (row, pairs.indices[keep])), shape=pairs.shape)


def _means(train: Dataset) -> Array:
    """(n_domains,) mean weight of the train events: a rating, where the domain is explicit."""
    domain = train.item_domain[train.item]
    n = np.bincount(domain, minlength=train.n_domains)
    total: Array = np.bincount(domain, train.weight, train.n_domains)
    return total / np.maximum(n, 1)


def _n_targets(answers: csr_array, split: Split) -> int:
    columns = [split.train.item_domain == d for d in range(split.train.n_domains)]
    return sum(_liked(csr_array(answers[:, c]), split, d).nnz for d, c in enumerate(columns))


class _Beyond:
    """What the metrics of shown lists need of train: who knows an item, what it resembles."""

    def __init__(self, train: Dataset, metrics: Sequence[str]) -> None:
        named = [(metric, *parse(metric)) for metric in metrics]
        self.metrics = [(metric, name, k or 0) for metric, name, k in named if name in LISTS]
        self.depth = max((k for _, _, k in self.metrics), default=0)
        self.n_users = train.n_users
        self.item_users = np.bincount(train.positives.indices, minlength=train.n_items)
        self.catalogue = np.bincount(train.item_domain[~train.hidden], minlength=train.n_domains)
        if any(name == "diversity" for _, name, _ in self.metrics):
            blocks = [csr_array(block) for block in train.item_features.values()]
            self.vectors = csr_array(hstack(blocks) if blocks else train.positives.T)

    def lists(self, part: _Part, scores: Scores) -> Ids:
        """(B, depth) item codes that would be shown."""
        columns, _ = top_k(scores, self.depth, part.seen)
        return np.where(columns >= 0, part.items[columns], -1)

    def values(self, lists: Ids) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for metric, name, k in self.metrics:
            if name == "novelty":
                found[metric] = novelty(lists[:, :k], self.item_users, self.n_users)
            elif name == "diversity":
                found[metric] = diversity(lists[:, :k], self.vectors)
        return found


def _rows(
    part: _Part,
    scores: Scores,
    places: Sequence[tuple[RankedRows, Ids]],
    chosen: Mask,
    measure: _Measure,
    lists: Ids,
) -> Rows:
    """Return the rows of a part for the targets among the chosen items (n,)."""
    cut = [place.only(chosen[place.item]) for place, _ in places]
    row, metrics = places[0][1], measure.metrics
    pairs, squared, absolute = _errors(part, scores, chosen, measure)
    draws = {m: np.stack([p.metric(m) for p in cut]) for m in metrics if parse(m)[0] in RANKING}
    values = {m: draw.mean(axis=0) for m, draw in draws.items()}
    values |= {m: v for m, v in (("rmse", squared), ("mae", absolute)) if m in metrics}
    values |= measure.beyond.values(lists)
    counts = part.query.activity(measure.item_domain, len(measure.domains))[:, part.domain]
    rows = Rows(
        user=part.query.user[row],
        domain=np.full(len(row), part.domain),
        activity=activity_bucket(counts)[row],
        values=values,
        draws=draws if len(cut) > 1 else {},
        pairs=pairs[row],
        lists=lists[row],
        catalogue=measure.beyond.catalogue,
    )
    asked = cut[0].targets > 0
    return rows.take(asked if measure.samples else asked | (rows.pairs > 0))


def _errors(
    part: _Part, scores: Scores, chosen: Mask, measure: _Measure
) -> tuple[Array, Array, Array]:
    """Return (B,) numbers of rated test pairs, mean squared and mean absolute errors.

    A pair that the model abstains on counts with the mean rating of the domain in train.
    """
    n = len(part)
    if measure.domains[part.domain].feedback == "implicit":
        return np.zeros(n), np.full(n, np.nan), np.full(n, np.nan)
    row = np.repeat(np.arange(n), np.diff(part.pairs.indptr))
    column, rating = part.pairs.indices, part.pairs.data
    keep = chosen[column]
    row, column, rating = row[keep], column[keep], rating[keep]
    predicted = scores[row, column].astype(np.float64)
    predicted = np.where(np.isnan(predicted), measure.means[part.domain], predicted)
    error = predicted - rating
    pairs = np.bincount(row, minlength=n)
    with np.errstate(invalid="ignore"):
        squared = np.bincount(row, error**2, n) / pairs
        absolute = np.bincount(row, np.abs(error), n) / pairs
    return pairs, squared, absolute


def _slices(rows: Rows, by: Sequence[str], split: Split) -> dict[str, Rows]:
    masks: dict[str, Mask] = {}
    if "domain" in by and split.train.n_domains > 1:
        masks |= {d.name: rows.domain == i for i, d in enumerate(split.train.domains)}
    if "activity" in by:
        masks |= {f"activity {n}": rows.activity == i for i, n in enumerate(ACTIVITY_NAMES)}
    if "cold" in by and (rows.activity == 0).any():
        masks |= {"cold users": rows.activity == 0, "warm users": rows.activity > 0}
    return {name: rows.take(mask) for name, mask in masks.items() if mask.any()}


def _asked(protocol: str, seeds: int, test: Dataset) -> str:
    """Return what was asked in one line: the protocol, its draws, and the test events by hash."""
    draws = "" if protocol == "full" else f", seeds = {seeds}"
    events = hash_of([], test.user, test.item, test.weight)[:16]
    return f"{protocol}{draws}, {len(test):,} test events {events}"


def _samples(protocol: str) -> int:
    """Return the number of sampled items of a protocol, 0 for "full"."""
    kind, _, count = protocol.partition(":")
    if protocol == "full":
        return 0
    if kind != "sampled" or not count.isdecimal() or int(count) < 1:
        raise ConfigError(f'protocol "{protocol}": write "full" or "sampled:999"')
    return int(count)
