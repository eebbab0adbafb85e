"""DeepFM with and without each penalty, beside what exists, on MovieLens-100k.

    python benchmarks/deepfm.py choose     ratings and ranking: options, on a holdout of train
    python benchmarks/deepfm.py ratings    RMSE on the folds of ratings.py [--folds N]
    python benchmarks/deepfm.py ranking    leave-last, full ranking, NDCG@10, ratings as clicks

``--only WORD``: models whose name holds it. The number of epochs is found on a holdout of train
by every fit; other options were chosen by ``choose``, which never sees a test row.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from functools import partial

import numpy as np
from ratings import ADJUSTED, FOLDS, measured
from ratings import DATA as RATINGS

from m6rec import config
from m6rec.data.attributes import Attributes
from m6rec.data.fetch import fetch
from m6rec.data.holdout import holdout
from m6rec.data.prepare import Prepared, prepare
from m6rec.data.schema import DataConfig
from m6rec.data.splits import Split, leave_last
from m6rec.evaluation import evaluate
from m6rec.models.base import Recipe
from m6rec.models.compose import Blend
from m6rec.models.deepfm import DeepFM, Learner, judge
from m6rec.models.linear import Linear
from m6rec.models.pct import Pct
from m6rec.models.popular import Popular
from m6rec.tracking import Run
from m6rec.training.loop import Training

CLICKS = {
    "interactions": {"path": "ratings.csv", "columns": {"value": ""}},
    "items": "films.csv",
    "users": "users.csv",
}
RATED = DeepFM(penalty="frequency", reg=3.0, training=Training(batch=512, epochs=20, patience=3))
LASSO = replace(RATED, penalty="group", reg=0.1)
RATING: dict[str, Recipe] = {
    "popular": Popular(),
    "neighbours, item, adjusted": ADJUSTED,
    "pct alone": Pct(),
    "deepfm, frequency": RATED,
    "deepfm, group lasso": LASSO,
    "deepfm, no penalty": replace(RATED, penalty="none"),
    "fm alone, no mlp": replace(RATED, hidden=()),
    "deepfm without attributes": replace(RATED, attributes=False),
    "deepfm with user ids": replace(RATED, user_ids=True),
    "blend, pct + neighbours": Blend(parts=(Pct(), ADJUSTED)),
    "blend, pct + deepfm + neighbours": Blend(parts=(Pct(), RATED, ADJUSTED)),
}
CLICKED = replace(RATED, negatives=64, training=Training(batch=512, lr=2e-3, epochs=15, patience=3))
RANKING: dict[str, Recipe] = {
    "popular": Popular(),
    "linear (EASE)": Linear(),
    "deepfm, frequency": CLICKED,
    "deepfm, group lasso": replace(CLICKED, penalty="group", reg=0.1),
    "deepfm, no penalty": replace(CLICKED, penalty="none"),
    "fm alone, no mlp": replace(CLICKED, hidden=()),
    "deepfm without attributes": replace(CLICKED, attributes=False),
}
STRENGTHS = {"frequency": (1.0, 3.0, 10.0), "group": (0.05, 0.1)}


class Kept:
    """A tracker that keeps every scalar by name and step."""

    def __init__(self) -> None:
        self.found: dict[str, dict[int, float]] = {}

    def scalar(self, name: str, value: float, step: int) -> None:
        self.found.setdefault(name, {})[step] = value

    def close(self) -> None: ...


def described(prepared: Prepared, split: Split) -> Split:
    """Return the split with attributes fitted on its train."""
    train = Attributes.fit(prepared, split.train).attach(split.train, prepared)
    return replace(split, train=train, context=train)


def folds(prepared: Prepared) -> np.ndarray:
    """Return the fold of every event, as ratings.py divides them with seed 0."""
    n = len(prepared.dataset)
    return np.random.default_rng(0).permutation(np.arange(n) % FOLDS)


def choose(prepared: Prepared, train: Split, base: DeepFM) -> None:
    """Print what a holdout of train says of each penalty and strength."""
    split = holdout(described(prepared, train).train, np.random.default_rng(1))
    recipes = {"none": replace(base, penalty="none")}
    for penalty, strengths in STRENGTHS.items():
        for reg in strengths:
            recipes[f"{penalty} {reg}"] = replace(base, penalty=penalty, reg=reg)  # type: ignore[arg-type]
    for name, recipe in recipes.items():
        kept = Kept()
        learner = Learner(recipe, split.train, Run(trackers=(kept,)))
        epochs = learner.learn(recipe.training, partial(judge, learner, split))
        value = max(kept.found["holdout"].values()) * float(learner.scale.scale[0])
        shares = [(n, v[epochs]) for n, v in kept.found.items() if n.startswith("zero rows")]
        zero = ", ".join(f"{n.split('/')[1]} {v:.0%}" for n, v in shares)
        print(f"{value:8.4f} after {epochs:2} epochs  {name}  {zero}", flush=True)


def ratings(prepared: Prepared, only: str, n: int) -> None:
    fold = folds(prepared)
    for name, recipe in RATING.items():
        if only in name:
            start = time.perf_counter()
            found = np.array([measured(recipe, prepared, fold == f) for f in range(n)])
            rmse, mae = found.mean(axis=0)
            spread, took = found[:, 0].std(), time.perf_counter() - start
            print(
                f"RMSE {rmse:.4f} ± {spread:.4f}  MAE {mae:.4f}  {took:5.0f} s  {name}", flush=True
            )


def ranking(prepared: Prepared, only: str) -> None:
    split = described(prepared, leave_last(prepared.dataset))
    for name, recipe in RANKING.items():
        if only in name:
            start = time.perf_counter()
            model = recipe.fit(split.train, Run())
            metrics = ("ndcg@10", "hit@10")
            found = evaluate(model, split, metrics=metrics, by=(), run=Run())
            took = time.perf_counter() - start
            values = "  ".join(f"{m} {found[m]:.4f}" for m in metrics)
            print(f"{values}  {took:5.0f} s  {name}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("choose", "ratings", "ranking"))
    parser.add_argument("--only", default="", help="models whose name holds this")
    parser.add_argument("--folds", type=int, default=FOLDS, help="the first N of the 5 folds")
    options = parser.parse_args()
    rated, clicks = (
        prepare(config.from_table(DataConfig, table, "data"), fetch("ml-100k"), Run())
        for table in (RATINGS, CLICKS)
    )
    if options.what == "choose":
        print("ratings, −RMSE on a holdout of the train of fold 0")
        choose(rated, Split.by_mask(rated.dataset, folds(rated) == 0), RATED)
        print("ranking, NDCG@10 on a holdout of train")
        choose(clicks, leave_last(clicks.dataset), CLICKED)
    elif options.what == "ratings":
        ratings(rated, options.only, options.folds)
    else:
        ranking(clicks, options.only)


if __name__ == "__main__":
    main()
