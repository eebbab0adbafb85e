"""How time and memory grow with interactions, and time with the number of domains.

    python benchmarks/growth.py sizes [--millions 1 5 20] [--stages pct graph …] [--threads 2]
        [--out FILE.jsonl]
    python benchmarks/growth.py domains [--domains 2 5 10 20] [--users 5000] [--out FILE.jsonl]
        [--models pct fused graph neighbours linear]

sizes: made-up interactions of users with three tastes of forty, popularity by Zipf's law; 40
interactions a user and 100 an item, so that users and items grow in proportion. Each stage runs in
a fresh process: prepare (Parquet of string keys → Dataset), pct (k = 64, 8 sweeps, options given),
graph (dim 448), neighbours (items, k = 100), evaluate (2,000 users by PCT, full ranking; all users
would be users × items). domains: the same number of events in each, all of the same users with one
taste; choice of options and ω, and the fit; of graph, neighbours and linear the fit alone, without
sources.
Exponents are slopes of log processor seconds on log size; the processor's seconds, since other work
may share the machine (there, --threads 1: threads that wait for each other spin). --out keeps the
figures, and what is there is not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PER_USER, PER_ITEM, KINDS = 40, 100, 40
STAGES = ("prepare", "pct", "graph", "neighbours", "evaluate")
BY_DOMAIN = ("pct", "fused", "graph", "neighbours", "linear")
TESTED = 2000
THREADS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")


def tastes(n: int, n_users: int, n_items: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """n interactions: users sorted (n,) int32, and items (n,) int32."""
    rng = np.random.default_rng([seed, n])
    user = np.sort((rng.random(n, dtype=np.float32) ** 1.5 * n_users).astype(np.int32))
    liked = np.random.default_rng(1).integers(0, KINDS, (n_users, 3)).astype(np.int32)
    kind = liked[user, rng.choice(3, n, p=(0.6, 0.25, 0.15))]
    each = n_items // KINDS  # of a kind, the first are most popular
    place = np.exp(rng.random(n, dtype=np.float32) * np.log(each + 1)).astype(np.int32) - 1
    return user.clip(max=n_users - 1), kind * each + place.clip(0, each - 1)


def dataset(n: int):  # type: ignore[no-untyped-def]
    from m6rec.data.dataset import Dataset

    n_users, n_items = n // PER_USER, n // PER_ITEM
    user, item = tastes(n, n_users, n_items)
    data = Dataset.build(user=user, item=item, users=n_users, items=n_items)
    assert data.matrix.nnz and data.positives.nnz  # built before the clock starts
    return data


def measure(stage: str, n: int, parquet: str) -> dict[str, float]:
    """Run one stage in this process."""
    from m6rec.tracking import Run

    run = Run(threads=int(os.environ[THREADS[0]]))
    if stage == "prepare":
        from m6rec import config
        from m6rec.data.prepare import prepare
        from m6rec.data.schema import DataConfig

        path = Path(parquet)
        table = {"interactions": path.name}
        given = config.from_table(DataConfig, table, "data")
        before, wall, cpu = peak(), time.perf_counter(), time.process_time()
        prepare(given, path.parent, run)
        return figures(before, wall, cpu)

    from m6rec.data.dataset import Dataset
    from m6rec.data.splits import Split
    from m6rec.evaluation import evaluate
    from m6rec.models.graph import Graph
    from m6rec.models.neighbours import Neighbours
    from m6rec.models.pct import Pct
    from m6rec.models.transfer import Local

    pct = Pct(domains={"items": Local(reg=0.2, nu=1.0, alpha=0.2)})
    small = dataset(20_000)
    for recipe in (pct, Graph(), Neighbours()):  # compiles
        evaluate(
            recipe.fit(small, run),
            Split(train=small, test=small.take(small.user < 5), context=small),
        )
    data = dataset(n)
    if stage == "evaluate":
        model = Pct(sweeps=1, domains=pct.domains).fit(data, run)
        mine = np.random.default_rng(2).permutation(data.n_users)[:TESTED]
        rows = np.isin(data.user, mine)
        held = rows & (np.random.default_rng(3).random(len(data)) < 0.2)
        split = Split(train=data, test=data.take(held), context=data.take(rows & ~held))
        before, wall, cpu = peak(), time.perf_counter(), time.process_time()
        evaluate(model, split, metrics=("ndcg@10",), by=(), run=run)
        return figures(before, wall, cpu)
    recipe = {"pct": pct, "graph": Graph(), "neighbours": Neighbours()}[stage]
    before, wall, cpu = peak(), time.perf_counter(), time.process_time()
    model = recipe.fit(data, run)
    found = figures(before, wall, cpu)
    assert isinstance(data, Dataset) and model is not None
    return found


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def figures(before: float, wall: float, cpu: float) -> dict[str, float]:
    """gb: peak of the process; before: its peak when the clock started, with the data in it."""
    return {
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
        "gb": peak(),
        "before": before,
    }


def domains(n_domains: int, n_users: int, model: str) -> dict[str, float]:
    """Choose and fit over domains of 20 events a user each."""
    from m6rec.data.dataset import Dataset
    from m6rec.data.schema import Domain
    from m6rec.models.base import Recipe
    from m6rec.models.default import M6Rec
    from m6rec.models.pct import Pct
    from m6rec.tracking import Run

    each, run = 1000, Run(threads=int(os.environ[THREADS[0]]))

    def made_up(d: int, users: int) -> Dataset:
        parts = [tastes(20 * users, users, each, seed) for seed in range(d)]
        return Dataset.build(
            user=np.concatenate([u for u, _ in parts]),
            item=np.concatenate([i + each * s for s, (_, i) in enumerate(parts)]),
            users=users,
            items=each * d,
            domains=tuple(Domain(name=f"d{s}") for s in range(d)),
            item_domain=np.repeat(np.arange(d), each),
        )

    def recipe(data: Dataset) -> Recipe:
        if model == "fused":
            return M6Rec(deep=False)
        if model == "pct":
            return Pct()
        alone: dict[str, list[str]] = {d.name: [] for d in data.domains}
        return Recipe.from_table({"kind": model, "scope": "auto", "sources": alone})

    few, data = made_up(2, 100), made_up(n_domains, n_users)
    recipe(few).fit(few, run)  # compiles
    before, wall, cpu = peak(), time.perf_counter(), time.process_time()
    recipe(data).fit(data, run)
    return figures(before, wall, cpu)


class Kept:
    """Figures by (what, size), in a file of JSON lines."""

    def __init__(self, file: Path | None, threads: int) -> None:
        self.file, self.threads, self.found = file, str(threads), {}
        if file and file.exists():
            lines = map(json.loads, file.read_text().splitlines())
            self.found = {(line["what"], line["size"]): line for line in lines}

    def get(self, what: str, size: int, arguments: list[str]) -> dict[str, float]:
        if (what, size) not in self.found:
            command = [sys.executable, __file__, "measure", *arguments]
            here = os.environ | dict.fromkeys(THREADS, self.threads)
            done = subprocess.run(command, capture_output=True, text=True, env=here)
            if done.returncode:
                print(f"{what} at {size:,}: {done.stderr.strip().splitlines()[-1]}", flush=True)
                return {}
            line = {"what": what, "size": size, **json.loads(done.stdout)}
            self.found[what, size] = line
            if self.file:
                with self.file.open("a") as out:
                    out.write(json.dumps(line) + "\n")
        return self.found[what, size]


def show(kept: Kept, whats: list[str], sizes: list[int], arguments) -> None:  # type: ignore[no-untyped-def]
    print("| | " + " | ".join(f"{n:,}" for n in sizes) + " | exponent |")
    print("|---|" + "---|" * (len(sizes) + 1), flush=True)
    for what in whats:
        rows = [(n, kept.get(what, n, arguments(what, n))) for n in sizes]
        known = [(n, row) for n, row in rows if row]
        cells = [
            f"{r['cpu']:.1f} s cpu, {r['wall']:.1f} s, {r['gb']:.2f} GB" if r else "–"
            for _, r in rows
        ]
        slope = "–"
        if len(known) > 1:
            logs = [np.log([float(n) for n, _ in known]), np.log([r["cpu"] for _, r in known])]
            steps = np.diff(logs[1]) / np.diff(logs[0])
            slope = f"{np.polyfit(*logs, 1)[0]:.2f} (steps {', '.join(f'{s:.2f}' for s in steps)})"
        print(f"| {what} | " + " | ".join(cells) + f" | {slope} |", flush=True)


def write_parquet(path: Path, n: int) -> None:
    import polars as pl

    user, item = tastes(n, n // PER_USER, n // PER_ITEM)
    times = 1_600_000_000 + np.random.default_rng(4).integers(0, 94_608_000, n)
    frame = pl.DataFrame({"user_id": user, "item_id": item, "timestamp": times})
    frame.with_columns(
        user_id=pl.format("u{}", "user_id"), item_id=pl.format("i{}", "item_id")
    ).write_parquet(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("sizes", "domains", "measure"))
    parser.add_argument("more", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--millions", nargs="+", type=float, default=[1, 5, 20])
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--domains", nargs="+", type=int, default=[2, 5, 10, 20])
    parser.add_argument("--models", nargs="+", choices=BY_DOMAIN, default=list(BY_DOMAIN))
    parser.add_argument("--users", type=int, default=5000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.what == "measure":
        stage, size, last = given.more
        found = (
            domains(int(size), int(last), stage.removesuffix("-domains"))
            if stage.endswith("-domains")
            else measure(stage, int(size), last)
        )
        print(json.dumps(found))
        return
    kept = Kept(given.out, given.threads)
    if given.what == "domains":
        names = [f"{m}-domains" for m in given.models]
        show(kept, names, given.domains, lambda m, d: [m, str(d), str(given.users)])
        return
    with tempfile.TemporaryDirectory() as folder:

        def arguments(stage: str, n: int) -> list[str]:
            path = Path(folder) / f"{n}.parquet"
            if stage == "prepare" and not path.exists():
                write_parquet(path, n)
            return [stage, str(n), str(path)]

        show(kept, given.stages, [int(m * 1e6) for m in given.millions], arguments)


if __name__ == "__main__":
    main()
