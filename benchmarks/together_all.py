"""All lines of business in one run, beside a separate system for each domain.

    python benchmarks/together_all.py [--users 1000] [--out FILE.npz]

Commerce (amazon-cdr: sport, phone), video (MovieLens-100k, 4 stars and more), music and social
(lastfm-hetrec), music and books (douban): seven domains, four groups of people, linked only where
the data links them. ``--users`` of each group are drawn; random 80/20 of the events, a friendship
held in both directions or none; full ranking. The parts are few and small (``PARTS``), the same
for the run and for each separate system. Intervals are a paired bootstrap over users.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import polars as pl

from m6rec.data.dataset import Dataset
from m6rec.data.fetch import fetch
from m6rec.data.schema import EventType
from m6rec.data.splits import Split
from m6rec.evaluation import evaluate
from m6rec.learned import learned
from m6rec.models.base import Recipe
from m6rec.significance import paired
from m6rec.tracking import Run

METRICS = ("recall@20", "ndcg@20")
PARTS = (
    {"kind": "pct", "dim": 32, "sweeps": 4},
    {"kind": "neighbours", "scope": "domain"},
    {"kind": "peers"},
    {"kind": "popular", "scope": "domain"},
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    split = everything(options.users)
    recipe, start = Recipe.from_table({"kind": "m6rec", "parts": PARTS}), time.time()
    names = [domain.name for domain in split.train.domains]
    model = recipe.fit(split.train, Run(seed=0))
    whole = evaluate(model, split, metrics=METRICS).slices
    print(f"together: {time.time() - start:.0f} s", flush=True)
    for table in learned(model, names):
        print(f"\n{table.heading}\n\n| {' | '.join(table.frame.columns)} |")
        print("|" + "---|" * table.frame.width)
        for row in table.frame.iter_rows():
            print(f"| {' | '.join(map(str, row))} |", flush=True)
    print("\n| domain | test users | metric | together | separate | gain | 95 % interval |")
    print("|---|---|---|---|---|---|---|", flush=True)
    kept: dict[str, np.ndarray] = {}
    for name in names:
        train, test = (datasets.only(side, name) for side in (split.train, split.test))
        alone = recipe.fit(train, Run(seed=0))
        single = evaluate(alone, Split(train=train, test=test, context=train), metrics=METRICS)
        rows, joint = single.slices.get(name, single.slices["all"]), whole[name]
        assert (rows.user == joint.user).all()
        for metric in METRICS:
            a, b = joint.values[metric], rows.values[metric]
            kept |= {f"{name} together {metric}": a, f"{name} separate {metric}": b}
            found = paired(a, b, np.random.default_rng(0))
            low, high = (100 * x / b.mean() for x in (found.low, found.high))
            gain = 100 * found.difference / b.mean()
            print(f"| {name} | {len(a):,} | {metric} | {a.mean():.4f} | {b.mean():.4f} | "
                  f"{gain:+.1f} % | [{low:+.1f}, {high:+.1f}] % |", flush=True)  # fmt: skip
    if options.out:
        np.savez_compressed(options.out, **kept)


def everything(n_users: int) -> Split:
    """The events of a sample of each group's people, 80/20."""
    rng = np.random.default_rng(0)
    fm = datasets.lastfm().train.domains[1]
    parts: dict[str, np.ndarray] = {}
    for group, domains in groups().items():
        people = np.unique(np.concatenate([rows[:, 0] for rows in domains.values()]).astype(str))
        some = rng.permutation(people)[:n_users]
        for name, rows in domains.items():
            rows = rows.astype(str).astype(object)
            rows = rows[np.isin(rows[:, 0].astype(str), some)]
            rows[:, 0] = f"{group}:" + rows[:, 0]
            if name == fm.name:
                rows = rows[np.isin(rows[:, 1].astype(str), some)]
                rows[:, 1] = f"{group}:" + rows[:, 1]
            parts[name] = rows
    data = datasets.joined({name: rows.astype(str) for name, rows in parts.items()})
    data = replace(
        data,
        domains=tuple(replace(d, people=d.name == fm.name) for d in data.domains),
        events=(EventType(name="event"), EventType(name="friend", mutual=True)),
        event=(data.item_domain == data.domain(fm.name))[data.item].astype(np.int16),
    )
    held = rng.random(len(data)) < 0.2
    return Split.by_mask(data, held[data.links])


def groups() -> dict[str, dict[str, np.ndarray]]:
    """Group of people → domain → (N, 2) users and items."""
    ratings = pl.read_csv(fetch("ml-100k") / "ratings.csv")
    films = ratings.filter(pl.col("rating") >= 4).select("user", "item").to_numpy()
    fm = datasets.lastfm()
    whole = datasets.union(fm.train, fm.test)
    shop = {
        one: np.concatenate(
            [datasets.pairs(f"amazon-cdr/{one}_{other}/{side}.txt") for side in ("train", "test")]
        )
        for one, other in (("sport", "phone"), ("phone", "sport"))
    }
    lists = {"records": "Music", "books": "Book"}
    return {
        "amazon": shop,
        "ml": {"films": films},
        "fm": {name: rows_of(whole, name) for name in ("music", "social")},
        "douban": {
            name: datasets.lists(f"douban-music-book/{file}_item_list_common.dat")
            for name, file in lists.items()
        },
    }


def rows_of(data: Dataset, domain: str) -> np.ndarray:
    part = datasets.only(data, domain)
    items = [key.partition("/")[2] for key in part.items.decode(part.item)]
    return np.column_stack([part.users.decode(part.user), items])


if __name__ == "__main__":
    main()
