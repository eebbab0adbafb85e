"""20 M synthetic events (Zipf, 3 domains) from Parquet to an encoded Dataset: seconds, peak RSS.

.venv/bin/python benchmarks/prepare_20m.py [--events 20000000] [--repeats 3]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

DOMAINS = ("books", "films", "music")
EVENTS = ("view", "cart", "purchase")
LIMIT_SECONDS, LIMIT_GB = 25.0, 5.0


def generate(path: Path, n: int, seed: int = 0, n_users: int = 1_000_000) -> None:
    """Write n events of string users and items; item popularity is Zipf in each domain."""
    rng = np.random.default_rng(seed)
    domain = rng.choice(3, n, p=(0.5, 0.3, 0.2))
    weight = 1 / np.arange(1, 200_001) ** 0.9
    item = np.searchsorted(np.cumsum(weight) / weight.sum(), rng.random(n))
    user = (rng.random(n) ** 2 * n_users).astype(np.int64)
    time = 1_600_000_000 + rng.integers(0, 94_608_000, n)
    kind = rng.choice(3, n, p=(0.8, 0.15, 0.05))
    again = np.arange(0, n - 1, 200)  # 0.5 % of the rows are sent twice
    for column in (domain, item, user, time, kind):
        column[again + 1] = column[again]
    pl.DataFrame(
        {
            "user_id": user,
            "item_id": item,
            "domain": pl.Series(DOMAINS).gather(domain),
            "event": pl.Series(EVENTS).gather(kind),
            "timestamp": time,
        }
    ).with_columns(
        user_id=pl.format("u{}", "user_id"), item_id=pl.format("i{}", "item_id")
    ).write_parquet(path)


def measure(path: Path) -> None:
    """Prepare in this process and print the figures as JSON."""
    from m6rec import config
    from m6rec.data.prepare import prepare
    from m6rec.data.schema import DataConfig
    from m6rec.tracking import Run

    table = {
        "interactions": path.name,
        "events": {"view": {}, "cart": {"weight": 2.0}, "purchase": {"weight": 4.0}},
    }
    start = time.perf_counter()
    prepared = prepare(config.from_table(DataConfig, table, "data"), path.parent, Run())
    seconds = time.perf_counter() - start
    cpu = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    data = prepared.dataset
    figures = {"seconds": seconds, "cpu": cpu, "gb": peak, "events": len(data)}
    figures |= {"users": data.n_users, "items": data.n_items, "dropped": prepared.drops.count()}
    print(json.dumps(figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.parquet"
        generate(path, options.events)
        print(f"{path.stat().st_size / 2**20:.0f} MiB of Parquet")
        for _ in range(options.repeats):
            command = [sys.executable, __file__, "--measure", str(path)]
            reply = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            f = json.loads(reply)
            verdict = "ok" if f["seconds"] <= LIMIT_SECONDS and f["gb"] <= LIMIT_GB else "MISSED"
            print(f"{f['events']:,} events, {f['users']:,} users, {f['items']:,} items")
            print(
                f"  {f['dropped']:,} repeats dropped; {f['seconds']:.1f} s "
                f"({f['cpu']:.0f} s of CPU), {f['gb']:.2f} GB peak RSS: {verdict}"
            )


if __name__ == "__main__":
    main()
