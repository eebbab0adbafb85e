"""How fast the event store takes and gives events, and whether kill −9 loses any.

    python benchmarks/store.py [--databases sqlite,postgresql] [--rounds 5] [--seconds 2] [--kill N]

Each database first gets a run of 200,000 events of 20,000 users on 10,000 items. Then, in every
round: batches of 1,000 events with idempotency keys, one after another, while another thread reads
histories as recommendations do, 300 a second; posts of one event each from 16 threads; histories
of random users with nothing else going on. A rate is the median of the rounds, with the least and
the greatest. With --kill, a process that posts from four threads is killed N times instead, and
what it had acknowledged is looked for. PostgreSQL is that of M6REC_TEST_POSTGRES, in a schema of
its own; pin the process with taskset to say how many cores there are.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import polars as pl

from m6rec.data.dataset import Dataset
from m6rec.data.vocab import Vocab
from m6rec.store import Event, Store

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
os.environ.setdefault("M6REC_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/test")
from killing import kill
from stores import place

USERS, ITEMS, EVENTS = 20_000, 10_000, 200_000
BATCH, THREADS, READS = 1_000, 16, 300  # events, posting threads, histories a second
NOW = 1_700_000_000_000_000


def run(n: int, seed: int = 0) -> SimpleNamespace:
    """A run that knows n events."""
    rng = np.random.default_rng(seed)
    data = Dataset.build(
        user=rng.integers(0, USERS, n),
        item=rng.integers(0, ITEMS, n),
        users=Vocab([f"user-{i}" for i in range(USERS)]),
        items=Vocab([f"{'films' if i % 2 else 'books'}/item-{i}" for i in range(ITEMS)]),
        time=rng.integers(1_500_000_000, 1_600_000_000, n),
    )
    items = pl.DataFrame({"key": data.items.keys, "title": "A title", "hidden": False})
    users = pl.DataFrame({"key": data.users.keys, "age": rng.integers(18, 80, USERS)})
    return SimpleNamespace(prepared=SimpleNamespace(dataset=data, users=users, items=items))


class Source:
    """Random new events with keys."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.name, self.n = f"{seed}-{os.urandom(4).hex()}", 0

    def take(self, n: int) -> list[Event]:
        users, items = (self.rng.integers(0, top, n).tolist() for top in (USERS, ITEMS))
        self.n += n
        return [
            Event(
                user=f"user-{user}",
                item=f"{'films' if item % 2 else 'books'}/item-{item}",
                type="view",
                time=NOW + self.n,
                key=f"{self.name}-{self.n}-{place}",
            )
            for place, (user, item) in enumerate(zip(users, items, strict=True))
        ]


def rate(seconds: float, step: Callable[[], int]) -> float:
    """How many a second the steps do."""
    start, done = time.perf_counter(), 0
    while time.perf_counter() < start + seconds:
        done += step()
    return done / (time.perf_counter() - start)


def histories(store: Store, going: Callable[[], bool], pause: float) -> list[float]:
    """Seconds that each history took, as long as it goes on."""
    rng, taken = np.random.default_rng(1), []
    while going():
        user = f"user-{rng.integers(USERS)}"
        start = time.perf_counter()
        store.history(user, 2 * NOW, limit=200)
        taken.append(time.perf_counter() - start)
        time.sleep(max(0.0, pause - taken[-1]))
    return taken


def batches(store: Store, seconds: float, seed: int) -> tuple[float, float, list[float]]:
    """Events a second in batches, the share of a core that this process had for them, and what
    histories took meanwhile."""
    source, stop, taken = Source(seed), threading.Event(), []
    reader = threading.Thread(
        target=lambda: taken.extend(histories(store, lambda: not stop.is_set(), 1 / READS))
    )
    reader.start()
    start, cpu = time.perf_counter(), time.process_time()
    found = rate(seconds, lambda: store.add_events(source.take(BATCH)))
    share = (time.process_time() - cpu) / (time.perf_counter() - start)
    stop.set()
    reader.join()
    return found, share, taken


def posts(store: Store, seconds: float, seed: int) -> float:
    """Events a second, one in a post, of all threads."""
    rates: list[float] = []

    def work(thread: int) -> None:
        source = Source(1000 * seed + thread)
        rates.append(rate(seconds, lambda: store.add_events(source.take(1))))

    workers = [threading.Thread(target=work, args=(i,)) for i in range(THREADS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(rates)


def spread(values: list[float]) -> str:
    return f"{np.median(values):8,.0f} ({min(values):,.0f} to {max(values):,.0f})"


def quantiles(seconds: list[float]) -> str:
    p50, p99 = np.quantile(seconds, (0.5, 0.99)) * 1e3
    return f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, of {len(seconds):,}"


def measure(name: str, url: str, rounds: int, seconds: float) -> None:
    store = Store.open(url)
    start = time.perf_counter()
    store.import_run(run(EVENTS))  # type: ignore[arg-type]
    print(f"{name}: {EVENTS:,} events of a run imported in {time.perf_counter() - start:.1f} s")
    in_batches, shares, singly, during, alone = [], [], [], [], []
    for seed in range(rounds):
        found, share, taken = batches(store, seconds, seed)
        in_batches.append(found)
        shares.append(100 * share)
        during += taken
        singly.append(posts(store, seconds, seed))
        end = time.perf_counter() + seconds
        alone += histories(store, lambda end=end: time.perf_counter() < end, 0)
    print(f"{name}: events/s in batches of {BATCH:,}   {spread(in_batches)}")
    print(f"{name}: … with so many % of a core    {spread(shares)}")
    print(f"{name}: events/s from {THREADS} threads, one each {spread(singly)}")
    print(f"{name}: history, during batches  {quantiles(during)}")
    print(f"{name}: history, alone           {quantiles(alone)}")
    store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--databases", default="sqlite,postgresql")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--kill", type=int, default=0, metavar="N")
    given = parser.parse_args()
    for name in given.databases.split(","):
        with TemporaryDirectory() as folder, place(name, Path(folder)) as url:
            if given.kill:
                print(f"{name}: killed {given.kill} times: {kill(url, given.kill)}")
            else:
                measure(name, url, given.rounds, given.seconds)


if __name__ == "__main__":
    main()
