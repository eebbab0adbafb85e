"""PCT of one domain against implicit's ALS: time of a fit at equal NDCG@10, k = 64, in one run.

Usage: pct_speed.py [--peers PYTHON] [--rounds N] [--threads N]. 2.4 M synthetic interactions from
a low-rank taste with Zipf popularity; one interaction of every user is held out. Each side is
measured after every sweep, for each of a small grid of options; the options and the sweep count
where it is best are chosen by NDCG on 10,000 held-out interactions, and NDCG on 10,000 others is
reported. Then ``rounds`` curves of the chosen options are timed, interleaved: seconds to the side's
own best, and seconds to the first sweep that is as good as the other side's best. Both sides are
warm (compiled, threads started) before the clock starts. The peer runs in its own environment with
as many threads; seconds are of the wall and of the processor, since other work may share the
machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix, load_npz, save_npz

K, SWEEPS, TESTED = 64, 6, 20_000
GRID = {
    "ours": [(0.05, 1.0, 0.2), (0.7, 0.5, 0.2), (2.0, 0.5, 0.2), (2.0, 0.5, 0.1), (3.0, 0.5, 0.2),
             (1.0, 0.7, 0.2)],  # reg, nu, alpha
    "implicit, exact": [(30.0, 5.0), (100.0, 5.0), (100.0, 10.0)],  # regularization, alpha
    "implicit, cg": [(10.0, 5.0), (30.0, 5.0), (100.0, 5.0), (100.0, 10.0), (100.0, 20.0),
                     (200.0, 10.0)],
}  # fmt: skip
Curve = list[tuple[float, float, float, float]]  # after each sweep: wall, cpu, NDCG of both halves


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


def ours(train: csr_matrix, option: tuple, threads: int) -> list[tuple]:
    """A fit of each number of sweeps: there is no way to look into one."""
    from m6rec.data.dataset import Dataset
    from m6rec.models.pct import Pct
    from m6rec.models.transfer import Local
    from m6rec.tracking import Run

    user, item = train.nonzero()
    data = Dataset.build(user=user, item=item, users=train.shape[0], items=train.shape[1])
    assert data.matrix.nnz  # built before the clock starts, as the peer's matrix is
    reg, nu, alpha = option
    domains = {"items": Local(reg=reg, nu=nu, alpha=alpha)}
    run = Run(threads=threads)
    few = data.take(data.user < 500)
    Pct(dim=K, sweeps=1, domains=domains).fit(few, run).embed_query(few.query(np.arange(9)), 0)
    found = []
    for sweeps in range(1, SWEEPS + 1):
        began = time.perf_counter(), time.process_time()
        model = Pct(dim=K, sweeps=sweeps, domains=domains).fit(data, run)
        spent = time.perf_counter() - began[0], time.process_time() - began[1]
        users = model.embed_query(data.query(np.arange(TESTED)), 0)
        found.append((*spent, users, model.embed_items(0)))
    return found


def peer(train: csr_matrix, option: tuple, cg: bool, threads: int) -> list[tuple]:
    """One fit, looked into after each sweep; what looking costs is left out."""
    from implicit.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    reg, alpha = option

    def recipe(sweeps: int) -> AlternatingLeastSquares:
        return AlternatingLeastSquares(factors=K, regularization=reg, alpha=alpha, use_cg=cg,
                                       iterations=sweeps, num_threads=threads,
                                       random_state=0)  # fmt: skip

    found: list[tuple] = []
    spent = np.zeros(2)

    def look(*_: object) -> None:
        nonlocal spent, began
        spent = spent + np.array([time.perf_counter(), time.process_time()]) - began
        found.append((*spent, model.user_factors[:TESTED].copy(), model.item_factors.copy()))
        began = np.array([time.perf_counter(), time.process_time()])

    with threadpool_limits(1, "blas"):
        recipe(1).fit(train[:500], show_progress=False)
        model = recipe(SWEEPS)
        began = np.array([time.perf_counter(), time.process_time()])
        model.fit(train, show_progress=False, callback=look)
    return found


def worker(name: str, file: str, option: int, threads: int) -> None:
    train, item = held_out(csr_matrix(load_npz(file)))
    chosen = GRID[name][option]
    found = (
        ours(train, chosen, threads)
        if name == "ours"
        else peer(train, chosen, "cg" in name, threads)
    )
    half = TESTED // 2
    print(json.dumps([
        (wall, cpu, ndcg(users[:half], items, train[:half], item[:half]),
         ndcg(users[half:], items, train[half:TESTED], item[half:TESTED]))
        for wall, cpu, users, items in found
    ]))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", default="/tmp/p-implicit/bin/python", help="with implicit")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        worker(given.worker[0], given.worker[1], int(given.worker[2]), given.threads)
        return
    if not Path(given.peers).exists():
        sys.exit(f"{given.peers} is missing: `pip install implicit==0.7.3` in an environment, "
                 "and name its python with --peers")  # fmt: skip
    matrix = tastes()
    print(f"{matrix.shape[0]:,} users × {matrix.shape[1]:,} items, {matrix.nnz:,} interactions")
    with tempfile.TemporaryDirectory() as folder:
        save_npz(f"{folder}/matrix.npz", matrix)

        def once(name: str, option: int) -> Curve:
            python = sys.executable if name == "ours" else given.peers
            command = [python, __file__, "--worker", name, f"{folder}/matrix.npz", str(option),
                       "--threads", str(given.threads)]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            return json.loads(done.stdout)

        best = {}
        for name, grid in GRID.items():
            curves = [once(name, i) for i in range(len(grid))]
            best[name] = int(np.argmax([max(row[2] for row in curve) for curve in curves]))
        runs: dict[str, list[Curve]] = {name: [] for name in GRID}
        for _ in range(given.rounds):
            for name, i in best.items():
                runs[name].append(once(name, i))
    report(runs, best)


def report(runs: dict[str, list[Curve]], best: dict[str, int]) -> None:
    least = {name: np.min(curves, axis=0) for name, curves in runs.items()}  # (SWEEPS, 4)
    print("\nafter each sweep: wall s (cpu s) ndcg@10")
    for name, rows in least.items():
        print(f"{name}, {GRID[name][best[name]]}: "
              + "; ".join(f"{w:.1f} ({c:.1f}) {v:.4f}" for w, c, _, v in rows))  # fmt: skip
    print("\nto the own best, and to what is as good as the other side's best, by the holdout")
    top = {name: int(rows[:, 2].argmax()) for name, rows in least.items()}
    for name in [name for name in least if name != "ours"]:
        for here, there in (("ours", name), (name, "ours")):
            goal = least[there][top[there], 2]
            reached = np.flatnonzero(least[here][:, 2] >= goal)
            wall, cpu, _, value = least[there][top[there]]
            line = f"{there} at its best: {wall:.1f} s ({cpu:.1f}), {value:.4f}; {here} as good: "
            if len(reached):
                w, c, _, v = least[here][reached[0]]
                print(f"{line}{w:.1f} s ({c:.1f}), {v:.4f}; {here} / {there}: "
                      f"wall {w / wall:.2f}, processor {c / cpu:.2f}")  # fmt: skip
            else:
                print(f"{line}never in {SWEEPS} sweeps, {least[here][:, 3].max():.4f} at most")


if __name__ == "__main__":
    main()
