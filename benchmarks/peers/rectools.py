"""RecTools: EASE and pure SVD; its ALS, BPR and neighbours are those of implicit."""

from __future__ import annotations

import numpy as np

from peers import Options, Score, Space, Train, factors

MODELS = {
    "ease": Space({"regularization": (500.0, 50.0, 200.0, 1000.0, 2000.0)}, largest=12_500),
    "pure svd": Space({"factors": (10, 32, 64, 128, 256)}),
}


def fit(model: str, train: Train, options: Options, seed: int) -> Score:
    import pandas as pd
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import EASEModel, PureSVDModel

    table = pd.DataFrame({Columns.User: train.user, Columns.Item: train.item})
    table = table.drop_duplicates()
    table[Columns.Weight], table[Columns.Datetime] = 1.0, pd.Timestamp(2020, 1, 1)
    data = Dataset.construct(table)
    rows = data.user_id_map.convert_to_internal(table[Columns.User].unique())
    users, items = table[Columns.User].unique(), data.item_id_map.external_ids
    if model == "ease":
        found = EASEModel(**options, recommend_n_threads=1)
        found.fit(data)
        return linear(train, found.weight, items)
    found = PureSVDModel(**options)
    found.fit(data)
    vectors = placed(found.user_factors[rows], users, train.n_users)
    return factors(vectors, placed(found.item_factors, items, train.n_items))


def linear(train: Train, weights: np.ndarray, codes: np.ndarray) -> Score:
    """Return the score of item-item weights (n, n) over the items of these codes (n,)."""
    inner = np.full(train.n_items, -1)
    inner[codes] = np.arange(len(codes))
    matrix = train.matrix[:, codes]

    def score(user: np.ndarray, item: np.ndarray) -> np.ndarray:
        found = np.full((len(user), len(item)), np.nan, np.float32)
        known = inner[item] >= 0
        found[:, known] = matrix[user] @ weights[:, inner[item[known]]]
        return found

    return score


def placed(vectors: np.ndarray, codes: np.ndarray, n: int) -> np.ndarray:
    """Return the rows at their codes among n; the others are 0."""
    whole = np.zeros((n, vectors.shape[1]), np.float32)
    whole[codes] = vectors
    return whole
