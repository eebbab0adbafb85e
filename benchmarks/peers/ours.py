"""M6-Rec itself, asked like a peer: the fused default, and some of its parts alone.

The fused default has no options to search: it chooses everything on a holdout that its fit carves
from train by itself, as shipped. Single parts get as many trials as anybody.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from peers import Options, Space, Train

MODELS = {
    "m6rec": Space(random=True),
    "m6rec, deep": Space(random=True, ordered=True),
    "m6rec, target alone": Space(random=True),
    "towers": Space(random=True, ordered=True),
    "pct": Space({"dim": (64, 32, 128)}, True),
    "linear": Space({"reg": (500.0, 50.0, 200.0, 1000.0, 2000.0)}, largest=12_500),
    "graph": Space({"dim": (448, 64, 128), "low_pass": (0.13, 0.3)}, True),
    "m6rec, ratings": Space(random=True, task="rating"),
    "pct, ratings": Space(random=True, task="rating"),
    "neighbours, ratings": Space(
        {"k": (60, 40), "shrink": (200.0, 100.0), "reg_item": (2.0, 5.0)}, task="rating"
    ),
}


def fit(model: str, train: Train, options: Options, seed: int) -> Any:
    import quality

    from m6rec.tracking import Run

    task = quality.TASKS[train.name]
    split = quality.staged(train.name, train.stage)
    learned = split.train
    if model == "m6rec, target alone":
        learned = learned.take(learned.item_domain[learned.item] == task.domain(learned))
    found = recipe(model, options).fit(learned, Run(seed=seed, threads=1))
    context = replace(split, context=learned).context

    if MODELS[model].task == "ranking":
        every = len(split.train.item_domain)
        return lambda users, items: found.score(
            context.query(users), None if len(items) == every else items.astype(np.int32)
        )

    def predict(user: np.ndarray, item: np.ndarray) -> np.ndarray:
        people, row = np.unique(user, return_inverse=True)
        value = found.score(context.query(people.astype(np.int32)))[row, item]
        return np.where(np.isnan(value), train.rating.mean(), value).astype(np.float32)

    return predict


def recipe(model: str, options: Options) -> Any:
    """Return the recipe of a name."""
    from m6rec.models.default import M6Rec
    from m6rec.models.graph import Graph
    from m6rec.models.linear import Linear
    from m6rec.models.neighbours import Neighbours
    from m6rec.models.pct import Pct

    if model.startswith("m6rec"):
        return M6Rec(deep=model == "m6rec, deep")
    if model == "neighbours, ratings":
        return Neighbours(similarity="adjusted", reg_user=3.0, **options)
    if model == "towers":
        from m6rec.models.towers import Towers

        return Towers()
    kinds = {"pct": Pct, "linear": Linear, "graph": Graph, "pct, ratings": Pct}
    return kinds[model](**options)
