"""Models made of models: Blend, Σ λ · calibrated score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, Self

import numpy as np
from scipy.sparse import csr_array

from m6rec.arrays import Array, Floats, Ids, Mask, Scores, State, nest, unnest
from m6rec.compiled import threads
from m6rec.data.dataset import Dataset
from m6rec.data.holdout import holdout
from m6rec.data.query import Query, activity_bucket
from m6rec.data.splits import Split
from m6rec.metrics import of_ranks
from m6rec.models import fusion
from m6rec.models.base import Hears, Model, Reads, Reason, Recipe, heard, updated
from m6rec.models.calibration import N_BUCKETS, calibrate
from m6rec.models.once import Once
from m6rec.models.reasons import FLOOR, Voices
from m6rec.tracking import Run

ROWS = 12_000  # most holdout users that λ of a domain is learned from
BATCH = 256
HEARD = 0.2  # least λ, for requests in words, of parts that take in answered questions
WORDS = 0.5  # share of λ by a request's words, beside that by its history
OWN = ("weights", "words", "calibration", "item_domain", "explicit", "personal", "new")
Table = Mapping[str, tuple[tuple[float, ...], ...]]
Rows = Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, kw_only=True)
class Blend(Recipe):
    """score = Σ_m λ_m z_m, where z_m is the calibrated score of part m and Σ λ = 1.

    Parts that would answer anybody (popularity) speak only where a personal part does.

    parts: the recipes that are blended. metric: what λ is chosen by (implicit domains); the
    squared error in explicit ones. weights: domain → rows of λ over the parts, one for each
    activity bucket (0, 1-4, 5-19, 20+ history items there), and a fifth for items without events
    where theirs differ; learned on a holdout if left out. words: domain → λ of requests in words
    without a history, learned with them where users come with words (a fifth at least for parts
    that take in questions as they are answered, so that what helped is heeded at once); of
    requests that have both, half counts by the words and half by the history.
    new_items: share of the metric of other items that may be given up so that items without
    events are found.
    """

    kind: ClassVar[str] = "blend"
    parts: tuple[Recipe, ...]
    metric: str = "ndcg@50"
    weights: Table = field(default_factory=dict)
    words: Rows = field(default_factory=dict)
    new_items: float = 0.02

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("parts must name at least one model")
        of_ranks(self.metric)
        check_share(self.new_items)
        n = len(self.parts)
        for name, rows in self.weights.items():
            if len(rows) not in (N_BUCKETS, N_BUCKETS + 1) or any(len(row) != n for row in rows):
                raise ValueError(
                    f"weights.{name}: must be {N_BUCKETS} rows, or {N_BUCKETS + 1} with new items, "
                    f"of {n} numbers, one for each part"
                )
            if min(map(min, rows)) < 0:
                raise ValueError(f"weights.{name}: must be at least 0")
        for name, row in self.words.items():
            if len(row) != n:
                raise ValueError(f"words.{name}: must be {n} numbers, one for each part")

    def choose(self, split: Split, run: Run) -> Self:
        """Fix the parts' open options, then learn λ on the same holdout."""
        parts = tuple(p.choose(split, scope(run, i, p)) for i, p in enumerate(self.parts))
        chosen = replace(self, parts=parts)
        if all(d.name in self.weights for d in split.train.domains):
            return chosen
        even = {d.name: ((1 / len(parts),) * len(parts),) * N_BUCKETS for d in split.train.domains}
        model = replace(chosen, weights={**even, **self.weights}).fit(split.train, run)
        with threads(run.threads):
            found = {
                d.name: learn_weights(model, split, i, self.metric, self.new_items, run)
                for i, d in enumerate(split.train.domains)
                if d.name not in self.weights
            }
        learned = {name: _rows(table) for name, (table, _) in found.items()}
        words = {name: _rows(row)[0] for name, (_, row) in found.items() if len(row)}
        for name, rows in learned.items():
            for bucket, row in enumerate(rows):
                for i, (part, weight) in enumerate(zip(parts, row, strict=True)):
                    run.scalar(f"lambda/{name}/{i}-{part.kind}", weight, bucket)
        for name, row in words.items():
            for i, (part, weight) in enumerate(zip(parts, row, strict=True)):
                run.scalar(f"lambda/{name}/{i}-{part.kind}/words", weight, 0)
        return replace(chosen, weights={**learned, **self.weights}, words={**words, **self.words})

    def fit(self, train: Dataset, run: Run) -> BlendModel:
        if any(domain.name not in self.weights for domain in train.domains):
            return self.choose(holdout(train, run.rng("holdout")), run).fit(train, run)
        train.check_domains([*self.weights, *self.words], "weights")
        models = [p.fit(train, scope(run, i, p)) for i, p in enumerate(self.parts)]
        with threads(run.threads):
            calibration = np.stack([calibrate(m, train, run.rng("calibrate")) for m in models])
        table = np.zeros((train.n_domains, N_BUCKETS + 1, len(models)), np.float32)
        for d, domain in enumerate(train.domains):
            table[d, : len(self.weights[domain.name])] = self.weights[domain.name]
        words = np.zeros((train.n_domains, len(models)), np.float32)
        for d, domain in enumerate(train.domains):
            words[d] = self.words.get(domain.name, 0)
        fixed = replace(self, parts=tuple(m.recipe for m in models))
        nobody = train.query(np.array([-1]))
        state = {
            "weights": table,
            "words": words,
            "calibration": calibration,
            "item_domain": train.item_domain,
            "explicit": train.explicit,
            "personal": np.array([bool(np.isnan(m.score(nobody)).all()) for m in models]),
            "new": without_events(train),
        }
        return BlendModel(fixed, models, state)

    def restore(self, state: State) -> BlendModel:
        models = [p.restore(unnest(str(i), state)) for i, p in enumerate(self.parts)]
        return BlendModel(self, models, state)


def check_share(new_items: float) -> None:
    if not 0 <= new_items < 1:
        raise ValueError(f"new_items = {new_items}: must be at least 0 and below 1")


def without_events(train: Dataset) -> Mask:
    """Return (n_items,) the new items."""
    new: Mask = np.bincount(train.item, minlength=train.n_items) == 0
    return new


def scope(run: Run, place: int, part: Recipe) -> Run:
    return run.child(f"{place}-{part.kind}")


def _rows(table: Array) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(round(float(x), 4) for x in row) for row in table)


def learn_weights(
    model: BlendModel, split: Split, domain: int, metric: str, new_items: float, run: Run
) -> tuple[Array, Array]:
    """Return λ (buckets, P) of one domain, learned on the test part of a holdout split, with one
    more row for new items where theirs differ; and λ (1, P) of requests in words, or (0, P)."""
    data, rng = split.test, run.rng("weights", str(domain))
    items = np.flatnonzero((data.item_domain == domain) & ~split.train.hidden)
    targets = csr_array(data.positives[:, items])
    users = np.flatnonzero(np.diff(targets.indptr))
    users = np.sort(rng.permutation(users)[:ROWS])
    n_parts, new = len(model.parts), without_events(split.train)[items]
    untold = np.zeros((0, n_parts))
    if not len(users):
        return np.full((N_BUCKETS, n_parts), 1 / n_parts), untold
    explicit = data.domains[domain].feedback == "explicit"
    pools: list[fusion.Pool] = []
    buckets, read, known, predictions, ratings = [], [], [], [], []
    moments = split.moments(domain)
    with run.progress(f"λ of {data.domains[domain].name}", len(users)) as advance:
        for at in range(0, len(users), BATCH):
            rows = users[at : at + BATCH]
            query = split.context.query(rows, moments[rows])
            scores = model.part_scores(query, items)
            liked = csr_array(targets[rows])
            counts = query.activity(data.item_domain, data.n_domains)[:, domain]
            buckets.append(activity_bucket(counts))
            read.append(model.reads(query) & (counts == 0))
            known.append(np.asarray(liked[:, ~new].sum(axis=1)) > 0)
            if explicit:
                row = np.repeat(np.arange(len(rows)), np.diff(liked.indptr))
                predictions.append(np.stack([s[row, liked.indices] for s in scores]))
                ratings.append(liked.data)
            else:
                seen = csr_array(query.seen[:, items])
                pools.append(fusion.Pool.of(scores, liked, seen, new, rng))
            advance(len(rows))
    if explicit:
        found = fusion.least_squares(np.hstack(predictions), np.concatenate(ratings))
        return np.tile(found, (N_BUCKETS, 1)), untold
    pool = fusion.Pool.joined(pools)
    told = pool.told  # all that the others were held out with, they had already
    if not told.any():
        return np.full((N_BUCKETS, n_parts), 1 / n_parts), untold
    pool, bucket, words = pool.take(told), np.concatenate(buckets)[told], np.concatenate(read)[told]
    of_words: Array = untold
    ordinary = words & np.concatenate(known)[told]  # see ``familiar``
    if ordinary.sum() >= fusion.FEWEST:
        of_words = fusion.simplex_search(pool.take(ordinary), metric)[None]
        hears = np.array([isinstance(part, Hears) for part in model.parts])
        if hears.any() and not hears.all():  # a holdout never repeats a question, people do
            short = max(0.0, HEARD - float(of_words[0, hears].sum()))
            of_words = of_words * (1 - short)
            of_words[0, hears] += short / hears.sum()
    rest = ~words if (~words).any() else np.ones_like(words)
    table = fusion.learn(pool.take(rest), bucket[rest], N_BUCKETS, metric)
    of_row = np.where(words & bool(len(of_words)), N_BUCKETS, bucket)
    own = fusion.learn_new(pool, np.vstack([table, of_words]), of_row, metric, new_items)
    return table if own is None else np.vstack([table, own]), of_words


class BlendModel(Model):
    """State: the parts' states under their numbers; weights (D, buckets + 1, P), the last row of
    new items, zeros = as of the others; words (D, P), zeros = not learned;
    calibration (P, D, buckets, 2) = mean and deviation;
    item_domain, explicit, new (n_items,); personal (P,) = the part says nothing of somebody of
    whom nothing is known."""

    def __init__(self, recipe: Recipe, parts: Sequence[Model], state: State) -> None:
        self.recipe = recipe
        self.parts = tuple(parts)
        missing: State = {  # in older runs
            "new": np.zeros(len(state["item_domain"]), np.bool_),
            "words": np.zeros_like(state["weights"][:, 0]),
        }
        self._state = {name: (missing | state)[name] for name in OWN}
        self.weights: Floats = state["weights"]
        self.words: Floats = self._state["words"]
        self.calibration: Floats = state["calibration"]
        self.item_domain: Ids = state["item_domain"]
        self.personal: Mask = state["personal"]
        self.new: Mask = self._state["new"]
        self.n_items = len(self.item_domain)

    def state(self) -> State:
        state: State = dict(self._state)
        for i, part in enumerate(self.parts):
            state |= nest(str(i), part.state())
        return state

    def with_parts(self, recipe: Recipe, parts: Sequence[Model]) -> Self:
        """Return this model with other parts in the places of its own; recipe: names them."""
        return type(self)(recipe, parts, self._state)

    def update(self, dataset: Dataset) -> Self:
        parts = [updated(part, dataset) for part in self.parts]
        new = np.ones(dataset.n_items - self.n_items, np.bool_)
        state = self._state | {
            "item_domain": dataset.item_domain,
            "explicit": dataset.explicit,
            "new": np.concatenate([self.new, new]),
        }
        return type(self)(self.recipe, parts, state)

    def heard(self, users: Ids, texts: Sequence[str], answers: csr_array) -> Self:
        parts = [heard(part, users, texts, answers) for part in self.parts]
        return self.with_parts(self.recipe, parts)

    def score(self, query: Query, items: Ids | None = None) -> Scores:
        domain, new = self.item_domain, self.new
        if items is not None:
            domain, new = domain[items], new[items]
        weights, calibrations = self.lambdas(query), self.calibrations(query)
        if new.any():  # they are domains of their own here
            domain = domain + new * np.int16(weights.shape[1])
            weights = np.concatenate([weights, self.lambdas(query, new=True)], axis=1)
            calibrations = np.concatenate([calibrations, calibrations], axis=2)
        mixed = fusion.Mixed.of(len(query), domain)
        personal = self.personal if self.personal.any() else np.ones_like(self.personal)
        given = list(zip(self.parts, calibrations, personal.tolist(), strict=True))
        counts = weights > 2 * FLOOR
        here = self._here if items is None else np.flatnonzero(np.bincount(domain))
        for p, (part, calibration, own) in enumerate(given):
            rows = np.flatnonzero(counts[:, here, p].any(axis=1))
            if len(rows):
                asked = query if len(rows) == len(query) else query.take(rows)
                weight = np.where(counts[:, :, p], weights[:, :, p], 0)
                mixed.add(part.score(asked, items), weight, calibration, own, rows)
        rows, columns = mixed.silent()
        if len(rows):  # parts without a λ speak where all others abstain
            codes = columns if items is None else np.asarray(items)[columns]
            asked, rest = query.take(rows), mixed.take(rows, columns)
            for p, (part, calibration, own) in enumerate(given):
                weight = np.where(counts[:, :, p], 0, weights[:, :, p])[rows]
                if weight.any():
                    rest.add(part.score(asked, codes), weight, calibration[rows], own)
            mixed.fill(rest, rows, columns)
        return mixed.scores()

    @cached_property
    def _here(self) -> Ids:
        """The domains of the items, as ``score`` tells them apart."""
        return np.flatnonzero(np.bincount(self.item_domain + self.new * len(self.weights)))

    def calibrations(self, query: Query) -> Floats:
        """Return (P, B, D, 2): mean and deviation of each part's scores for the requests."""
        domains = np.arange(self.calibration.shape[1])
        picked: Floats = self.calibration[:, domains, self._buckets(query)]
        return picked

    def reads(self, query: Query) -> Mask:
        """Return (B,) requests whose words some part understands."""
        said = [part.reads(query) for part in self.parts if isinstance(part, Reads)]
        return np.logical_or.reduce(said) if said else np.zeros(len(query), np.bool_)

    def lambdas(self, query: Query, new: bool = False) -> Floats:
        """Return λ (B, D, P) of the parts, in the order of ``parts``, for items with events or
        new ones.

        Requests whose words are read get λ as learned of such requests; where that could not be
        learned, half goes to each part that reads. With a history, half is as of that.
        """
        of_both = self._lambdas_once.of(
            self, query, lambda: (self._lambdas(query, False), self._lambdas(query, True))
        )
        return of_both[new]

    def _lambdas(self, query: Query, new: bool) -> Floats:
        table, buckets = self._table, self._buckets(query)
        picked: Floats = table[np.arange(len(table)), buckets]
        if new and self.weights.shape[1] > N_BUCKETS:
            differ = self.weights[:, N_BUCKETS].any(axis=1)
            picked[:, differ] = table[differ, N_BUCKETS]
        if query.text is None:
            return picked
        learned = self.words.any(axis=1)
        for p, part in enumerate(self.parts):
            if isinstance(part, Reads):
                half = WORDS * (part.reads(query)[:, None] & ~learned).astype(np.float32)
                picked *= 1 - half[..., None]
                picked[:, :, p] += half
        asked = self.reads(query)
        if learned.any() and asked.any():
            words = np.maximum(self.words, np.float32(FLOOR))
            words /= words.sum(axis=1, keepdims=True)
            share = np.where((buckets == 0) & (not new), 1, WORDS) * (asked[:, None] & learned)
            picked += share[..., None].astype(np.float32) * (words - picked)
        return picked

    def part_scores(self, query: Query, items: Ids) -> list[Floats]:
        """Return the calibrated scores (B, C) of each part."""
        domain = self.item_domain[items]
        given = zip(self.parts, self.calibrations(query), strict=True)
        return [
            fusion.calibrated(part.score(query, items), of_cell, domain) for part, of_cell in given
        ]

    def explain(self, query: Query, items: Ids) -> list[list[list[Reason]]]:
        """Return the λ-weighted reasons of the parts, and what calibration shifts."""
        voices = Voices(
            parts=self.parts,
            lambdas=(self.lambdas(query), self.lambdas(query, new=True)),
            calibration=self.calibrations(query),
            personal=self.personal if self.personal.any() else np.ones_like(self.personal),
            item_domain=self.item_domain,
            new=self.new,
        )
        return voices.reasons(query, items)

    def _buckets(self, query: Query) -> Ids:
        """(B, D) activity bucket of each request in each domain."""
        domain, n = self.item_domain, len(self.weights)
        return self._once.of(self, query, lambda: activity_bucket(query.activity(domain, n)))

    @cached_property
    def _table(self) -> Floats:
        """λ (D, buckets + 1, P), none of them below FLOOR."""
        table = np.maximum(self.weights, np.float32(FLOOR))
        shares: Floats = table / table.sum(axis=2, keepdims=True)
        return shares

    @cached_property
    def _once(self) -> Once[Ids]:
        return Once()

    @cached_property
    def _lambdas_once(self) -> Once[tuple[Floats, Floats]]:
        return Once()
