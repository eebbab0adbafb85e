"""amazon3: one system over three domains beside the same system on each domain alone.

    python benchmarks/fusion.py amazon3 "amazon3 beauty" "amazon3 sports" "amazon3 toys" --rows F
    python benchmarks/together.py F

Compares what both gave each test user in each domain, by a paired bootstrap over users: all users
of the domain, those who are in this domain alone, and those who are in several.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from m6rec.significance import paired

METRICS = ("recall@10", "ndcg@10")


def main(folder: Path) -> None:
    joint = np.load(folder / "amazon3.npz")
    _, place, count = np.unique(joint["user"], return_inverse=True, return_counts=True)
    several = count[place] > 1
    print("| domain | users | n | metric | together | alone | gain | 95 % interval |")
    print("|---|---|---|---|---|---|---|---|")
    for domain in np.unique(joint["domain"]).tolist():
        alone = np.load(folder / f"amazon3 {domain}.npz")
        inside = np.flatnonzero(joint["domain"] == domain)
        inside = inside[np.argsort(joint["user"][inside])]
        order = np.argsort(alone["user"])
        assert (joint["user"][inside] == alone["user"][order]).all()
        for name, chosen in (
            ("all", np.ones(len(inside), np.bool_)),
            ("in this domain alone", ~several[inside]),
            ("in several", several[inside]),
        ):
            for metric in METRICS:
                a, b = joint[metric][inside][chosen], alone[metric][order][chosen]
                test = paired(a, b, np.random.default_rng(0))
                low, high = (100 * x / b.mean() for x in (test.low, test.high))
                print(f"| {domain} | {name} | {len(a):,} | {metric} | {a.mean():.4f} | "
                      f"{b.mean():.4f} | {100 * test.difference / b.mean():+.1f} % | "
                      f"[{low:+.1f}, {high:+.1f}] % |")  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]))
