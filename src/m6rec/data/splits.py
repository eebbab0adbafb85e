"""Splits: what a model may learn from, what it is asked, and what it should have answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

import numpy as np
import polars as pl

from m6rec.arrays import Array, Ids, Mask
from m6rec.data.dataset import Dataset
from m6rec.data.vocab import Vocab
from m6rec.errors import ConfigError, DataError, suggestion

Kind = Literal[
    "temporal", "leave-last", "random", "k-fold", "cold-user", "cold-item", "target-domain"
]


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """train: learned from. context: histories that queries carry (train, unless users are
    held out whole and asked with part of their history). test: the answers."""

    train: Dataset
    test: Dataset
    context: Dataset

    @classmethod
    def by_mask(cls, dataset: Dataset, held: Mask) -> Split:
        """Hold out the event rows of a mask (N,); all the others train and are context.

        Of a link between people that holds in both directions, no part is left to train if
        another is held."""
        if dataset.links is not None:
            held = np.bincount(dataset.links, held, len(dataset))[dataset.links] > 0
        train = dataset.take(~held)
        return cls(train=train, test=dataset.take(held), context=train)

    def moments(self, domain: int | None = None) -> Ids:
        """Return (n_users,) when each user is asked: at their first test event, in a domain if one
        is given; where that has no time, at the newest event of the context."""
        test = self.test
        moments = np.full(test.n_users, self.context.now, np.int64)
        timed = test.time >= 0
        if domain is not None:
            timed &= test.item_domain[test.item] == domain
        rows = np.flatnonzero(timed)[::-1]
        moments[test.user[rows]] = test.time[rows]
        return moments


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """The ``[split]`` table: how the test is held out.

    kind: "temporal" = everything from a point in time on; "leave-last" = the newest ``n`` events
        of each user; "random" = events at random; "k-fold" = fold number ``fold`` of ``folds``;
        "cold-user", "cold-item" = users or items held out whole; "target-domain" = all events in
        ``target`` of users who are also active elsewhere.
    fraction: share of the events (temporal, random), users (cold-user, target-domain) or items
        (cold-item) that is held.
    time: ISO time at which a temporal test begins, instead of ``fraction``.
    n, per: leave-last holds the newest n of each user, or of each user in each domain; never
        their only ones.
    context: cold-user: share of a held user's history, the oldest, that the query may carry.
    repeats: keep test rows whose item the user already has in the context; they are left out
        by default, since no ranking returns them.
    """

    kind: Kind = "leave-last"
    fraction: float = 0.2
    time: str | None = None
    n: int = 1
    per: Literal["user", "domain"] = "user"
    folds: int = 5
    fold: int = 0
    context: float = 0.5
    target: str = ""
    repeats: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction = {self.fraction}: must be above 0 and at most 1")
        if not 0 <= self.context < 1:
            raise ValueError(f"context = {self.context}: must be at least 0 and below 1")
        if self.n < 1 or self.folds < 2 or not 0 <= self.fold < self.folds:
            raise ValueError("n must be at least 1, folds at least 2, and fold below folds")
        if self.kind == "target-domain" and not self.target:
            raise ValueError('kind = "target-domain" needs target = "…", the name of a domain')
        if self.time is not None:
            _seconds(self.time)


def make_split(dataset: Dataset, config: SplitConfig, rng: np.random.Generator) -> Split:
    """Split a dataset as the TOML says.

    Raises ConfigError where the data has no order or no such domain, DataError where nothing
    would be left to learn from or to ask.
    """
    kinds: dict[Kind, Callable[[], Split]] = {
        "temporal": lambda: temporal(dataset, config.fraction, config.time),
        "leave-last": lambda: leave_last(dataset, config.n, config.per),
        "random": lambda: random(dataset, config.fraction, rng),
        "k-fold": lambda: folds(dataset, config.folds, rng)[config.fold],
        "cold-user": lambda: cold_user(dataset, config.fraction, rng, config.context),
        "cold-item": lambda: cold_item(dataset, config.fraction, rng),
        "target-domain": lambda: target_domain(dataset, config.target, config.fraction, rng),
    }
    split = kinds[config.kind]()
    split = split if config.repeats else without_repeats(split)
    for side, part in (("train", split.train), ("test", split.test)):
        if not len(part):
            raise DataError(
                f'[split] kind = "{config.kind}" leaves no event for {side} of {len(dataset)}; '
                "choose another kind or fraction"
            )
    return split


def temporal(dataset: Dataset, fraction: float = 0.2, time: str | None = None) -> Split:
    """Hold out every event from an ISO time on, or the newest ``fraction`` of the events.

    Events of the same second stay together; events without a time train.
    """
    if dataset.now < 0:
        raise ConfigError('[split] kind = "temporal": the data has no times; use kind = "random"')
    if time is None:
        known = dataset.time[dataset.time >= 0]
        place = max(0, len(known) - max(1, round(fraction * len(known))))
        cut = int(np.partition(known, place)[place])
    else:
        cut = _seconds(time)
    return Split.by_mask(dataset, dataset.time >= cut)


def leave_last(dataset: Dataset, n: int = 1, per: Literal["user", "domain"] = "user") -> Split:
    """Hold out the newest n events of each user (or user and domain) that has more than n."""
    if not dataset.ordered:
        raise ConfigError(
            '[split] kind = "leave-last": the data has no times; say ordered = true if rows '
            'stand oldest first, or use kind = "random"'
        )
    from_end, size = places(cells(dataset) if per == "domain" else dataset.user)
    return Split.by_mask(dataset, (from_end <= n) & (size > n))


def random(dataset: Dataset, fraction: float, rng: np.random.Generator) -> Split:
    """Hold out exactly this share of the events."""
    held = np.zeros(len(dataset), np.bool_)
    held[rng.permutation(len(dataset))[: round(fraction * len(dataset))]] = True
    return Split.by_mask(dataset, by_link(dataset, held))


def folds(dataset: Dataset, k: int, rng: np.random.Generator) -> list[Split]:
    """Return k splits; each event is in the test of exactly one."""
    fold = by_link(dataset, rng.permutation(np.arange(len(dataset)) % k))
    return [Split.by_mask(dataset, fold == f) for f in range(k)]


def cold_user(
    dataset: Dataset, fraction: float, rng: np.random.Generator, context: float = 0.5
) -> Split:
    """Hold out users whole; of their history the oldest share ``context`` goes into the query.

    Each of them keeps at least one event as an answer; where data has no order, the context is
    drawn at random.
    """
    chosen = some_of(np.unique(dataset.user), fraction, rng, dataset.n_users)[dataset.user]
    order = np.arange(len(dataset))
    if not dataset.ordered:
        order = np.lexsort((rng.random(len(dataset)), dataset.user))
    from_end = np.empty(len(dataset), np.int64)
    from_end[order], size = places(dataset.user)
    kept = np.minimum(np.ceil(context * size), size - 1)
    seen = chosen & (from_end > size - kept)
    asked, known = chosen & ~seen, np.ones(len(dataset), np.bool_)
    if dataset.links is not None:  # nobody else's events may tell the answer
        known = np.bincount(dataset.links, asked, len(dataset))[dataset.links] == 0
    return Split(
        train=dataset.take(~chosen & known),
        test=dataset.take(asked),
        context=dataset.take((~chosen | seen) & known),
    )


def cold_item(dataset: Dataset, fraction: float, rng: np.random.Generator) -> Split:
    """Hold out all events of a share of the items."""
    chosen = some_of(np.unique(dataset.item), fraction, rng, dataset.n_items)
    return Split.by_mask(dataset, chosen[dataset.item])


def target_domain(
    dataset: Dataset, target: str, fraction: float, rng: np.random.Generator
) -> Split:
    """Hold out the target-domain events of a share of the users who are active elsewhere too."""
    code = target_code(dataset, target)
    inside = dataset.item_domain[dataset.item] == code
    both = np.intersect1d(dataset.user[inside], dataset.user[~inside])
    chosen = some_of(both, fraction, rng, dataset.n_users)
    return Split.by_mask(dataset, inside & chosen[dataset.user])


def target_code(dataset: Dataset, target: str) -> int:
    """Return the code of the domain of that name; ConfigError where there is none."""
    code = dataset.domain(target)
    if code < 0:
        names = [domain.name for domain in dataset.domains]
        raise ConfigError(
            f'[split] target = "{target}": no such domain{suggestion(target, names)} '
            f"(known: {', '.join(names)})"
        )
    return code


def given(train: Dataset, test: Dataset) -> Split:
    """Return a split of two datasets that were encoded apart, over the vocabulary of train.

    Users known only to the test are added to the vocabulary, without attributes. Test events
    of items, or of event types, that train does not know are left out: no model can answer.
    """
    new = test.users.keys.filter(~test.users.keys.is_in(train.users.keys.implode()))
    users = Vocab(pl.concat([train.users.keys, new]))
    padded = {
        name: np.pad(block, ((0, len(new)), (0, 0)))
        for name, block in train.user_attributes.items()
    }
    if len(new):
        text = train.user_text and train.user_text + ("",) * len(new)
        train = replace(train, users=users, user_attributes=padded, user_text=text)
    types = Vocab([event.name for event in train.events])
    item = train.items.encode(test.items.keys)[test.item]
    event = types.encode([event.name for event in test.events])[test.event]
    known = (item >= 0) & (event >= 0)
    answers = Dataset.build(
        user=train.users.encode(test.users.keys)[test.user][known],
        item=item[known],
        weight=test.weight[known],
        time=test.time[known],
        event=event[known],
        users=train.users,
        items=train.items,
        domains=train.domains,
        item_domain=train.item_domain,
        events=train.events,
        user_attributes=train.user_attributes,
        item_attributes=train.item_attributes,
        item_text=train.item_text,
        user_text=train.user_text,
        hidden=train.hidden,
        ordered=test.ordered,
    )
    return Split(train=train, test=answers, context=train)


def without_repeats(split: Split) -> Split:
    """Leave out test rows whose item the same user already has in the context."""
    test, context = split.test, split.context
    if not len(test):
        return split
    pair = test.user.astype(np.int64) * test.n_items + test.item
    asked, place = np.unique(pair, return_inverse=True)
    had = context.user.astype(np.int64) * context.n_items + context.item
    at = np.minimum(np.searchsorted(asked, had), len(asked) - 1)
    seen = np.zeros(len(asked), np.bool_)
    seen[at[asked[at] == had]] = True
    repeat = seen[place]
    if not repeat.any():
        return split
    return Split(train=split.train, test=split.test.take(~repeat), context=split.context)


def by_link(dataset: Dataset, drawn: Array) -> Array:
    """(N,) what was drawn for each event, the same for both directions of a link."""
    return drawn if dataset.links is None else drawn[dataset.links]


def cells(dataset: Dataset) -> Ids:
    """(N,) code of the (user, domain) of each event."""
    domain = dataset.item_domain[dataset.item]
    return dataset.user.astype(np.int64) * dataset.n_domains + domain


def places(group: Ids) -> tuple[Ids, Ids]:
    """Place of each row from the end of its group (1 = newest), and the size of the group."""
    order = np.argsort(group, kind="stable")
    sizes = np.bincount(np.cumsum(np.r_[True, np.diff(group[order]) != 0]) - 1, minlength=0)
    size = np.repeat(sizes, sizes)
    from_end, of_row = np.empty(len(group), np.int64), np.empty(len(group), np.int64)
    from_end[order] = np.repeat(np.cumsum(sizes), sizes) - np.arange(len(group))
    of_row[order] = size
    return from_end, of_row


def some_of(codes: Ids, fraction: float, rng: np.random.Generator, n: int) -> Mask:
    """(n,) mask of a random share of these codes, at least one."""
    mask = np.zeros(n, np.bool_)
    mask[rng.permutation(codes)[: max(1, round(fraction * len(codes)))]] = True
    return mask


def _seconds(time: str) -> int:
    try:
        moment = datetime.fromisoformat(time)
    except ValueError:
        raise ConfigError(
            f'[split] time = "{time}": write it as "2024-05-31" or with a time'
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
