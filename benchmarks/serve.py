"""The service under load: wrk against `m6rec serve` on SQLite and PostgreSQL.

    python benchmarks/serve.py [--run DIR] [--seconds 10] [--rounds 5] [--workers 2]
        [--store sqlite:////tmp/x.db --store postgresql://postgres@127.0.0.1/test]
        [--candidates 0 --candidates auto]
    python benchmarks/serve.py --soak 30

Without --run, a million made-up events of 100,000 items in two domains are fitted first, with all
parts of kind `m6rec` (towers for one epoch), and kept in --out. Each store is filled from the run.
Measured: 1, 8 and 16 connections that ask for 10 items of random users, explanations off, in rounds
of --seconds; which worker takes how many of the connections is chance, so each round makes them
anew, and the least and the greatest of all rounds are printed. --soak:
two connections for so many minutes, of whose requests one in five wants reasons too, three in ten
are events, and one in a hundred writes an item; the memory is printed every minute. wrk is
Debian's package wrk.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

import m6rec
from m6rec import artifacts

ASK = """
request = function()
  local user = users[math.random(#users)]
  return wrk.format("GET", "/v1/recommend?k=10&explain=false&user=" .. user)
end
"""
MIX = """
local items = {}
for line in io.lines("%(items)s") do items[#items + 1] = line end
local json = {["Content-Type"] = "application/json"}
delay = function() return 20 + math.random(80) end
request = function()
  local user, item, kind = users[math.random(#users)], items[math.random(#items)], math.random(100)
  if kind <= 30 then
    return wrk.format("POST", "/v1/events", json,
      '[{"user": "' .. user .. '", "item": "' .. item .. '"}]')
  elseif kind == 31 then
    return wrk.format("PUT", "/v1/items/" .. item .. math.random(3), json,
      '{"title": "Item ' .. math.random(1000) .. '"}')
  end
  local why = kind > 86 and "true" or "false"
  return wrk.format("GET", "/v1/recommend?k=10&explain=" .. why .. "&user=" .. user)
end
"""
LUA = """
local users = {}
for line in io.lines("%(users)s") do users[#users + 1] = line end
math.randomseed(7)
%(load)s
local failed = 0
response = function(status) if status ~= 200 then failed = failed + 1 end end
done = function(summary, latency)
  io.write(string.format(
    "p50 %%.2f ms, p95 %%.2f, p99 %%.2f, max %%.2f; %%.0f a second; %%d errors\\n",
    latency:percentile(50) / 1000, latency:percentile(95) / 1000, latency:percentile(99) / 1000,
    latency.max / 1000, summary.requests / summary.duration * 1e6,
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout))
end
"""  # fmt: skip


def events(n_users: int, n_items: int, n: int, seed: int = 0) -> pl.DataFrame:
    """Return made-up events: two domains, Zipf popularity, users with tastes in 50 groups."""
    rng = np.random.default_rng(seed)
    popularity = 1 / np.arange(1, n_items + 1) ** 0.8
    group, likes = rng.integers(50, size=n_items), rng.integers(50, size=(n_users, 3))
    user = rng.integers(n_users, size=n)
    cumulative = {g: np.cumsum(np.where(group == g, popularity, 0)) for g in range(50)}
    chosen = likes[user, rng.integers(3, size=n)]
    item = np.empty(n, np.int64)
    for g, of_group in cumulative.items():
        rows = np.flatnonzero(chosen == g)
        item[rows] = np.searchsorted(of_group, rng.random(len(rows)) * of_group[-1])
    return pl.DataFrame(
        {
            "user": user,
            "item": item,
            "domain": np.where(item % 2 == 0, "even", "odd"),
            "time": 1_700_000_000 + np.arange(n),
        }
    )


def fitted(out: Path) -> Path:
    """Fit kind m6rec, its towers for one epoch, to a million events of 100,000 items; save it."""
    frame = events(60_000, 100_000, 1_000_000)
    parts = [{"kind": k} for k in ("pct", "neighbours", "graph", "popular", "window")]
    parts.append({"kind": "towers", "training": {"epochs": 1}})
    began = time.time()
    run = m6rec.fit(frame, model={"kind": "m6rec", "parts": parts})
    path = run.save(out / "made-up")
    artifacts.set_current(path)
    print(f"fitted {run.dataset.n_items:,} items in {time.time() - began:.0f} s", flush=True)
    return path


def used(pid: int) -> tuple[float, float]:
    """Return the MB of a process and its children, and the seconds of CPU that they had."""
    rows = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            rows[int(stat.parent.name)] = [int(fields[i]) for i in (1, 11, 12, 21)]
    tree, grown = {pid}, True
    while grown:
        more = {p for p, (parent, *_) in rows.items() if parent in tree} | tree
        grown, tree = more != tree, more
    ticks = sum(user + system for p, (_, user, system, _) in rows.items() if p in tree)
    pages = sum(row[3] for p, row in rows.items() if p in tree)
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20, ticks / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def serving(
    run: Path, store: str, workers: int, candidates: str, load: str
) -> Iterator[tuple[int, list[str]]]:
    """Start a server; yield its process, and the command for wrk but connections and time."""
    port = 18088
    command = [sys.executable, "-m", "m6rec", "serve", str(run), "--store", store]
    command += ["--port", str(port), "--workers", str(workers), "--candidates", candidates]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/health/ready", timeout=1)
                break
            except OSError:
                time.sleep(0.5)
        with tempfile.TemporaryDirectory() as folder:
            vocab, files = pl.read_parquet(run / "vocab.parquet"), {}
            for kind in ("user", "item"):
                keys = vocab.filter(pl.col("kind") == kind)["key"]
                files[f"{kind}s"] = Path(folder, f"{kind}s.txt")
                files[f"{kind}s"].write_text("\n".join(keys.sample(min(20_000, len(keys)), seed=0)))
            script = Path(folder, "ask.lua")
            script.write_text(LUA % {**files, "load": load % files})
            yield server.pid, ["wrk", "-t1", "-s", str(script), f"http://127.0.0.1:{port}"]
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def measure(run: Path, store: str, seconds: int, rounds: int, workers: int, asked: str) -> None:
    """Start a server, ask it in rounds, each with new connections, and print what wrk says."""
    with serving(run, store, workers, asked, ASK) as (pid, wrk):
        subprocess.run([*wrk, "-c8", f"-d{seconds}s"], capture_output=True)
        for connections in (1, 8, 16):
            found, cpu = [], []
            for _ in range(rounds):
                _, before = used(pid)
                load = [*wrk, f"-c{connections}", f"-d{seconds}s"]
                said = subprocess.run(load, capture_output=True, text=True).stdout.splitlines()[-1]
                mb, after = used(pid)
                found.append([float(x) for x in re.findall(r"(?<![a-z\d.])[\d.]+", said)])
                cpu.append(1e3 * (after - before) / max(1, seconds * found[-1][4]))
            of = [f"{low:.1f} to {high:.1f}" for low, high in spread(found)]
            print(f"{plain(store)}, candidates {asked}, {connections} connections: p50 {of[0]} ms, "
                  f"p95 {of[1]}, p99 {of[2]}; {of[4]} a second; "
                  f"{sum(row[5] for row in found):.0f} errors; {mb:,.0f} MB; "
                  f"{min(cpu):.1f} to {max(cpu):.1f} ms of CPU each", flush=True)  # fmt: skip


def spread(rows: list[list[float]]) -> list[tuple[float, float]]:
    """Return the least and the greatest of each column."""
    return [(min(column), max(column)) for column in zip(*rows, strict=True)]


def yardstick() -> float:
    """Return the seconds of ten million additions in Python, to compare machines by."""
    began, total = time.perf_counter(), 0
    for i in range(10_000_000):
        total += i
    return time.perf_counter() - began


def soak(run: Path, store: str, minutes: int, workers: int, candidates: str) -> None:
    """Ask for so many minutes, and print the memory after each."""
    with serving(run, store, workers, candidates, MIX) as (pid, wrk):
        print(f"{plain(store)}, {workers} workers, candidates {candidates}", flush=True)
        print(f"at the start: {used(pid)[0]:,.0f} MB", flush=True)
        for minute in range(minutes):
            load = [*wrk, "-c2", "-d60s"]
            said = subprocess.run(load, capture_output=True, text=True).stdout.splitlines()[-1]
            print(f"minute {minute + 1}: {used(pid)[0]:,.0f} MB; {said}", flush=True)


def plain(store: str) -> str:
    """Return the URL of a store without who it is that asks."""
    return re.sub(r"//[^/@]*@", "//", store)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path)
    parser.add_argument("--out", type=Path, default=Path("/tmp/m6rec-serve"))
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--store", action="append")
    parser.add_argument("--candidates", action="append", help="0 = all items; auto; a number")
    parser.add_argument("--soak", type=int, metavar="MINUTES")
    options = parser.parse_args()
    chosen = options.run or options.out / "made-up"
    if not chosen.exists():
        chosen = fitted(options.out)
    print(f"ten million additions in Python: {yardstick():.2f} s", flush=True)
    for url in options.store or [f"sqlite:///{options.out}/load.db"]:
        for candidates in options.candidates or ["auto"]:
            if options.soak:
                soak(chosen, url, options.soak, options.workers, candidates)
            else:
                measure(chosen, url, options.seconds, options.rounds, options.workers, candidates)
