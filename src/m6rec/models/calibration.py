"""The scale of a part's scores: mean and deviation in each domain and activity bucket."""

from __future__ import annotations

import numpy as np

from m6rec.arrays import Floats
from m6rec.data.dataset import Dataset
from m6rec.data.query import ACTIVITY_NAMES, activity_bucket
from m6rec.models.base import Model

N_BUCKETS = len(ACTIVITY_NAMES)
SAMPLE = 400  # users whose scores calibrate a part in a domain
BATCH = 256


def calibrate(model: Model, train: Dataset, rng: np.random.Generator) -> Floats:
    """Return (D, buckets, 2): mean and standard deviation of a model's scores of unseen items.

    From a sample of train users, asked when their newest event happened, per domain and activity
    bucket there; a bucket with too few has the domain's. Explicit domains keep rating units: 0
    and 1.
    """
    table = np.tile(np.array([0.0, 1.0], np.float32), (train.n_domains, N_BUCKETS, 1))
    users = np.unique(train.user)
    users = rng.permutation(users)[:SAMPLE]
    for d, domain in enumerate(train.domains):
        items = np.flatnonzero(train.item_domain == d)
        if domain.feedback == "explicit" or not len(items):
            continue
        sums = np.zeros((N_BUCKETS, 3))  # cells, Σ, Σ²
        for at in range(0, len(users), BATCH):
            some = users[at : at + BATCH]
            query = train.query(some, train.time[train.start[some + 1] - 1])
            scores = model.score(query, items).astype(np.float64)
            row = np.repeat(np.arange(len(query)), np.diff(query.history.indptr))
            inside = train.item_domain[query.history.indices] == d
            place = np.searchsorted(items, query.history.indices[inside])
            scores[row[inside], place] = np.nan
            known = ~np.isnan(scores)
            bucket = activity_bucket(query.activity(train.item_domain, train.n_domains)[:, d])
            for moment, values in enumerate((known, np.nan_to_num(scores))):
                np.add.at(sums[:, moment], bucket, values.sum(axis=1))
            np.add.at(sums[:, 2], bucket, (np.nan_to_num(scores) ** 2).sum(axis=1))
        whole = sums.sum(axis=0)
        for b in range(N_BUCKETS):
            n, total, square = sums[b] if sums[b, 0] >= 20 * min(len(items), 50) else whole
            if n:
                deviation = np.sqrt(max(square / n - (total / n) ** 2, 0.0))
                table[d, b] = total / n, deviation if deviation > 1e-12 else 1.0
    return table
