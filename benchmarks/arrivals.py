"""How long one new item takes: a catalogue of 100,000 items, every part that the default may have.

python benchmarks/arrivals.py [ITEMS]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from time import process_time
from typing import TypeVar

import numpy as np
import polars as pl

from m6rec.arrivals import changed, extended
from m6rec.artifacts import Fitted
from m6rec.data.frames import from_frames
from m6rec.experiment import Experiment
from m6rec.models.base import Model, Recipe, updated
from m6rec.models.compose import BlendModel
from m6rec.pipeline import fit
from m6rec.tracking import Run

WORDS = [f"word{w}" for w in range(20_000)]
PARTS = [
    {"kind": "pct", "sweeps": 1, "domains": {"items": {"reg": 0.5, "nu": 0.5}}},
    {"kind": "neighbours"},
    {"kind": "graph", "sweeps": 0},
    {"kind": "popular"},
    {"kind": "window"},
    {"kind": "towers", "epochs": 1, "negatives": 64, "training": {"batch": 512}},
    {"kind": "text", "encoder": "hashed"},
]
TIMES = 9
T = TypeVar("T")


def main(n_items: int = 100_000) -> None:
    rng = np.random.default_rng(0)
    n_users = n_items // 10
    n = 2 * n_items
    item = np.r_[np.arange(n_items), (rng.random(n - n_items) ** 3 * n_items).astype(int)]
    log = pl.DataFrame(
        {
            "user": rng.integers(n_users, size=n).astype(str),
            "item": item.astype(str),
            "time": 1_700_000_000 + rng.permutation(n),
        }
    )
    words = rng.choice(WORDS, (n_items, 6))
    items = pl.DataFrame(
        {
            "item": np.arange(n_items).astype(str),
            "title": [" ".join(row) for row in words],
            "year": rng.integers(1950, 2025, n_items),
            "genre": [f"g{g}" for g in rng.integers(20, size=n_items)],
        }
    )
    prepared = from_frames(log, items)
    even = {"items": tuple(tuple(1 / len(PARTS) for _ in PARTS) for _ in range(4))}
    model = Recipe.from_table({"kind": "m6rec", "parts": PARTS, "weights": even})
    experiment = Experiment(model=model, seed=1)
    start = process_time()
    fitted = fit(experiment, prepared, run=Run(seed=1, bars=False))
    print(f"{n_items:,} items, {n:,} events, fitted in {process_time() - start:.0f} s")
    measure(fitted)


def measure(fitted: Fitted) -> None:
    """Print the CPU time of taking in one item and of changing one, and of each part's share."""
    fitted.dataset.items.code("items/0")  # a server has looked up keys before
    found: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[[], T]) -> T:
        start = process_time()
        result = work()
        found.setdefault(name, []).append(process_time() - start)
        return result

    for i in range(TIMES):
        row = {"key": [f"items/new{i}"], "title": ["word1 word2 unheard"], "genre": ["g1"]}
        frame = pl.DataFrame({**row, "year": [2026]})
        longer = timed("one new item", partial(extended, fitted, frame))
        flag = pl.DataFrame({"key": row["key"], "hidden": [True]})
        timed("one item hidden", partial(changed, longer, flag))
        for part in parts(fitted.model):
            timed(f"  {part.recipe.kind}", partial(updated, part, longer.dataset))
        fitted = longer
    for name, seconds in found.items():
        print(f"{name:16} {1000 * np.median(seconds):6.1f} ms (first {1000 * seconds[0]:.0f})")


def parts(model: Model) -> Iterator[Model]:
    """Yield the models inside a model, at any depth."""
    if not isinstance(model, BlendModel):
        yield model
        return
    for part in model.parts:
        yield from parts(part)


if __name__ == "__main__":
    main(*(int(arg) for arg in sys.argv[1:]))
