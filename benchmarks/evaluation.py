"""Full-catalogue evaluation speed: 30,000 users × 40,000 items, k = 128 factors, two cores.

Bar: 60 s with scoring, best of the repeats. ``--peer`` (default /tmp/peers/bin/python) ranks the
same factors with rectools in the same run, for the same NDCG@10.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from m6rec.arrays import Floats, Ids, Scores, State
from m6rec.data.dataset import Dataset
from m6rec.data.query import Query
from m6rec.data.splits import Split
from m6rec.evaluation import evaluate
from m6rec.models.base import Model, Recipe
from m6rec.tracking import Run

USERS, ITEMS, DIM, TRAIN, TEST = 30_000, 40_000, 128, 40, 10

PEER = """
import sys, time
import numpy as np, pandas as pd
from scipy.sparse import csr_matrix
from rectools.columns import Columns
from rectools.metrics import NDCG, Recall, calc_metrics
from rectools.models.rank import Distance, ImplicitRanker
d = np.load(sys.argv[1]); n_users, n_items = len(d["users"]), len(d["items"])
t = time.perf_counter()
seen = csr_matrix((np.ones(len(d["train"])), d["train"].T), shape=(n_users, n_items))
ranker = ImplicitRanker(Distance.DOT, d["users"], d["items"], num_threads=2)
u, i, s = ranker.rank(np.arange(n_users), k=10, filter_pairs_csr=seen)
reco = pd.DataFrame({Columns.User: u, Columns.Item: i, Columns.Score: s})
reco[Columns.Rank] = reco.groupby(Columns.User, sort=False).cumcount() + 1
test = pd.DataFrame(d["test"], columns=[Columns.User, Columns.Item])
metrics = {"ndcg": NDCG(10, divide_by_achievable=True), "recall": Recall(10)}
found = calc_metrics(metrics, reco, test)
print(time.perf_counter() - t, found["recall"], found["ndcg"])
"""


@dataclass(frozen=True, kw_only=True)
class Factors(Recipe):
    """A fixed dot product, to time evaluation alone."""

    kind: ClassVar[str] = "factors"

    def fit(self, train: Dataset, run: Run) -> Model:
        raise NotImplementedError

    def restore(self, state: State) -> Model:
        return FactorModel(state["users"], state["items"])


class FactorModel(Model):
    def __init__(self, users: Floats, items: Floats) -> None:
        self.recipe, self.users, self.items, self.n_items = Factors(), users, items, len(items)
        self.seconds = 0.0

    def score(self, query: Query, items: Ids | None = None) -> Scores:
        start = time.perf_counter()
        scores = self.users[query.user] @ (self.items if items is None else self.items[items]).T
        self.seconds += time.perf_counter() - start
        return scores

    def state(self) -> State:
        return {"users": self.users, "items": self.items}


def events(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Distinct (user, item) pairs with Zipf-like items: train (N, 2) and test (M, 2)."""
    n = USERS * (TRAIN + TEST)
    item = (ITEMS * rng.random(n) ** 3).astype(np.int64)
    cell = np.unique(rng.integers(0, USERS, n) * ITEMS + item)
    pairs = np.column_stack(np.divmod(rng.permutation(cell), ITEMS))
    cut = len(pairs) * TRAIN // (TRAIN + TEST)
    return pairs[:cut], pairs[cut:]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--peer", default="/tmp/peers/bin/python")
    args = options.parse_args()
    rng = np.random.default_rng(0)
    train, test = events(rng)
    users = rng.standard_normal((USERS, DIM), dtype=np.float32)
    items = rng.standard_normal((ITEMS, DIM), dtype=np.float32)
    # lift the test pairs, so that the metrics are not all near 0
    np.add.at(users, test[:, 0], 0.3 * items[test[:, 1]])
    sides = [
        Dataset.build(user=p[:, 0], item=p[:, 1], users=USERS, items=ITEMS) for p in (train, test)
    ]
    split = Split(train=sides[0], test=sides[1], context=sides[0])
    evaluate(FactorModel(users, items), small(split), metrics=("ndcg@10",))  # compile
    print(f"{USERS} users, {ITEMS} items, {len(train)} train, {len(test)} test events")
    print(f"{'':<24}{'total s':>9}{'no scoring':>12}{'recall@10':>11}{'ndcg@10':>9}")
    for _ in range(args.repeats):
        model = FactorModel(users, items)
        start = time.perf_counter()
        found = evaluate(model, split, metrics=("ndcg@10", "recall@10", "hit@10", "mrr", "auc"))
        total = time.perf_counter() - start
        line = f"{total:>9.1f}{total - model.seconds:>12.1f}"
        print(f"{'m6rec, 5 metrics':<24}{line}{found['recall@10']:>11.5f}{found['ndcg@10']:>9.5f}")
        if Path(args.peer).exists():
            print(peer(args.peer, users, items, train, test))
        else:
            print(f"rectools is not measured: there is no {args.peer}", file=sys.stderr)


def small(split: Split) -> Split:
    return Split(train=split.train, test=split.test.take(split.test.user < 50), context=split.train)


def peer(python: str, users: Floats, items: Floats, train: np.ndarray, test: np.ndarray) -> str:
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/factors.npz"
        np.savez(file, users=users, items=items, train=train, test=test)
        ran = subprocess.run(
            [python, "-c", PEER, file], capture_output=True, text=True, check=False
        )
    if ran.returncode:
        return f"rectools failed: {ran.stderr.strip().splitlines()[-1]}"
    total, recall, ndcg = map(float, ran.stdout.split())
    return f"{'rectools, top-10':<24}{total:>9.1f}{'':>12}{recall:>11.5f}{ndcg:>9.5f}"


if __name__ == "__main__":
    main()
