"""Full-catalogue evaluation speed: 30,000 users × 40,000 items, k = 128 factors, two cores.

Usage: evaluation.py [--repeats N] [--users N] [--threads N] [--rectools PYTHON]
[--recbole PYTHON]. Peers rank the same factors in environments of their own, interleaved with
us: rectools its lists of 10, RecBole by ``Trainer.evaluate`` of a BPR that holds the factors,
once with its default batch, which is one user where items are many, and once with 256 users.
Recall and NDCG at 10 of all; ours also with three metrics of whole ranks. Seconds are of the wall
and of the processor, since other work may share the machine; "product" is what numpy takes for
the scores alone. Bars: 60 s; a third of rectools' time, a tenth of RecBole's.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from m6rec.arrays import Floats, Ids, Scores, State
from m6rec.compiled import threads as limited
from m6rec.data.dataset import Dataset
from m6rec.data.query import Query
from m6rec.data.splits import Split
from m6rec.evaluation import evaluate
from m6rec.models.base import Model, Recipe
from m6rec.tracking import Run

USERS, ITEMS, DIM, TRAIN, TEST = 30_000, 40_000, 128, 40, 10
TWO = ("ndcg@10", "recall@10")
BATCH = 'eval_batch_size=256 * (len(d["items"]) + 1),'
FIVE = (*TWO, "hit@10", "mrr", "auc")

RECTOOLS = """
import sys, time
import numpy as np, pandas as pd
from scipy.sparse import csr_matrix
from rectools.columns import Columns
from rectools.metrics import NDCG, Recall, calc_metrics
from rectools.models.rank import Distance, ImplicitRanker
d = np.load(sys.argv[1]); n_users, n_items = len(d["users"]), len(d["items"])
metrics = {"ndcg": NDCG(10, divide_by_achievable=True), "recall": Recall(10)}
test = pd.DataFrame(d["test"], columns=[Columns.User, Columns.Item])
seen = csr_matrix((np.ones(len(d["train"])), d["train"].T), shape=(n_users, n_items))
def run(n):
    ranker = ImplicitRanker(Distance.DOT, d["users"], d["items"], num_threads=int(sys.argv[2]))
    u, i, s = ranker.rank(np.arange(n), k=10, filter_pairs_csr=seen[:n])
    reco = pd.DataFrame({Columns.User: u, Columns.Item: i, Columns.Score: s})
    reco[Columns.Rank] = reco.groupby(Columns.User, sort=False).cumcount() + 1
    return calc_metrics(metrics, reco, test[test[Columns.User] < n])
run(100)
wall, cpu = time.perf_counter(), time.process_time()
found = run(n_users)
print(time.perf_counter() - wall, time.process_time() - cpu, found["recall"], found["ndcg"])
"""

RECBOLE = """
import logging, os, sys, time, warnings
import numpy as np, torch
warnings.simplefilter("ignore"); logging.disable(logging.CRITICAL)
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.general_recommender import BPR
from recbole.trainer import Trainer
folder = os.path.dirname(sys.argv[1]); os.makedirs(f"{folder}/made", exist_ok=True)
d = np.load(sys.argv[1]); torch.set_num_threads(int(sys.argv[2])); os.chdir(folder)
for part in ("train", "test"):
    np.savetxt(f"{folder}/made/made.{part}.inter", d[part], "%d", "\\t", comments="",
               header="user_id:token\\titem_id:token")
with open(f"{folder}/made/made.valid.inter", "w") as file:
    file.write("user_id:token\\titem_id:token\\n")
    file.write("%d\\t%d\\n" % tuple(d["test"][0]))
np.savetxt(f"{folder}/made/made.item", np.arange(len(d["items"])), "%d", comments="",
           header="item_id:token")
config = Config(model="BPR", dataset="made", config_dict=dict(
    data_path=folder, benchmark_filename=["train", "valid", "test"], use_gpu=False,
    embedding_size=d["users"].shape[1], metrics=["Recall", "NDCG"], topk=[10],
    valid_metric="NDCG@10", show_progress=False,
    eval_batch_size=256 * (len(d["items"]) + 1),
    load_col={"inter": ["user_id", "item_id"], "item": ["item_id"]}))
dataset = create_dataset(config)
train, _, test = data_preparation(config, dataset)
model = BPR(config, train.dataset)
for name, weight, layer in (("user_id", d["users"], model.user_embedding),
                            ("item_id", d["items"], model.item_embedding)):
    code = dataset.field2id_token[name][1:].astype(int)
    layer.weight.data[1:] = torch.from_numpy(weight[code])
trainer = Trainer(config, model); trainer.eval_collector.data_collect(train)
wall, cpu = time.perf_counter(), time.process_time()
found = trainer.evaluate(test, load_best_model=False)
print(time.perf_counter() - wall, time.process_time() - cpu, found["recall@10"], found["ndcg@10"])
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


def events(rng: np.random.Generator, n_users: int) -> tuple[np.ndarray, np.ndarray]:
    """Distinct (user, item) pairs with Zipf-like items: train (N, 2) and test (M, 2)."""
    n = n_users * (TRAIN + TEST)
    item = (ITEMS * rng.random(n) ** 3).astype(np.int64)
    cell = np.unique(rng.integers(0, n_users, n) * ITEMS + item)
    pairs = np.column_stack(np.divmod(rng.permutation(cell), ITEMS))
    cut = len(pairs) * TRAIN // (TRAIN + TEST)
    return pairs[:cut], pairs[cut:]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--users", type=int, default=USERS)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--rectools", default="/tmp/p-rectools/bin/python")
    options.add_argument("--recbole", default="/tmp/rb2/bin/python")
    args = options.parse_args()
    rng = np.random.default_rng(0)
    train, test = events(rng, args.users)
    users = rng.standard_normal((args.users, DIM), dtype=np.float32)
    items = rng.standard_normal((ITEMS, DIM), dtype=np.float32)
    # lift the test pairs, so that the metrics are not all near 0
    np.add.at(users, test[:, 0], 0.3 * items[test[:, 1]])
    sides = [
        Dataset.build(user=p[:, 0], item=p[:, 1], users=args.users, items=ITEMS)
        for p in (train, test)
    ]
    split = Split(train=sides[0], test=sides[1], context=sides[0])
    evaluate(FactorModel(users, items), small(split), metrics=("ndcg@10",))  # compile
    print(f"{args.users} users, {ITEMS} items, {len(train)} train, {len(test)} test events")
    print(f"{'':<24}{'wall s':>9}{'cpu s':>9}{'no scoring':>12}{'recall@10':>11}{'ndcg@10':>9}")
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/factors.npz"
        np.savez(file, users=users, items=items, train=train, test=test)
        ways: dict[str, Callable[[], list[float]]] = {
            "product": lambda: product(users, items, args.threads),
            "m6rec, 2 metrics": lambda: ours(users, items, split, TWO, args.threads),
            "m6rec, 5 metrics": lambda: ours(users, items, split, FIVE, args.threads),
        }
        for name, python, code in (
            ("rectools", args.rectools, RECTOOLS),
            ("recbole, by 256", args.recbole, RECBOLE),
            ("recbole, by default", args.recbole, RECBOLE.replace(BATCH, "")),
        ):
            if Path(python).exists():
                ways[name] = lambda python=python, code=code: peer(python, code, file, args.threads)
            else:
                print(f"{name} is not measured: there is no {python}", file=sys.stderr)
        best: dict[str, list[float]] = {}
        for _ in range(args.repeats):
            for name, run in ways.items():
                wall, cpu, recall, ndcg, *rest = found = run()
                least = best.setdefault(name, found[:2])
                best[name] = [min(pair) for pair in zip(least, found, strict=False)]
                without = f"{rest[0]:>12.1f}" if rest else f"{'':>12}"
                print(f"{name:<24}{wall:>9.1f}{cpu:>9.1f}{without}{recall:>11.5f}{ndcg:>9.5f}")
    mine = best["m6rec, 2 metrics"]
    for name in [name for name in best if name != "product" and "m6rec" not in name]:
        wall, cpu = (a / b for a, b in zip(best[name], mine, strict=True))
        print(f"{name} / ours, best of each: wall {wall:.1f}, processor {cpu:.1f}")


def product(users: Floats, items: Floats, threads: int) -> list[float]:
    """The scores alone, in the same batches."""
    began = time.perf_counter(), time.process_time()
    with limited(threads):
        for at in range(0, len(users), 200):
            users[at : at + 200] @ items.T
    spent = time.perf_counter() - began[0], time.process_time() - began[1]
    return [*spent, float("nan"), float("nan")]


def ours(
    users: Floats, items: Floats, split: Split, metrics: tuple[str, ...], threads: int
) -> list[float]:
    model = FactorModel(users, items)
    began = time.perf_counter(), time.process_time()
    found = evaluate(model, split, metrics=metrics, run=Run(threads=threads))
    wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
    return [wall, cpu, found["recall@10"], found["ndcg@10"], wall - model.seconds]


def small(split: Split) -> Split:
    return Split(train=split.train, test=split.test.take(split.test.user < 50), context=split.train)


def peer(python: str, code: str, file: str, threads: int) -> list[float]:
    command = [python, "-c", code, file, str(threads)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        sys.exit(f"{python} failed: {ran.stderr.strip().splitlines()[-1]}")
    return [float(word) for word in ran.stdout.split()[-4:]]


if __name__ == "__main__":
    main()
