"""Cornac: BPR, EASE, neighbours and Poisson factors; biased factors for ratings."""

from __future__ import annotations

from typing import Any

import numpy as np

from peers import Options, Space, Train

NEAR = {"k": (20, 50, 200), "similarity": ("cosine", "pearson"), "weighting": (None, "idf", "bm25")}
MODELS = {
    "BPR": Space(
        {
            "k": (10, 50, 100),
            "max_iter": (100, 200),
            "learning_rate": (0.001, 0.01, 0.05),
            "lambda_reg": (0.01, 0.001),
        },
        True,
    ),
    "EASE": Space({"lamb": (500, 50, 200, 1000, 2000), "posB": (True, False)}, largest=12_500),
    "HPF": Space({"k": (5, 20, 50)}, True),
    "MF": Space(
        {"k": (10, 50), "max_iter": (20, 50), "learning_rate": (0.01, 0.005),
         "lambda_reg": (0.02, 0.05, 0.1)}, True, "rating",
    ),
    "NMF": Space({"k": (15, 30), "max_iter": (50, 100), "use_bias": (False, True)}, True, "rating"),
    "UserKNN": Space({**NEAR, "mean_centered": (False, True)}, task="rating"),
    "ItemKNN": Space({**NEAR, "mean_centered": (False, True)}, task="rating"),
}  # fmt: skip


def fit(model: str, train: Train, options: Options, seed: int) -> Any:
    import cornac

    pairs = np.unique(np.column_stack([train.user, train.item]), axis=0, return_index=True)[1]
    columns = train.user[pairs], train.item[pairs], train.rating[pairs].astype(np.float64)
    data = cornac.data.Dataset.from_uir(zip(*(c.tolist() for c in columns), strict=True), seed=seed)
    found = getattr(cornac.models, model)(**options, **seeded(model, seed))
    found.fit(data)
    inner = np.full(train.n_items, -1)
    inner[list(data.iid_map)] = list(data.iid_map.values())
    if MODELS[model].task == "rating":

        def predict(user: np.ndarray, item: np.ndarray) -> np.ndarray:
            rows = zip(user.tolist(), inner[item].tolist(), strict=True)
            ends = train.rating.min(), train.rating.max()
            mean = train.rating.mean()
            value = [
                found.rate(data.uid_map[u], i) if u in data.uid_map and i >= 0 else mean
                for u, i in rows
            ]
            return np.clip(np.array(value, np.float32), *ends)

        return predict

    def score(users: np.ndarray, items: np.ndarray) -> np.ndarray:
        out = np.full((len(users), len(items)), np.nan, np.float32)
        known = inner[items] >= 0
        for row, user in enumerate(users.tolist()):
            if user in data.uid_map:
                value = np.asarray(found.score(data.uid_map[user])).ravel()
                out[row, known] = value[inner[items[known]]]
        return out

    return score


def seeded(model: str, seed: int) -> Options:
    """Return the options that are no choice: seed, threads, silence."""
    quiet: Options = {"verbose": False, "seed": seed}
    return quiet if model in ("EASE", "HPF") else {**quiet, "num_threads": 1}
