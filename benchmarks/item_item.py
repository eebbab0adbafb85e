"""Item-item cosine, top 100, on 50k users × 40k items, against the peers in the same run.

Usage: item_item.py [--peers PYTHON] [--lenskit PYTHON] [--rounds N]. The peers run in
environments of their own (implicit and lenskit want different numpy), with the same two threads;
the item kNN of rectools is that of implicit.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array, csr_matrix, load_npz, save_npz

K = 100
PEERS = ("implicit", "lenskit")


def zipf(n_users: int = 50_000, n_items: int = 40_000, per_user: int = 50) -> csr_matrix:
    """About 2.4 M distinct interactions: items by Zipf's law, users by a log-normal one."""
    rng = np.random.default_rng(0)
    count = np.clip(rng.lognormal(np.log(per_user) - 0.32, 0.8, n_users), 3, 2_000).astype(int)
    user = np.repeat(np.arange(n_users), count)
    chance = 1 / (np.arange(n_items) + 10.0) ** 0.9
    item = rng.permutation(n_items)[rng.choice(n_items, len(user), p=chance / chance.sum())]
    matrix = csr_matrix((np.ones(len(user), np.float32), (user, item)), (n_users, n_items))
    matrix.data[:] = 1
    return matrix


def ours(matrix: csr_matrix) -> object:
    from m6rec.models.kernels import transposed
    from m6rec.models.rankings import similarities

    return similarities(transposed(csr_array(matrix)), "cosine", K)


def implicit(matrix: csr_matrix) -> object:
    from implicit.nearest_neighbours import CosineRecommender

    model = CosineRecommender(K=K + 1)  # it counts the item itself
    model.fit(matrix, show_progress=False)
    return model.similarity


def lenskit(matrix: csr_matrix) -> object:
    from lenskit.data import from_interactions_df
    from lenskit.knn import ItemKNNScorer
    from pandas import DataFrame

    rows = matrix.tocoo()
    data = from_interactions_df(DataFrame({"user_id": rows.row, "item_id": rows.col}))
    model = ItemKNNScorer(max_nbrs=K, save_nbrs=K, feedback="implicit")

    def fit() -> object:
        model.train(data)
        return model

    return fit


def timed(name: str, matrix: csr_matrix, rounds: int) -> list[float]:
    """Seconds of each round, after one that warms up."""
    seconds = []
    work = {"ours": ours, "implicit": implicit, "lenskit": lenskit}[name]
    fit = work(matrix) if name == "lenskit" else None
    for _ in range(rounds + 1):
        start = time.perf_counter()
        work(matrix) if fit is None else fit()
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", default="/tmp/peers/bin/python", help="python with implicit")
    parser.add_argument("--lenskit", default="/tmp/lk/bin/python", help="python with lenskit")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        name, file = options.worker
        print(*timed(name, csr_matrix(load_npz(file)), options.rounds))
        return
    pythons = {"ours": sys.executable, "implicit": options.peers, "lenskit": options.lenskit}
    for name in PEERS:
        if not Path(pythons[name]).exists():
            sys.exit(
                f"{pythons[name]} is missing: make an environment with {name} in it "
                "and name its python (see --help)"
            )
    matrix = zipf()
    print(f"{matrix.shape[0]:,} users × {matrix.shape[1]:,} items, {matrix.nnz:,} interactions")
    results: dict[str, list[float]] = {name: [] for name in ("ours", *PEERS)}
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/matrix.npz"
        save_npz(file, matrix)
        for _ in range(2):  # interleaved, so that a busy machine hits all alike
            for name in results:
                command = [pythons[name], __file__, "--worker", name, file]
                command += ["--rounds", str(options.rounds)]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    print(f"{name}: failed: {done.stderr.strip().splitlines()[-1]}")
                    continue
                results[name] += [float(word) for word in done.stdout.split()]
    best = {name: min(times) for name, times in results.items() if times}
    peer = min((best[name], name) for name in best if name != "ours")
    print(f"{'':12}{'best s':>9}{'median':>9}{'worst':>9}{'ours / it':>11}")
    for name, times in results.items():
        if times:
            median, worst = statistics.median(times), max(times)
            ratio = best["ours"] / best[name]
            print(f"{name:12}{best[name]:9.2f}{median:9.2f}{worst:9.2f}{ratio:11.2f}")
    print(f"ours / fastest peer ({peer[1]}): {best['ours'] / peer[0]:.2f}")


if __name__ == "__main__":
    main()
