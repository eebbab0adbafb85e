"""The holdout inside train, on which options, λ and ω are learned."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np

from m6rec.arrays import Array, Ids, Mask
from m6rec.data.dataset import Dataset
from m6rec.data.splits import Split, by_link, cells, places, some_of
from m6rec.errors import DataError

WORDED = 600  # users with words that a holdout has at least, if that is no more than a third
LEAST = 3_000  # events of a domain that a bounded holdout has, of all that it would have unbounded


def holdout(
    train: Dataset,
    rng: np.random.Generator,
    *,
    fraction: float = 0.1,
    cold_users: float = 0.05,
    cold_items: float = 0.02,
    max_events: int = 200_000,
) -> Split:
    """Carve a holdout from train, on which λ, ω, calibration and early stopping are chosen.

    Ordered data holds out the newest event of users in each of their domains, unordered data
    random events; about ``fraction`` of all and at most about ``max_events``, but as many as
    LEAST of a domain of which that leaves fewer. No user loses their only event that way. So that
    cold buckets are learned too, all events in one domain of ``cold_users`` of the users with
    several domains are held, and all events of ``cold_items`` of the items where items have text
    or attributes (each at most a quarter of the bound). Users who come with words are held whole,
    so that they are asked with nothing but their words: about ``fraction`` of them, more where
    that are few, but no more than a third.
    What is drawn of a domain does not depend on what other domains there are, but for who is
    hidden whole in which of their domains, so that one more changes little by chance.
    Never empty on either side; raises DataError where train has fewer than two events.
    """
    n = len(train)
    if n < 2:
        raise DataError(f"train has {n} events; at least 2 are needed to hold some out")
    domain = train.item_domain[train.item]
    streams = _streams(train, rng)
    wanted = fraction * np.bincount(domain, minlength=train.n_domains)
    if train.ordered:
        newest = places(cells(train))[0] == 1
        share = _shares(domain[newest], wanted, max_events)
        held = newest & (rng.random(train.n_users)[train.user] < share[domain])
    else:
        share = _shares(domain, wanted, max_events)
        held = by_link(train, _drawn(streams, domain) < share[domain])
    held = _leave_one(train, held)
    quarter = max_events / 4 / n
    if train.n_domains > 1 and cold_users:
        held |= _cold_users(train, min(cold_users, quarter), rng, streams)
    if cold_items and (train.item_features or train.item_text is not None):
        held |= (_drawn(streams, train.item_domain) < min(cold_items, quarter))[train.item]
    if train.worded.any():
        held |= _worded(train, fraction, max_events, rng)[train.user]
    if not held.any() or held.all():  # then the newest event of the busiest user
        from_end, size = places(train.user)
        held = np.zeros(n, np.bool_)
        held[np.argmax(np.where(from_end == 1, size, 0))] = True
    return Split.by_mask(train, held)


def familiar(split: Split) -> Split:
    """Return the split with only the test events of items that have events in train; as it is
    where there are none. For what is learned of ordinary requests: a holdout holds all events of
    some items, so that there these are asked for much more often than new items ever are."""
    test = split.test
    known = np.bincount(split.train.item, minlength=split.train.n_items)[test.item] > 0
    return replace(split, test=test.take(known)) if known.any() else split


def _shares(domain: Ids, wanted: Array, most: float) -> Array:
    """(D,) what share of the rows (N,) of each domain is to be held so that ``wanted`` (D,) are, or
    ``most`` over all domains and what small ones need."""
    there = np.maximum(1, np.bincount(domain, minlength=len(wanted)))
    share = np.minimum(1.0, wanted / there)
    cut = min(1.0, most / max(1.0, float(wanted.sum())))
    found: Array = np.minimum(share, np.maximum(cut * share, LEAST / there))
    return found


def _streams(train: Dataset, rng: np.random.Generator) -> list[np.random.Generator]:
    """A random stream for each domain, by its name."""
    root = int(rng.integers(2**63))
    return [np.random.default_rng([root, zlib.crc32(d.name.encode())]) for d in train.domains]


def _drawn(streams: list[np.random.Generator], domain: Ids) -> Array:
    """(N,) a number from 0 to 1 for each row, from the stream of its domain (N,)."""
    drawn = np.empty(len(domain))
    count = np.bincount(domain, minlength=len(streams)).tolist()
    parts = [stream.random(n) for stream, n in zip(streams, count, strict=True)]
    drawn[np.argsort(domain, kind="stable")] = np.concatenate(parts)
    return drawn


def _worded(train: Dataset, fraction: float, most: int, rng: np.random.Generator) -> Mask:
    """(n_users,) users with words and events that are held whole."""
    asked = np.unique(train.user[train.worded[train.user]])
    n = min(max(fraction * len(asked), WORDED), len(asked) / 3, most)
    return some_of(asked, n / max(1, len(asked)), rng, train.n_users)


def _leave_one(train: Dataset, held: Mask) -> Mask:
    """Release the oldest event of every user who would lose all of theirs."""
    left = np.bincount(train.user[~held], minlength=train.n_users)
    emptied = left[train.user] == 0
    from_end, size = places(train.user)
    kept: Mask = held & ~(emptied & (from_end == size))
    return kept


def _cold_users(
    train: Dataset, share: float, rng: np.random.Generator, streams: list[np.random.Generator]
) -> Mask:
    """(N,) all events in one random domain of a share of the users with several."""
    domain = train.item_domain[train.item]
    active = np.zeros((train.n_users, train.n_domains), np.bool_)
    active[train.user, domain] = True
    chosen = (active.sum(axis=1) > 1) & (rng.random(train.n_users) < share)
    drawn = np.column_stack([stream.random(train.n_users) for stream in streams])
    lost = np.where(active, drawn, -1.0).argmax(axis=1)
    held: Mask = chosen[train.user] & (domain == lost[train.user])
    return held
