"""Friends and music of the same people in one run, beside the same system on each alone.

    python benchmarks/social.py [--seeds 5] [--keep 0.2] [--only NAME …] [--out FILE.npz]

lastfm-hetrec, random 80/20 of the events of both domains, a friendship held in both directions or
none; full ranking, nobody to themselves, nobody whom they have. "alone" models see one domain.
--keep: share of the music in train that is left. λ, ω and all open options come from a holdout
of train. Intervals are a paired bootstrap over the
users of all seeds.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np

from m6rec.data.splits import Split
from m6rec.evaluation import evaluate
from m6rec.learned import learned
from m6rec.models.base import Model, Recipe
from m6rec.significance import paired
from m6rec.tracking import Run

METRICS = ("recall@20", "ndcg@20")
PCT = {"kind": "pct", "dim": 64, "sweeps": 6}
PARTS = (
    {"kind": "linear", "reg": "auto", "scope": "auto"},
    {"kind": "neighbours", "scope": "auto"},
    {"kind": "peers"},
    PCT,
    {"kind": "popular"},
)
SYSTEM = {"kind": "m6rec", "parts": PARTS}
ALONE = {
    "popular": {"kind": "popular"},
    "neighbours": {"kind": "neighbours"},
    "linear": {"kind": "linear", "reg": "auto"},
    "pct": {**PCT, "transfer": False},
    "m6rec": SYSTEM,
}
TOGETHER = {"peers": {"kind": "peers"}, "m6rec": SYSTEM}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--keep", type=float, default=1.0)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found: dict[str, list[np.ndarray]] = {}
    for seed in range(options.seeds):
        split = thinned(wordless(datasets.lastfm(seed)), options.keep, seed)
        for name, (recipe, part) in asked(split, options.only).items():
            start = time.time()
            model = Recipe.from_table(recipe).fit(part.train, Run(seed=seed))
            rows = evaluate(model, part, metrics=METRICS, run=Run(seed=seed)).slices
            each = {d.name: rows[d.name] for d in part.train.domains if d.name in rows}
            each = each or {part.train.domains[0].name: rows["all"]}
            for domain, table in each.items():
                for metric in METRICS:
                    of_user = np.full(split.train.n_users, np.nan)
                    of_user[table.user] = table.values[metric]
                    found.setdefault(f"{domain} {name} {metric}", []).append(of_user)
            told = ", ".join(f"{d} {np.nanmean(t.values[METRICS[0]]):.4f}" for d, t in each.items())
            print(f"seed {seed} {name}: {told} ({time.time() - start:.0f} s)", flush=True)
            if name == "together m6rec":
                show(model, split)
    tables = {name: np.stack(values) for name, values in found.items()}
    if options.out:
        np.savez_compressed(options.out, **tables)
    report(tables)


def wordless(split: Split) -> Split:
    """The split without the names of artists, which say little of them and take time to read."""
    sides = (replace(side, item_text=None) for side in (split.train, split.test, split.context))
    return Split(**dict(zip(("train", "test", "context"), sides, strict=True)))


def thinned(split: Split, keep: float, seed: int) -> Split:
    """The split with this share of the music in train."""
    train = split.train
    music = train.item_domain[train.item] == train.domain("music")
    drawn = np.random.default_rng([seed, 20]).random(len(train))
    train = train.take(~music | (drawn < keep))
    return Split(train=train, test=split.test, context=train)


def asked(split: Split, only: list[str]) -> dict[str, tuple[dict[str, object], Split]]:
    """Name → recipe, and the split that it sees."""
    cases = {f"together {name}": (recipe, split) for name, recipe in TOGETHER.items()}
    for domain in ("music", "social"):
        train, test = (datasets.only(side, domain) for side in (split.train, split.test))
        alone = Split(train=train, test=test, context=train)
        cases |= {f"{domain} alone {name}": (recipe, alone) for name, recipe in ALONE.items()}
    return {name: case for name, case in cases.items() if not only or name in only}


def show(model: Model, split: Split) -> None:
    """Print λ by activity, and ω."""
    for table in learned(model, [domain.name for domain in split.train.domains]):
        print(f"  {table.symbol}")
        for row in table.frame.iter_rows():
            print("   ", *row, flush=True)


def report(tables: dict[str, np.ndarray]) -> None:
    print("\n| domain | model | " + " | ".join(f"{m} (± over seeds)" for m in METRICS) + " |")
    print("|---|---|---|---|")
    for name in dict.fromkeys(key.rsplit(" ", 1)[0] for key in tables):
        domain, _, model = name.partition(" ")
        cells = []
        for metric in METRICS:
            means = np.nanmean(tables[f"{name} {metric}"], axis=1)
            cells.append(f"{means.mean():.4f} ± {means.std():.4f}")
        print(f"| {domain} | {model} | {' | '.join(cells)} |")
    print("\n| domain | metric | together | best alone | which | gain | 95 % interval |")
    print("|---|---|---|---|---|---|---|")
    for domain in ("music", "social"):
        for metric in METRICS:
            whole = f"{domain} together m6rec {metric}"
            begin = f"{domain} {domain} alone "
            alone = {
                key: np.nanmean(table)
                for key, table in tables.items()
                if key.startswith(begin) and key.endswith(metric)
            }
            if whole not in tables or not alone:
                continue
            best = max(alone, key=lambda key: alone[key])
            a, b = tables[whole].ravel(), tables[best].ravel()
            both = ~np.isnan(a) & ~np.isnan(b)
            test = paired(a[both], b[both], np.random.default_rng(0))
            base = b[both].mean()
            low, high = (100 * x / base for x in (test.low, test.high))
            print(f"| {domain} | {metric} | {a[both].mean():.4f} | {base:.4f} | "
                  f"{best.split()[3]} | {100 * test.difference / base:+.1f} % | "
                  f"[{low:+.1f}, {high:+.1f}] % |")  # fmt: skip


if __name__ == "__main__":
    main()
