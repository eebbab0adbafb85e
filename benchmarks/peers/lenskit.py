"""LensKit: item and user neighbours, EASE, implicit and biased matrix factorisation."""

from __future__ import annotations

from typing import Any

import numpy as np

from peers import Options, Space, Train

NEAR = {"max_nbrs": (20, 50, 100, 200), "min_sim": (1e-6, 0.01)}
DIM = {"embedding_size": (50, 20, 100)}
MODELS = {
    "item knn": Space(NEAR),
    "user knn": Space(NEAR),
    "ease": Space({"regularization": (1.0, 50.0, 200.0, 500.0, 1000.0)}, largest=12_500),
    "implicit mf": Space({**DIM, "regularization": (0.1, 1.0, 10.0), "weight": (40, 4, 10)}, True),
    "item knn, ratings": Space({"max_nbrs": (20, 40, 80), "min_nbrs": (1, 3)}, task="rating"),
    "user knn, ratings": Space({"max_nbrs": (20, 40, 80), "min_nbrs": (1, 3)}, task="rating"),
    "biased mf": Space(
        {**DIM, "regularization": (0.1, 0.5, 1.0), "damping": (5.0, 1.0)}, True, "rating"
    ),
}


def fit(model: str, train: Train, options: Options, seed: int) -> Any:
    import pandas as pd
    from lenskit.als import BiasedMFScorer, ImplicitMFScorer
    from lenskit.basic import BiasScorer
    from lenskit.data import ItemList, RecQuery, from_interactions_df
    from lenskit.knn import EASEScorer, ItemKNNScorer, UserKNNScorer
    from lenskit.training import TrainingOptions

    kinds = {
        "item knn": ItemKNNScorer,
        "user knn": UserKNNScorer,
        "ease": EASEScorer,
        "implicit mf": ImplicitMFScorer,
        "biased mf": BiasedMFScorer,
    }
    rating = MODELS[model].task == "rating"
    table = pd.DataFrame({"user_id": train.user, "item_id": train.item})
    if rating:
        table["rating"] = train.rating.astype(np.float64)
    data = from_interactions_df(table.drop_duplicates(["user_id", "item_id"]))
    if "knn" in model:
        options = {**options, "feedback": "explicit" if rating else "implicit"}
    found = kinds[model.removesuffix(", ratings")](**options)
    found.train(data, TrainingOptions(rng=seed))

    def asked(user: int, items: np.ndarray, scorer: Any) -> np.ndarray:
        query = RecQuery(user_id=user, user_items=data.user_row(user))
        answer = scorer(query=query, items=ItemList(item_ids=items))
        return np.asarray(answer.scores(), np.float32)

    known = set(np.unique(train.user).tolist())
    if not rating:

        def score(users: np.ndarray, items: np.ndarray) -> np.ndarray:
            nothing = np.full(len(items), np.nan, np.float32)
            rows = [asked(u, items, found) if u in known else nothing for u in users.tolist()]
            return np.stack(rows)

        return score

    bias = BiasScorer()
    bias.train(data, TrainingOptions(rng=seed))

    def predict(user: np.ndarray, item: np.ndarray) -> np.ndarray:
        out = np.full(len(user), train.rating.mean(), np.float32)
        for u in np.unique(user).tolist():
            rows = np.flatnonzero(user == u)
            if u in known:
                value, fallback = (asked(u, item[rows], s) for s in (found, bias))
                out[rows] = np.where(np.isnan(value), fallback, value)
        return np.clip(out, train.rating.min(), train.rating.max())

    return predict
