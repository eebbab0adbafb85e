"""What the towers are told of items and users beside the sequence: φ, attributes, PCT vectors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from m6rec.arrays import Array, Floats, Ids
from m6rec.data.dataset import Dataset
from m6rec.data.derived import BATCH, as_of
from m6rec.data.query import Query
from m6rec.models.pct_model import PctModel
from m6rec.text import Name, encoder_of
from m6rec.tracking import Run


def item_features(
    data: Dataset, run: Run, attributes: bool, text_dim: int, texts: Name, pct: PctModel | None
) -> Floats:
    """Return φ (n_items, p): attribute blocks, text vectors and PCT vectors side by side, each
    column of deviation ≤ about 1; p may be 0."""
    blocks = [np.zeros((data.n_items, 0), np.float32)]
    if attributes:
        blocks += [block for _, block in sorted(data.item_features.items())]
    if attributes and data.item_text is not None and text_dim:
        dim = min(text_dim, data.n_items)
        vectors = encoder_of(texts, dim).fit_encode(data.item_text, run)[1]
        blocks.append(vectors * np.float32(np.sqrt(vectors.shape[1])))
    if pct is not None:
        known = np.zeros((data.n_items, latent_size(pct)), np.float32)
        for d in range(data.n_domains):
            inside = data.item_domain == d
            vectors = pct.item_factors(d)[0][inside]
            known[inside] = vectors / max(1e-6, float(vectors.std()) if vectors.size else 1.0)
        blocks.append(known)
    return np.hstack(blocks).astype(np.float32)


def user_features(blocks: Mapping[str, Array], n: int, used: bool) -> Floats:
    """Return the user attributes side by side where they are used: (n, p)."""
    found = [b for _, b in sorted(blocks.items())] if used else []
    return np.hstack([np.zeros((n, 0), np.float32), *found]).astype(np.float32)


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
