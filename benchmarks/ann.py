"""Approximate search: how much of the exact list is found, and how long a request takes.

    python benchmarks/ann.py vectors [--items 1000000] [--hnsw]
    python benchmarks/ann.py run DIR [--users 100]
    python benchmarks/ann.py engine DIR [--users 100]
    python benchmarks/ann.py fused [--items 1000000] [--out /tmp/m6rec-ann]

vectors: faiss's IVF and HNSW against an exact scan, on made-up vectors of 64 numbers: 2,000 tastes,
lengths as of popularity, users of three tastes. run: a saved run of kind `m6rec`; of its users'
exact best 100, what share is among N candidates, and what a request costs, exactly and with N.
engine: what a request costs inside the service, exactly and with the number of candidates that
it chooses. fused: a made-up fused run of so many items (PCT, graph filter, window and popularity,
options given), then as run. Times are ms of this process's CPU on one thread, the sides in turn.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from serve import events

import m6rec
from m6rec.candidates.shortlist import Shortlist, recalls
from m6rec.compiled import threads
from m6rec.models.rounded import Rounded
from m6rec.rank import rank
from m6rec.recommender import Recommender
from m6rec.serving.asks import Ask
from m6rec.serving.engine import Engine
from m6rec.store import Store

DIM, TASTES, ASKED, K = 64, 2000, 100, 100
SIZES = (200, 500, 1000, 2000, 5000)


def vectors(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return items (n, DIM) and requests (ASKED, DIM)."""
    rng = np.random.default_rng(seed)
    tastes = rng.standard_normal((TASTES, DIM), dtype=np.float32) / np.sqrt(DIM)
    size = rng.lognormal(-0.5, 0.6, n).astype(np.float32)
    items = tastes[rng.integers(TASTES, size=n)]
    items += 0.7 / np.sqrt(DIM) * rng.standard_normal((n, DIM), dtype=np.float32)
    likes = rng.integers(TASTES, size=(ASKED, 3))
    asked = tastes[likes].mean(axis=1)
    asked += 0.3 / np.sqrt(DIM) * rng.standard_normal((ASKED, DIM), dtype=np.float32)
    return items * size[:, None], asked.astype(np.float32)


def timed(search: Callable[[np.ndarray], np.ndarray], asked: np.ndarray) -> tuple[list, float]:
    """Return what each request found, and the median of the ms of CPU."""
    found, took = [], []
    for one in asked:
        began = time.process_time()
        found.append(search(one[None]))
        took.append(1e3 * (time.process_time() - began))
    return found, float(np.median(took))


def best(scores: np.ndarray, k: int = K) -> np.ndarray:
    return np.argpartition(-scores, k)[:k]


def of_vectors(n: int, hnsw: bool) -> None:
    """Print the table of recall and latency."""
    import faiss

    faiss.omp_set_num_threads(1)
    items, asked = vectors(n)
    exact, ms = timed(lambda q: best(items @ q[0]), asked)
    print(f"| exact, float32 | | 1 | {ms:.2f} | 0 |", flush=True)

    def row(name: str, option: str, search: Callable, built: float) -> None:
        found, ms = timed(search, asked)
        pairs = zip(exact, found, strict=True)
        recall = np.mean([np.isin(wanted, got).mean() for wanted, got in pairs])
        print(f"| {name} | {option} | {recall:.4f} | {ms:.2f} | {built:.0f} |", flush=True)

    began = time.process_time()
    rounded = Rounded.of(items)
    group, none, all_ = np.zeros(n, np.int16), np.zeros((1, 1), np.float32), np.arange(n)

    def scan(q: np.ndarray) -> np.ndarray:
        out = np.zeros((1, n), np.float32)
        rounded.add_by_group(q[None], none, group, all_, out)
        return best(out[0])

    scan(asked[:1])
    row("scan of one byte a number", "", scan, time.process_time() - began)
    n_lists = int(2 * np.sqrt(n))
    for name, kind in (("IVF, float32", None), ("IVF, 8 bits", faiss.ScalarQuantizer.QT_8bit)):
        began = time.process_time()
        coarse = faiss.IndexFlatIP(DIM)
        inner = faiss.METRIC_INNER_PRODUCT
        if kind is None:
            index = faiss.IndexIVFFlat(coarse, DIM, n_lists, inner)
        else:
            index = faiss.IndexIVFScalarQuantizer(coarse, DIM, n_lists, kind, inner)
        index.cp.niter = 10
        index.train(items[:: max(1, n // (40 * n_lists))])
        index.add(items)
        built = time.process_time() - began
        for nprobe in (32, 128, 256, 512, 1024):
            index.nprobe = nprobe
            row(
                name, f"{nprobe} of {n_lists} lists", lambda q, i=index: i.search(q, K)[1][0], built
            )
    if hnsw:
        began = time.process_time()
        graph = faiss.IndexHNSWFlat(DIM, 32, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = 100
        graph.add(items)
        built = time.process_time() - began
        for width in (100, 200, 400, 800):
            graph.hnsw.efSearch = width
            search = lambda q: graph.search(q, K)[1][0]  # noqa: E731
            row("HNSW, M = 32", f"efSearch {width}", search, built)


def of_run(asked: Recommender, n_users: int) -> None:
    """Print recall and the CPU of a request, exact and with candidates."""
    model, data = asked.model, asked.dataset
    began = time.process_time()
    made = Shortlist.of(model, data, SIZES[-1])
    if made is None:
        raise SystemExit("this run is no blend of rankings")
    print(f"{data.n_items:,} items; built in {time.process_time() - began:.1f} s", flush=True)
    users = np.random.default_rng(5).permutation(np.unique(data.user))[:n_users]
    query = data.query(users)
    allowed = ~data.hidden
    print("recall of the exact best 100 by candidates:")
    for n, recall in zip(SIZES, recalls(model, made, query, allowed, SIZES), strict=True):
        print(f"| {n:,} | {recall:.4f} |", flush=True)
    sides: dict[str, Callable] = {"exact": lambda q: model.score(q)}
    for n in SIZES:
        short = Shortlist(made.sketch, n, made.lists)
        sides[f"{n:,} candidates"] = lambda q, s=short: s.scores(model, q, 10, allowed, q.seen)
    took: dict[str, list[float]] = {name: [] for name in sides}
    for row in range(min(60, n_users)):
        one = query.take([row])
        for name, score in sides.items():
            began = time.process_time()
            rank(score(one), 10, exclude=one.seen, allowed=allowed)
            took[name].append(1e3 * (time.process_time() - began))
    print("ms of CPU for one request, scores and list: median, least, 95 %")
    for name, ms in took.items():
        low = np.percentile(ms[3:], [50, 0, 95])
        print(f"| {name} | {low[0]:.2f} | {low[1]:.2f} | {low[2]:.2f} |", flush=True)


def of_engine(path: Path, n_users: int) -> None:
    """Print the CPU of a request in the engine, exact and with candidates, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(f"sqlite:///{folder}/engine.db")
        engines = {}
        for name, candidates in (("exact", 0), ("auto", "auto")):
            began = time.process_time()
            engines[name] = Engine(store, path, candidates=candidates)
            print(f"{name}: opened in {time.process_time() - began:.1f} s of CPU", flush=True)
        data = engines["auto"].live.recommender
        short = data.shortlist
        if short is not None:
            print(f"{short.n} candidates, recall of the exact best 100: {short.recall:.4f}")
        keys = data.dataset.users.keys.sample(n_users, seed=0).to_list()
        took: dict[str, list[float]] = {name: [] for name in engines}
        for key in keys:
            for name, engine in engines.items():
                began = time.process_time()
                engine.recommend([Ask(user=key, k=10, explain=False)])
                took[name].append(1e3 * (time.process_time() - began))
        for name, ms in took.items():
            low = np.percentile(ms[5:], [50, 0, 95])
            print(f"| {name} | {low[0]:.2f} | {low[1]:.2f} | {low[2]:.2f} |", flush=True)
        for engine in engines.values():
            engine.close()
        store.close()


def fused(n_items: int, out: Path) -> Recommender:
    """Fit a made-up fused run with given options, ten events an item, and keep it."""
    path = out / f"fused-{n_items}"
    if path.exists():
        return Recommender.open(path)
    local = {"reg": 0.05, "nu": 1.0, "alpha": 0.2}
    both = {"even": local, "odd": local}
    parts = [
        {"kind": "pct", "sweeps": 3, "domains": both, "transfer": False},
        {"kind": "graph", "sweeps": 1, "scope": "auto", "sources": {name: [] for name in both}},
        {"kind": "window"},
        {"kind": "popular"},
    ]
    weights = {name: ((0.4, 0.3, 0.1, 0.2),) * 4 for name in both}
    frame = events(n_items // 2, n_items, 10 * n_items)
    run = m6rec.fit(frame, model={"kind": "m6rec", "parts": parts, "weights": weights})
    run.save(path)
    return run


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["vectors", "run", "engine", "fused"])
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--hnsw", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("/tmp/m6rec-ann"))
    options = parser.parse_args()
    if options.what == "vectors":
        with threads(1):
            of_vectors(options.items, options.hnsw)
    elif options.what == "engine":
        with threads(1):
            of_engine(options.run, options.users)
    else:
        made_up = options.what == "fused"
        opened = fused(options.items, options.out) if made_up else Recommender.open(options.run)
        with threads(1):
            of_run(opened, options.users)
