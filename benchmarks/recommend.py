"""Lists for all users, seen items excluded, beside implicit's ``recommend``, in the same run.

Usage: recommend.py [--rounds N] [--share S] [--threads N] [--peer PYTHON]. 60,000 users × 20,000
items with k = 64 and 30,000 × 40,000 with k = 128, lists of 10 and of 100; S < 1 takes that
share of the users. "Factors": both sides rank the same users and items, ours by ``rank``. "From
history": users are solved from what they had, by PCT as ``m6rec score`` does it, keys, titles and
data frames included, and by implicit with ``recalculate_user``. Seconds are of the wall and of the
processor, since other work may share the machine. Bar: implicit's time over ours at least 1.5.
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

from m6rec.arrays import Array, Floats
from m6rec.artifacts import Fitted
from m6rec.compiled import threads
from m6rec.data.dataset import Dataset
from m6rec.data.drops import Drops
from m6rec.data.prepare import Prepared
from m6rec.data.schema import DataConfig
from m6rec.models.pct import Pct
from m6rec.models.transfer import Local
from m6rec.rank import rank
from m6rec.recommender import Recommender
from m6rec.tracking import Run

SIZES = ((60_000, 20_000, 64), (30_000, 40_000, 128))  # users, items, k
DEPTHS = (10, 100)
PER_USER = 40
BATCH = 200  # users scored at once by ours

PEER = """
import sys, time
import numpy as np
from implicit.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits
d = np.load(sys.argv[1]); n, new = int(sys.argv[2]), sys.argv[3] == "True"
seen = csr_matrix((np.ones(len(d["item"]), np.float32), (d["user"], d["item"])),
                  (len(d["users"]), len(d["items"])))
model = AlternatingLeastSquares(factors=d["users"].shape[1], num_threads=int(sys.argv[4]))
model.user_factors, model.item_factors = d["users"], d["items"]
everybody = np.arange(len(d["users"]))
with threadpool_limits(1, "blas"):
    model.recommend(everybody[:50], seen[:50], N=n, recalculate_user=new)
    wall, cpu = time.perf_counter(), time.process_time()
    found = model.recommend(everybody, seen, N=n, recalculate_user=new)
    print(time.perf_counter() - wall, time.process_time() - cpu)
np.save(sys.argv[5], found[0])
"""


def seconds(began: tuple[float, float]) -> tuple[float, float]:
    return time.perf_counter() - began[0], time.process_time() - began[1]


def by_factors(data: Dataset, users: Floats, items: Floats, k: int) -> tuple[Array, float, float]:
    began = time.perf_counter(), time.process_time()
    found = []
    for at in range(0, len(users), BATCH):
        query = data.query(np.arange(at, min(at + BATCH, len(users))))
        found.append(rank(users[query.user] @ items.T, k, exclude=query.seen).items)
    return np.concatenate(found), *seconds(began)


def by_recommender(asked: Recommender, k: int) -> tuple[int, float, float]:
    began = time.perf_counter(), time.process_time()
    rows = sum(frame.height for frame in asked.export(k=k))
    return rows, *seconds(began)


def recommender(data: Dataset, dim: int, n_threads: int) -> Recommender:
    """A PCT of one sweep: what is timed is asking it."""
    recipe = Pct(dim=dim, sweeps=1, domains={"items": Local()})
    model = recipe.fit(data, Run(threads=n_threads))
    items = pl.DataFrame(
        {"key": data.items.keys, "domain": "items", "title": data.items.keys, "hidden": data.hidden}
    )
    users = data.users.keys.to_frame("key")
    prepared = Prepared(dataset=data, users=users, items=items, drops=Drops(), config=DataConfig())
    return Recommender(Fitted(model=model, prepared=prepared, twins=np.zeros(0, np.int32)))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--share", type=float, default=1.0)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--peer", default="/tmp/p-implicit/bin/python")
    given = options.parse_args()
    if not Path(given.peer).exists():
        sys.exit(f"{given.peer} is missing: `pip install implicit==0.7.3` in an environment, "
                 "and name its python with --peer")  # fmt: skip
    for n_users, n_items, dim in SIZES:
        measure(int(n_users * given.share), n_items, dim, given)


def measure(n_users: int, n_items: int, dim: int, given: argparse.Namespace) -> None:
    rng = np.random.default_rng(0)
    item = (n_items * rng.random(n_users * PER_USER) ** 3).astype(np.int64)
    user = np.repeat(np.arange(n_users), PER_USER)
    users = rng.standard_normal((n_users, dim), dtype=np.float32)
    items = rng.standard_normal((n_items, dim), dtype=np.float32)
    data = Dataset.build(user=user, item=item, users=n_users, items=n_items)
    asked = recommender(data, dim, given.threads)
    print(f"{n_users:,} users × {n_items:,} items, k = {dim}, {given.threads} threads")
    print(f"{'':28}{'ours, wall s (cpu s)':>24}{'implicit':>20}{'implicit / ours':>20}")
    with tempfile.TemporaryDirectory() as folder, threads(given.threads):
        file, lists = f"{folder}/factors.npz", f"{folder}/lists.npy"
        np.savez(file, users=users, items=items, user=user, item=item)

        def peer(k: int, anew: bool) -> tuple[float, float]:
            words = [PEER, file, str(k), str(anew), str(given.threads), lists]
            command = [given.peer, "-c", *words]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            wall, cpu = done.stdout.split()
            return float(wall), float(cpu)

        for k in DEPTHS:
            rank(users[:2] @ items.T, k)  # compiled before the clock starts
            for name, anew in (("factors", False), ("from history", True)):
                mine, theirs = [], []
                for _ in range(given.rounds):
                    found, *spent = (
                        by_recommender(asked, k) if anew else by_factors(data, users, items, k)
                    )
                    mine.append(spent)
                    theirs.append(peer(k, anew))
                ours, other = np.min(mine, axis=0), np.min(theirs, axis=0)
                same = "" if anew else f"  {(found == np.load(lists)).mean():.2%} of places equal"
                print(f"{f'lists of {k}, {name}':28}{ours[0]:>15.1f} ({ours[1]:.1f})"
                      f"{other[0]:>14.1f} ({other[1]:.1f})"
                      f"{other[0] / ours[0]:>12.2f} ({other[1] / ours[1]:.2f}){same}")  # fmt: skip


if __name__ == "__main__":
    main()
