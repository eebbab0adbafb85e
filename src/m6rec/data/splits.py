"""Splits: what a model may learn from, what it is asked, and what it should have answered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from m6rec.arrays import Mask
from m6rec.data.dataset import Dataset


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """train: learned from. context: histories that queries carry (train, unless users are
    held out whole and asked with part of their history). test: the answers."""

    train: Dataset
    test: Dataset
    context: Dataset

    @classmethod
    def by_mask(cls, dataset: Dataset, held: Mask) -> Split:
        """Hold out the event rows of a mask (N,); all the others train and are context."""
        train = dataset.take(~held)
        return cls(train=train, test=dataset.take(held), context=train)


def holdout(
    train: Dataset,
    rng: np.random.Generator,
    *,
    fraction: float = 0.1,
    cold_users: float = 0.05,
    cold_items: float = 0.02,
) -> Split:
    """Carve a holdout from train, on which λ, ω, calibration and early stopping are chosen.

    Ordered data holds out the newest event of each user in each domain, for a random
    ``fraction`` … all of the users such that about ``fraction`` of the events are held;
    unordered data a random ``fraction`` of the events. So that cold buckets are learned too,
    all target-domain events of ``cold_users`` of the users with several domains are held, and
    all events of ``cold_items`` of the items where items have text or attributes.
    """
    n = len(train)
    if train.ordered:
        domain = train.item_domain[train.item]
        cell = train.user.astype(np.int64) * train.n_domains + domain
        newest = np.zeros(n, np.bool_)
        last = np.unique(cell[::-1], return_index=True)[1]
        newest[n - 1 - last] = True
        share = min(1.0, fraction * n / max(1, int(newest.sum())))
        held = newest & (rng.random(train.n_users) < share)[train.user]
    else:
        held = rng.random(n) < fraction
    if train.n_domains > 1 and cold_users:
        domain = train.item_domain[train.item]
        active = np.zeros((train.n_users, train.n_domains), np.bool_)
        active[train.user, domain] = True
        several = active.sum(axis=1) > 1
        chosen = several & (rng.random(train.n_users) < cold_users)
        noise = np.where(active, rng.random(active.shape), -1.0)
        held |= (chosen & True)[train.user] & (domain == noise.argmax(axis=1)[train.user])
    if cold_items and (train.item_features or train.item_text is not None):
        held |= (rng.random(train.n_items) < cold_items)[train.item]
    return Split.by_mask(train, held)
