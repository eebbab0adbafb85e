"""Closed-form models on yelp18 and ml-1m: recall@20 and NDCG@20 over the full catalogue.

Usage: full_ranking.py [yelp18] [ml-1m]. Options were chosen on 10 % of train held out at random,
never on test.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from datasets import ml1m, yelp18

from m6rec.config import to_table
from m6rec.data.splits import Split
from m6rec.metrics import ranked
from m6rec.models.base import Model, Recipe
from m6rec.models.compose import Blend
from m6rec.models.graph import Graph
from m6rec.models.linear import Linear
from m6rec.models.neighbours import Neighbours, RP3Beta
from m6rec.models.pct import Pct
from m6rec.tracking import Run

SHARP = Graph(user_power=0.3, item_power=0.4, low_pass=0.1, sharpen=3.0, lift=0.45)
SETS = {
    "yelp18": (
        yelp18,
        (
            Neighbours(k=100, binary=True),
            RP3Beta(),
            Graph(low_pass=0.3, sharpen=0.0, lift=0.5),  # GF-CF as published
            SHARP,
            Blend(parts=(SHARP, Pct(dim=128)), metric="ndcg@20"),
        ),
    ),
    "ml-1m": (
        ml1m,
        (
            Neighbours(k=100, binary=True),
            RP3Beta(),
            Graph(dim=64),
            Linear(reg=500.0),
            Blend(parts=(Linear(reg=500.0), Graph(dim=64))),
        ),
    ),
}
PUBLISHED = {
    "yelp18": "GF-CF .0697/.0571 · BSPM .0713/.0584 · XSimGCL .0723/.0604",
    "ml-1m": "UltraGCN .2787/.2642",
}


def measured(model: Model, split: Split, batch: int = 2048) -> tuple[float, float]:
    """Return mean recall@20 and NDCG@20 over the users with test events."""
    users = np.unique(split.test.user)
    values = []
    for start in range(0, len(users), batch):
        some = users[start : start + batch]
        query = split.context.query(some)
        rows = ranked(model.score(query), split.test.matrix[some], query.history)
        values.append(np.column_stack([rows.metric("recall@20"), rows.metric("ndcg@20")]))
    recall, ndcg = np.nanmean(np.concatenate(values), axis=0)
    return float(recall), float(ndcg)


def shown(recipe: Recipe) -> str:
    """Return kind and options of a recipe, or those of the parts of a blend."""
    if isinstance(recipe, Blend):
        return " + ".join(shown(part) for part in recipe.parts)
    table = to_table(recipe)
    options = ", ".join(f"{k}={v}" for k, v in table.items() if k != "kind")
    return f"{table['kind']} {options}".strip()


def main() -> None:
    for name in sys.argv[1:] or list(SETS):
        load, recipes = SETS[name]
        split = load()
        print(f"{name}: {len(split.train):,} train events; published: {PUBLISHED[name]}")
        print(f"{'recall@20':>9} {'ndcg@20':>8} {'fit s':>6} {'score s':>7}  model")
        for recipe in recipes:
            start = time.perf_counter()
            model = recipe.fit(split.train, Run())
            fitted = time.perf_counter()
            recall, ndcg = measured(model, split)
            took = time.perf_counter() - fitted
            print(
                f"{recall:9.4f} {ndcg:8.4f} {fitted - start:6.1f} {took:7.1f}  {shown(recipe)}",
                flush=True,
            )


if __name__ == "__main__":
    main()
