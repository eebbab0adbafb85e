"""LightFM (the fork lightfm-next, which builds here): factors with WARP or BPR loss."""

from __future__ import annotations

import numpy as np

from peers import Options, Score, Space, Train, factors

MODELS = {
    "lightfm": Space(
        {
            "loss": ("warp", "bpr"),
            "no_components": (10, 32, 64),
            "epochs": (20, 50),
            "learning_rate": (0.05, 0.02),
            "item_alpha": (0.0, 1e-5),
        },
        True,
    )
}


def fit(model: str, train: Train, options: Options, seed: int) -> Score:
    from lightfm import LightFM

    options = dict(options)
    epochs = options.pop("epochs")
    found = LightFM(random_state=seed, **options)
    found.fit(train.matrix.tocoo(), epochs=epochs, num_threads=1)
    (user_bias, user), (item_bias, item) = (
        found.get_user_representations(),
        found.get_item_representations(),
    )
    ones = np.ones(len(user_bias), np.float32)
    return factors(np.c_[user, user_bias, ones], np.c_[item, np.ones(len(item)), item_bias])
