"""A process that writes events to a store, killed at random moments: what it said is there, is.

As a program: ``killing.py URL FIRST…`` posts events of each thread from its number on, one by
one, and prints "thread number" once a post is acknowledged.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter

from m6rec.store import Event, Store

THREADS = 4


def post(store: Store, thread: int, number: int) -> None:
    """Forever, every third one as a batch of two; the key is what makes a second try harmless."""
    while True:
        size = 2 if number % 3 == 0 else 1
        new = [
            Event(user=f"u{thread}", item=f"films/{n}", type="view", time=n, key=f"{thread}/{n}")
            for n in range(number, number + size)
        ]
        store.add_events(new)
        number += size
        os.write(1, f"{thread} {number - 1}\n".encode())  # short, so whole


def kill(url: str, times: int, seed: int = 0) -> dict[str, int]:
    """Start a writer, kill it with −9 and look, so many times; what was not acknowledged is
    posted again. Returns the counts of events acknowledged, lost, doubled and torn (half a batch).
    """
    rng = random.Random(seed)
    last = [-1] * THREADS
    for _ in range(times):
        program = [sys.executable, __file__, url, *(str(number + 1) for number in last)]
        with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            acknowledged = [child.stdout.readline()]  # it has begun
            time.sleep(rng.uniform(0, 0.3))
            child.kill()
            acknowledged += child.stdout.readlines()
        for line in filter(None, acknowledged):
            thread, number = map(int, line.split())
            last[thread] = max(last[thread], number)
    store = Store.open(url)
    lost = doubled = torn = 0
    for thread, number in enumerate(last):
        found = Counter(store.history(f"u{thread}", 10**15).time)
        lost += sum(n not in found for n in range(number + 1))
        doubled += sum(count - 1 for count in found.values())
        torn += sum(n not in found for n in range(max(found, default=-1)))
    store.close()
    return {"acknowledged": sum(last) + THREADS, "lost": lost, "doubled": doubled, "torn": torn}


def main() -> None:
    url, *first = sys.argv[1:]
    store = Store.open(url)
    for thread, number in enumerate(map(int, first)):
        threading.Thread(target=post, args=(store, thread, number)).start()


if __name__ == "__main__":
    main()
