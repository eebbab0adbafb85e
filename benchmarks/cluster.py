"""PCT on a Ray cluster against one process: what differs, what it costs, and what a loss costs.

Usage: cluster.py [SET] [--machines N] [--dim K] [--sweeps N] [--rounds N]. SET: lastfm, ml1m,
douban or amazon3. The cluster is simulated: N machines of one core each, on this one. Fixed
options, so that every fit does the same work. One process of N threads and the cluster fit in
turn, ``rounds`` times; then the cluster fits once more and loses a machine half-way. Seconds are
of the wall; on a machine that does other work they mean nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from typing import Any

import datasets
import numpy as np
import ray
from ray.cluster_utils import Cluster

from m6rec.cluster.nodes import RayPool
from m6rec.data.splits import Split
from m6rec.evaluation import evaluate
from m6rec.models.base import Model
from m6rec.models.pct import Pct
from m6rec.models.transfer import Local
from m6rec.pool import Pool
from m6rec.tracking import Run

SETS: dict[str, Callable[[], Split]] = {
    "lastfm": datasets.lastfm,
    "ml1m": datasets.ml1m,
    "douban": lambda: datasets.douban(0)[0],
    "amazon3": datasets.amazon3,
}


class Losing:
    """The pool, which loses a machine before its n-th call of ``map``."""

    def __init__(self, pool: Pool, cluster: Cluster, n: int) -> None:
        self.pool, self.cluster, self.left, self.size = pool, cluster, n, pool.size

    def share(self, value: Any) -> Any:
        return self.pool.share(value)

    def map(self, function: Callable[..., Any], pieces: Iterable[tuple[Any, ...]]) -> Any:
        self.left -= 1
        if self.left == 0:
            self.cluster.remove_node(list(self.cluster.worker_nodes)[-1], allow_graceful=False)
        return self.pool.map(function, pieces)


def timed(recipe: Pct, split: Split, run: Run) -> tuple[float, Model]:
    start = time.perf_counter()
    model = recipe.fit(split.train, run)
    return time.perf_counter() - start, model


def differ(a: Model, b: Model) -> float:
    """The greatest difference of an array, in units of its greatest number."""
    pairs = ((value, b.state()[name]) for name, value in a.state().items() if value.size)
    return max(float(np.abs(x - y).max() / max(np.abs(x).max(), 1e-9)) for x, y in pairs
               if x.dtype.kind == "f")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", nargs="?", choices=SETS, default="lastfm")
    parser.add_argument("--machines", type=int, default=2)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--sweeps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    split = SETS[given.set]()
    names = [d.name for d in split.train.domains]
    domains = {t: Local(omega={s: 0.3 for s in names if s != t}) for t in names}
    recipe = Pct(dim=given.dim, sweeps=given.sweeps, attributes=False, domains=domains)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    for _ in range(given.machines - 1):
        cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    here = Run(threads=given.machines)
    there = Run(threads=given.machines, pool=RayPool())
    print(f"{given.set}: {len(split.train):,} events, {split.train.n_users:,} users,"
          f" {split.train.n_items:,} items; {given.machines} machines")  # fmt: skip
    for _ in range(given.rounds):
        alone, (one, found) = timed(recipe, split, here), timed(recipe, split, there)
        print(f"fit: one process {alone[0]:.1f} s, cluster {one:.1f} s")
    print(f"greatest difference of the model's arrays: {differ(alone[1], found):.1e}")
    start = time.perf_counter()
    wanted = evaluate(alone[1], split, run=here)
    middle = time.perf_counter()
    measured = evaluate(found, split, run=there)
    end = time.perf_counter()
    print(f"evaluation: one process {middle - start:.1f} s, cluster {end - middle:.1f} s")
    for metric in wanted.metrics:
        a, b = wanted[metric], measured[metric]
        print(f"{metric}: one process {a:.6f}, cluster {b:.6f}, difference {b - a:+.1e}")
    calls = len(names) * 2 * given.sweeps
    losing = Losing(there.pool, cluster, calls)
    seconds, late = timed(recipe, split, Run(threads=given.machines, pool=losing))
    print(f"with a machine lost half-way: {seconds:.1f} s, difference {differ(alone[1], late):.1e}")
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
