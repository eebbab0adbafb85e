"""A small world whose right answers are known: two domains, text, attributes, taste groups."""

from __future__ import annotations

import dataclasses

import numpy as np

from m6rec.data.dataset import Dataset
from m6rec.data.schema import Domain, EventType
from m6rec.data.vocab import Vocab

GROUPS = 4
WORDS = ("dragon castle sword", "robot laser planet", "kiss wedding heart", "goal stadium team")


def world(
    *,
    seed: int = 0,
    n_users: int = 120,
    n_items: int = 40,
    explicit: bool = False,
    ordered: bool = True,
) -> Dataset:
    """Return ~25 events for each of ``n_users``; item ``i`` belongs to taste group ``i % 4``.

    Users like their group (9 of 10 events are in it). Items 0 … n/2-1 are "films", the rest
    "books"; both show the same taste, so books are predictable from films. Every item has
    group words as text and a one-hot "group" attribute; users have a noisy one. Explicit
    worlds rate the own group 4-5 and other groups 1-3.
    """
    rng = np.random.default_rng(seed)
    group_of_item = np.arange(n_items) % GROUPS
    user, item, rating = [], [], []
    for u in range(n_users):
        own = np.flatnonzero(group_of_item == u % GROUPS)
        other = np.flatnonzero(group_of_item != u % GROUPS)
        liked = rng.choice(own, size=min(len(own) - 2, 7), replace=False)
        stray = rng.choice(other, size=6 if explicit else 1, replace=False)
        both = rng.permutation(np.r_[liked, stray])
        user += [u] * len(both)
        item += both.tolist()
        fits = group_of_item[both] == u % GROUPS
        rating += np.where(
            fits, rng.integers(4, 6, len(both)), rng.integers(1, 4, len(both))
        ).tolist()
    n = len(user)
    time = 1_700_000_000 + 3600 * np.arange(n) % 9_999_999
    kind = "explicit" if explicit else "implicit"
    noisy = np.where(
        rng.random(n_users) < 0.9, np.arange(n_users) % GROUPS, rng.integers(0, GROUPS, n_users)
    )
    return Dataset.build(
        user=np.array(user),
        item=np.array(item),
        users=Vocab([f"u{u}" for u in range(n_users)]),
        items=Vocab([f"{'films' if i < n_items // 2 else 'books'}/i{i}" for i in range(n_items)]),
        weight=np.array(rating, dtype=np.float32) if explicit else None,
        time=time if ordered else None,
        domains=(Domain(name="films", feedback=kind), Domain(name="books", feedback=kind)),  # type: ignore[arg-type]
        item_domain=(np.arange(n_items) >= n_items // 2).astype(np.int16),
        events=(EventType(name="event"),),
        user_attributes={"taste": np.eye(GROUPS, dtype=np.float32)[noisy]},
        item_attributes={"group": np.eye(GROUPS, dtype=np.float32)[group_of_item]},
        item_text=tuple(f"{WORDS[g]} {i}" for i, g in enumerate(group_of_item)),
    )


def listed(data: Dataset, n: int) -> Dataset:
    """The world as far as its first n items; the others must have no events."""
    return dataclasses.replace(
        data,
        items=Vocab(data.items.keys[:n]),
        item_domain=data.item_domain[:n],
        item_attributes={name: block[:n] for name, block in data.item_attributes.items()},
        item_text=data.item_text and data.item_text[:n],
        hidden=data.hidden[:n],
    )


def alike(data: Dataset, *items: int) -> Dataset:
    """New items without events, of the domains, attributes and texts of these."""
    codes = np.array(items)
    return Dataset.build(
        user=np.zeros(0),
        item=np.zeros(0),
        users=Vocab([]),
        items=Vocab([f"{data.items.key(i)}-{data.n_items + n}" for n, i in enumerate(items)]),
        domains=data.domains,
        item_domain=data.item_domain[codes],
        item_attributes={name: block[codes] for name, block in data.item_attributes.items()},
        item_text=data.item_text and tuple(data.item_text[i] for i in items),
    )


def own_group_share(scores: np.ndarray, users: np.ndarray, seen: np.ndarray, k: int = 3) -> float:
    """Return the share of the top k unseen items that belong to the user's taste group."""
    masked = np.where(seen | np.isnan(scores), -np.inf, scores)
    top = np.argsort(-masked, axis=1)[:, :k]
    return float((top % GROUPS == users[:, None] % GROUPS).mean())
