"""Rating prediction by neighbours on MovieLens-100k, 5-fold, beside Surprise on the same folds.

Usage: neighbour_ratings.py [--peers PYTHON]. Options were chosen on 15 % of the train of fold 0.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from m6rec.data.dataset import Dataset
from m6rec.data.fetch import fetch
from m6rec.data.schema import Domain
from m6rec.models.neighbours import Neighbours
from m6rec.tracking import Run

FOLDS = 5
RECIPES = (
    Neighbours(k=60, similarity="adjusted", shrink=200.0, reg_item=2.0, reg_user=3.0),
    Neighbours(k=40, similarity="pearson", shrink=100.0, reg_item=5.0, reg_user=5.0),
    Neighbours(k=40, similarity="cosine", shrink=20.0, reg_item=5.0, reg_user=5.0),
    Neighbours(k=40, by="user", similarity="pearson", shrink=20.0, reg_item=5.0, reg_user=5.0),
)
PEER = """
import sys, time, numpy as np
from surprise import Dataset, KNNBaseline, Reader
from pandas import DataFrame
rows = np.load(sys.argv[1])
user, item, rating, fold = rows["user"], rows["item"], rows["rating"], rows["fold"]
error, start = [], time.perf_counter()
for f in range(fold.max() + 1):
    train, test = fold != f, fold == f
    frame = DataFrame({"u": user[train], "i": item[train], "r": rating[train]})
    model = KNNBaseline(verbose=False)
    model.fit(Dataset.load_from_df(frame, Reader(rating_scale=(1, 5))).build_full_trainset())
    found = [model.predict(u, i).est for u, i in zip(user[test], item[test])]
    left = found - rating[test]
    error.append([np.sqrt((left**2).mean()), np.abs(left).mean()])
print(*np.mean(error, axis=0), time.perf_counter() - start)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", default="/tmp/peers/bin/python", help="python with surprise")
    options = parser.parse_args()
    table = pl.read_csv(fetch("ml-100k") / "ratings.csv")
    user, item = (
        np.unique(table[name].to_numpy(), return_inverse=True)[1] for name in table.columns[:2]
    )
    rating = table["rating"].to_numpy().astype(np.float32)
    fold = np.random.default_rng(0).permutation(len(user)) % FOLDS
    n_users, n_items = int(user.max()) + 1, int(item.max()) + 1

    def dataset(rows: np.ndarray) -> Dataset:
        return Dataset.build(
            user=user[rows],
            item=item[rows],
            weight=rating[rows],
            users=n_users,
            items=n_items,
            domains=(Domain(name="films", feedback="explicit"),),
        )

    print(f"{'RMSE':>7} {'± folds':>8} {'MAE':>7} {'s':>6}")
    for recipe in RECIPES:
        error, start = [], time.perf_counter()
        for f in range(FOLDS):
            train, test = dataset(fold != f), fold == f
            scores = recipe.fit(train, Run()).score(train.query(np.arange(n_users)))
            found = scores[user[test], item[test]]
            found = np.where(np.isnan(found), rating[fold != f].mean(), found).clip(1, 5)
            left = found - rating[test]
            error.append([np.sqrt((left**2).mean()), np.abs(left).mean()])
        (rmse, mae), spread = np.mean(error, axis=0), np.std(error, axis=0)[0]
        took = time.perf_counter() - start
        name = f"{recipe.by} {recipe.similarity} k={recipe.k} shrink={recipe.shrink:g}"
        print(f"{rmse:7.4f} {spread:8.4f} {mae:7.4f} {took:6.1f}  {name}", flush=True)
    if not Path(options.peers).exists():
        sys.exit(f"{options.peers} is missing: name a python with scikit-surprise with --peers")
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/rows.npz"
        np.savez(file, user=user, item=item, rating=rating, fold=fold)
        command = [options.peers, "-c", PEER, file]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    rmse, mae, took = map(float, done.stdout.split())
    print(f"{rmse:7.4f} {'':8} {mae:7.4f} {took:6.1f}  surprise KNNBaseline")


if __name__ == "__main__":
    main()
