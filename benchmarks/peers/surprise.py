"""Surprise: rating prediction by factors and neighbours."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from peers import Options, Space, Train

EPOCHS = {"n_epochs": (20, 40, 80), "lr_all": (0.005, 0.01), "reg_all": (0.02, 0.05, 0.1)}
NEAR = {"k": (40, 20, 80), "sim": ("msd", "pearson_baseline"), "user_based": (True, False)}
MODELS = {
    "SVD": Space({**EPOCHS, "n_factors": (100, 20, 50)}, True, "rating"),
    "SVD++": Space({"n_epochs": (20, 10), "reg_all": (0.02, 0.05), "n_factors": (20, 10)}, True,
                   "rating"),
    "KNNBaseline": Space(NEAR, task="rating"),
    "KNNWithMeans": Space(NEAR, task="rating"),
    "SlopeOne": Space(task="rating"),
}  # fmt: skip


def fit(model: str, train: Train, options: Options, seed: int) -> Callable[..., np.ndarray]:
    import surprise

    rows = zip(train.user.tolist(), train.item.tolist(), train.rating.tolist(), strict=True)
    scale = (float(train.rating.min()), float(train.rating.max()))
    data = surprise.Dataset(surprise.Reader(rating_scale=scale))
    known = data.construct_trainset([(u, i, r, None) for u, i, r in rows])
    if "sim" in options:
        like = {"name": options["sim"], "user_based": options["user_based"]}
        options = {"k": options["k"], "sim_options": like, "verbose": False}
    elif model in ("SVD", "SVD++"):
        options = {**options, "random_state": seed}
    found = getattr(surprise, model.replace("++", "pp"))(**options)
    found.fit(known)

    def predict(user: np.ndarray, item: np.ndarray) -> np.ndarray:
        pairs = zip(user.tolist(), item.tolist(), strict=True)
        return np.array([found.predict(u, i).est for u, i in pairs], np.float32)

    return predict
