"""PCT of one domain against implicit's ALS: time of a fit and NDCG@10, k = 64, in the same run.

Usage: pct_speed.py [--peers PYTHON] [--rounds N]. 2.4 M synthetic interactions from a low-rank
taste with Zipf popularity; one interaction of every user is held out. Each side takes its best
of a small grid of options, by NDCG on 3,000 other held-out interactions; then ``rounds`` fits
are timed, interleaved. The peer runs in its own environment with the same two threads; seconds
are of the wall and of the processor, since other work may share the machine.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix, load_npz, save_npz

K, SWEEPS, TESTED = 64, 8, 6000
GRID = {
    "ours": [(0.05, 0.2), (0.2, 0.2), (0.2, 0.5)],  # reg, alpha
    "implicit, exact": [(0.05, 5.0), (1.0, 5.0), (1.0, 2.0)],  # regularization, alpha
}
GRID["implicit, cg"] = GRID["implicit, exact"]


def tastes(n_users: int = 60_000, n_items: int = 20_000, per_user: int = 42) -> csr_matrix:
    """Users of 40 tastes, items of 40 kinds, popularity by Zipf's law within each kind."""
    rng = np.random.default_rng(0)
    count = np.clip(rng.lognormal(np.log(per_user) - 0.2, 0.7, n_users), 4, 1000).astype(int)
    user = np.repeat(np.arange(n_users), count)
    mixture = rng.dirichlet(np.full(40, 0.08), n_users).cumsum(axis=1)
    kind = (mixture[user] < rng.random(len(user))[:, None]).sum(axis=1).clip(max=39)
    place = (500 * rng.random(len(user)) ** 2.5).astype(int)
    matrix = csr_matrix((np.ones(len(user), np.float32), (user, kind * 500 + place)),
                        (n_users, n_items))  # fmt: skip
    matrix.data[:] = 1
    return matrix


def held_out(matrix: csr_matrix) -> tuple[csr_matrix, np.ndarray]:
    """Return train, and one held-out item of every user (n_users,)."""
    rng = np.random.default_rng(1)
    start, size = matrix.indptr[:-1], np.diff(matrix.indptr)
    chosen = start + (rng.random(len(size)) * size).astype(int)
    keep = np.ones(matrix.nnz, np.bool_)
    keep[chosen] = False
    row = np.repeat(np.arange(len(size)), size)
    train = csr_matrix((matrix.data[keep], (row[keep], matrix.indices[keep])), matrix.shape)
    return train, matrix.indices[chosen]


def ndcg(users: np.ndarray, items: np.ndarray, train: csr_matrix, item: np.ndarray) -> float:
    """NDCG@10 of one held-out item for each of these user vectors; ties count against."""
    total = 0.0
    for at in range(0, len(users), 500):
        scores = users[at : at + 500] @ items.T
        level = np.take_along_axis(scores, item[at : at + 500, None], 1)
        seen = train[at : at + 500].nonzero()
        scores[seen] = -np.inf
        rank = (scores >= level).sum(axis=1).clip(min=1)
        total += np.where(rank <= 10, 1 / np.log2(rank + 1), 0).sum()
    return float(total / len(users))


def ours(train: csr_matrix, reg: float, alpha: float) -> tuple:
    from m6rec.data.dataset import Dataset
    from m6rec.models.pct import Pct
    from m6rec.models.transfer import Local
    from m6rec.tracking import Run

    user, item = train.nonzero()
    data = Dataset.build(user=user, item=item, users=train.shape[0], items=train.shape[1])
    assert data.matrix.nnz  # built before the clock starts, as the peer's matrix is
    recipe = Pct(dim=K, sweeps=SWEEPS, domains={"items": Local(reg=reg, nu=1.0, alpha=alpha)})
    began = time.perf_counter(), time.process_time()
    model = recipe.fit(data, Run())
    spent = time.perf_counter() - began[0], time.process_time() - began[1]
    return model.embed_query(data.query(np.arange(TESTED)), 0), model.embed_items(0), spent


def peer(train: csr_matrix, reg: float, alpha: float, cg: bool) -> tuple:
    from implicit.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(factors=K, regularization=reg, alpha=alpha, use_cg=cg,
                                        iterations=SWEEPS, num_threads=2)  # fmt: skip
        began = time.perf_counter(), time.process_time()
        model.fit(train, show_progress=False)
        spent = time.perf_counter() - began[0], time.process_time() - began[1]
    return model.user_factors[:TESTED], model.item_factors, spent


def worker(name: str, file: str, option: int) -> None:
    train, item = held_out(csr_matrix(load_npz(file)))
    reg, alpha = GRID[name][option]
    users, items, spent = (
        ours(train, reg, alpha) if name == "ours" else peer(train, reg, alpha, "cg" in name)
    )
    half = TESTED // 2
    print(*spent, ndcg(users[:half], items, train[:half], item[:half]),
          ndcg(users[half:], items, train[half:TESTED], item[half:TESTED]))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", default="/tmp/peers/bin/python", help="python with implicit")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        worker(given.worker[0], given.worker[1], int(given.worker[2]))
        return
    if not Path(given.peers).exists():
        sys.exit(f"{given.peers} is missing: `pip install implicit==0.7.3` in an environment, "
                 "and name its python with --peers")  # fmt: skip
    matrix = tastes()
    print(f"{matrix.shape[0]:,} users × {matrix.shape[1]:,} items, {matrix.nnz:,} interactions")
    with tempfile.TemporaryDirectory() as folder:
        save_npz(f"{folder}/matrix.npz", matrix)

        def once(name: str, option: int) -> list[float]:
            python = sys.executable if name == "ours" else given.peers
            command = [python, __file__, "--worker", name, f"{folder}/matrix.npz", str(option)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            return [float(word) for word in done.stdout.split()]

        best = {}
        for name, grid in GRID.items():
            found = [once(name, i)[2] for i in range(len(grid))]
            best[name] = int(np.argmax(found))
        runs: dict[str, list[list[float]]] = {name: [] for name in GRID}
        for _ in range(given.rounds):
            for name, i in best.items():
                runs[name].append(once(name, i))
    print(f"{'':18}{'options':>12}{'wall s (best, worst)':>24}{'cpu s (best)':>14}{'ndcg@10':>9}")
    for name, rows in runs.items():
        wall, cpu, _, value = np.array(rows).T
        print(f"{name:18}{GRID[name][best[name]]!s:>12}{wall.min():>14.1f}, {wall.max():<8.1f}"
              f"{cpu.min():>14.1f}{value[-1]:>9.4f}")  # fmt: skip
    ratio = min(r[0] for r in runs["ours"]) / min(r[0] for r in runs["implicit, exact"])
    print(f"ours / implicit exact, best wall: {ratio:.2f}")


if __name__ == "__main__":
    main()
