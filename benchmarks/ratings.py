"""Rating prediction on MovieLens-100k: 5 random folds, beside Surprise on the same folds.

Usage: ratings.py [--only WORD] [--folds N] [--seed N] [--peers PYTHON]. Times are left out of
the data, since folds are random; titles, years, genres and what users say of themselves are in.
Whatever a model chooses, it chooses on a holdout inside the fold's train; the options of the
neighbours were chosen on 15 % of the train of one fold.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from m6rec import config
from m6rec.data.attributes import Attributes
from m6rec.data.fetch import fetch
from m6rec.data.prepare import Prepared, prepare
from m6rec.data.schema import DataConfig
from m6rec.data.splits import Split
from m6rec.evaluation import evaluate
from m6rec.models.base import Recipe
from m6rec.models.bayes import Bayes
from m6rec.models.compose import Blend
from m6rec.models.default import M6Rec
from m6rec.models.neighbours import Neighbours
from m6rec.models.pct import Pct
from m6rec.models.popular import Popular
from m6rec.tracking import Run

FOLDS = 5
DATA = {
    "interactions": {"path": "ratings.csv", "columns": {"time": ""}},
    "items": "films.csv",
    "users": "users.csv",
    "feedback": "explicit",
}
ADJUSTED = Neighbours(k=60, similarity="adjusted", shrink=200.0, reg_item=2.0, reg_user=3.0)
RECIPES: dict[str, Recipe] = {
    "popular": Popular(),
    "neighbours, item, adjusted": ADJUSTED,
    "neighbours, item, pearson": Neighbours(
        k=40, similarity="pearson", shrink=100.0, reg_item=5.0, reg_user=5.0
    ),
    "neighbours, item, cosine": Neighbours(k=40, shrink=20.0, reg_item=5.0, reg_user=5.0),
    "neighbours, user, pearson": Neighbours(
        k=40, by="user", similarity="pearson", shrink=20.0, reg_item=5.0, reg_user=5.0
    ),
    "pct": Pct(),
    "pct, ratings alone": Pct(attributes=False, ratings=Bayes(presence=0)),
    "pct, without attributes": Pct(attributes=False),
    "m6rec": M6Rec(),
    "blend, two pct + neighbours": Blend(
        parts=(Pct(), Pct(ratings=Bayes(dim=10, presence=20)), ADJUSTED)
    ),
}
PEER = """
import sys, time, numpy as np
import surprise
from pandas import DataFrame
rows = np.load(sys.argv[1])
user, item, rating, fold = rows["user"], rows["item"], rows["rating"], rows["fold"]
for name in ("KNNBaseline", "SVD", "SVDpp"):
    error, start = [], time.perf_counter()
    for f in range(int(sys.argv[2])):
        train, test = fold != f, fold == f
        frame = DataFrame({"u": user[train], "i": item[train], "r": rating[train]})
        reader = surprise.Reader(rating_scale=(1, 5))
        data = surprise.Dataset.load_from_df(frame, reader).build_full_trainset()
        options = {"verbose": False} if name == "KNNBaseline" else {"random_state": 0}
        model = getattr(surprise, name)(**options).fit(data)
        left = np.array([model.predict(*p).est for p in zip(user[test], item[test])]) - rating[test]
        error.append([np.sqrt((left**2).mean()), np.abs(left).mean()])
    took = time.perf_counter() - start
    print(name, *np.mean(error, axis=0), np.std(error, axis=0)[0], took, flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="models whose name holds this; no peers")
    parser.add_argument("--folds", type=int, default=FOLDS, help="the first N of the 5 folds")
    parser.add_argument("--seed", type=int, default=0, help="of the division into folds")
    parser.add_argument("--peers", default="/tmp/peers/bin/python", help="python with surprise")
    options = parser.parse_args()
    prepared = prepare(config.from_table(DataConfig, DATA, "data"), fetch("ml-100k"), Run())
    data = prepared.dataset
    fold = np.random.default_rng(options.seed).permutation(np.arange(len(data)) % FOLDS)
    print(f"{'RMSE':>7} {'± folds':>8} {'MAE':>7} {'s':>6}")
    for name, recipe in RECIPES.items():
        if options.only in name:
            start = time.perf_counter()
            found = [measured(recipe, prepared, fold == f) for f in range(options.folds)]
            show(name, *np.mean(found, axis=0), np.std(found, axis=0)[0], start)
    if options.only:
        return
    if not Path(options.peers).exists():
        sys.exit(f"{options.peers} is missing: name a python with scikit-surprise with --peers")
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/rows.npz"
        np.savez(file, user=data.user, item=data.item, rating=data.weight, fold=fold)
        command = [options.peers, "-c", PEER, file, str(options.folds)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as peer:
            assert peer.stdout is not None
            for line in peer.stdout:
                kind, *figures = line.split()
                rmse, mae, spread, took = map(float, figures)
                print(f"{rmse:7.4f} {spread:8.4f} {mae:7.4f} {took:6.1f}  surprise {kind}")


def measured(recipe: Recipe, prepared: Prepared, held: np.ndarray) -> tuple[float, float]:
    """RMSE and MAE on the held rows of a model that knows the others."""
    split = Split.by_mask(prepared.dataset, held)
    train = Attributes.fit(prepared, split.train).attach(split.train, prepared)
    split = replace(split, train=train, context=train)
    found = evaluate(recipe.fit(train, Run()), split, metrics=("rmse", "mae"), by=(), run=Run())
    return found["rmse"], found["mae"]


def show(name: str, rmse: float, mae: float, spread: float, start: float) -> None:
    took = time.perf_counter() - start
    print(f"{rmse:7.4f} {spread:8.4f} {mae:7.4f} {took:6.1f}  {name}", flush=True)


if __name__ == "__main__":
    main()
