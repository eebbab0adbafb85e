"""What the towers are told of items and users beside the sequence: φ, attributes, PCT vectors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from m6rec.arrays import Array, Floats, Ids, State, nest
from m6rec.data.dataset import Dataset
from m6rec.data.derived import BATCH, as_of
from m6rec.data.query import Query
from m6rec.models.described import described, described_later
from m6rec.models.pct_model import PctModel
from m6rec.text import FittedText, Name, encoder_of
from m6rec.tracking import Run


def item_features(
    data: Dataset, run: Run, attributes: bool, text_dim: int, texts: Name, pct: PctModel | None
) -> tuple[Floats, State]:
    """Return φ (n_items, p): attribute blocks, text vectors and PCT vectors side by side, each
    column of deviation ≤ about 1; p may be 0. And what ``later_features`` takes."""
    phi, state = np.zeros((data.n_items, 0), np.float32), State()
    if attributes:
        encoder = encoder_of(texts, min(text_dim, data.n_items)) if text_dim else None
        phi, fitted = described(data, encoder, run, long=True)
        state |= {} if fitted is None else nest("texts", fitted.state())
    scale = np.ones(data.n_domains, np.float32)
    if pct is not None:
        for d in range(data.n_domains):
            vectors = pct.item_factors(d)[0][data.item_domain == d]
            scale[d] = max(1e-6, float(vectors.std()) if vectors.size else 1.0)
    return np.hstack([phi, _latent_items(pct, data, 0, scale)]), state | {"scale": scale}


def later_features(
    data: Dataset, first: int, attributes: bool, texts: FittedText | None, pct: PctModel | None,
    scale: Floats,
) -> Floats:  # fmt: skip
    """Return φ of the items from code ``first`` on, which came after the fit. texts: the encoder
    as fitted. pct: knows these items. scale: (D,) deviation of PCT's vectors at the fit."""
    phi = np.zeros((data.n_items - first, 0), np.float32)
    if attributes:
        phi = described_later(data, first, texts, long=True)
    return np.hstack([phi, _latent_items(pct, data, first, scale)])


def _latent_items(pct: PctModel | None, data: Dataset, first: int, scale: Floats) -> Floats:
    """PCT's vectors of the items from code ``first`` on, (m, k)."""
    domain = data.item_domain[first:]
    known = np.zeros((len(domain), latent_size(pct)), np.float32)
    if pct is not None:
        for d in np.unique(domain).tolist():
            inside = domain == d
            known[inside] = pct.item_factors(d)[0][first:][inside] / scale[d]
    return known


def user_features(blocks: Mapping[str, Array], n: int, used: bool) -> Floats:
    """Return the user attributes side by side where they are used: (n, p)."""
    found = [b for _, b in sorted(blocks.items())] if used else []
    return np.hstack([np.zeros((n, 0), np.float32), *found]).astype(np.float32)


def users_told(data: Dataset, rows: Ids, used: bool) -> tuple[Floats, Ids]:
    """Return user attributes side by side (R, p), and which of these rows is of the user of each
    event (N,). What derives from a history is as it stood before the event."""
    if used and data.derivation is not None:
        starts = range(0, max(1, len(rows)), BATCH)
        blocks = [as_of(data, rows[at : at + BATCH]).features for at in starts]
        told = [user_features(of, len(next(iter(of.values()))), True) for of in blocks]
        return np.concatenate(told), np.arange(len(rows))
    return user_features(data.user_features, data.n_users, used), data.user[rows]


def latent_size(pct: PctModel | None) -> int:
    """Return the length of a PCT vector; 0 without PCT."""
    return 0 if pct is None else pct.item_factors(0)[0].shape[1]


def latent(pct: PctModel | None, query: Query, domain: int) -> Floats:
    """Return the users' PCT vectors in a domain (B, k), of deviation about 1; 0 where unknown."""
    if pct is None:
        return np.zeros((len(query), 0), np.float32)
    users = np.nan_to_num(pct.embed_query(query, domain)[:, :-1])
    users *= np.float32(np.sqrt(users.shape[1]) / pct.state()["norm"][domain])
    return users


def latents(pct: PctModel | None, data: Dataset, rows: Ids) -> Floats:
    """Return for events (N,) their users' PCT vectors in the domain of the item, as they stood
    before the event: (N, k)."""
    found = np.zeros((len(rows), latent_size(pct)), np.float32)
    domain = data.item_domain[data.item[rows]]
    for at in range(0, len(rows) if pct is not None else 0, BATCH):
        query = as_of(data, rows[at : at + BATCH])
        for d in np.unique(domain[at : at + BATCH]).tolist():
            inside = np.flatnonzero(domain[at : at + BATCH] == d)
            found[at + inside] = latent(pct, query.take(inside), d)
    return found
