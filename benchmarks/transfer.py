"""PCT against itself without transfer: douban-music-book, amazon-cdr, amazon-cold.

    python benchmarks/transfer.py douban|cdr|cold [--seeds N] [--only 5% 20%] [--out FILE.json]

Options and ω are learned on a holdout of train; "alone" is PCT without transfer, tuned by
itself on the same holdout; on douban, where PCT abstains, popularity answers for both.
"shuffled" permutes which source user is whom and learns ω anew. Figures are means over divisions
or draws; ± is the spread over them, and the gain has a paired bootstrap over users.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np

from m6rec.data.holdout import holdout
from m6rec.data.splits import Split
from m6rec.evaluation import Rows, evaluate
from m6rec.models.base import Recipe
from m6rec.models.fallback import Fallback
from m6rec.models.neighbours import Neighbours
from m6rec.models.pct import Pct
from m6rec.models.popular import Popular
from m6rec.models.transfer import Local
from m6rec.significance import paired
from m6rec.tracking import Run

KEEPS = {  # share of the target's train; whether the test is of users cold in it
    "5%": (0.05, False),
    "20%": (0.2, False),
    "100%": (1.0, False),
    "cold": (1.0, True),
}


def answered(recipe: Pct) -> Fallback:
    """Popularity answers whom PCT does not: those without any history that it may use."""
    return Fallback(parts=(recipe, Popular()))


class Table:
    """Rows of one metric by condition and contender, over seeds."""

    def __init__(self, out: Path | None) -> None:
        self.rows: dict[str, dict[str, list[Rows]]] = {}
        self.lines: list[dict[str, object]] = []
        self.out = out

    def add(
        self, condition: str, name: str, recipe: Recipe, split: Split, run: Run,
        metrics: tuple[str, ...], **options: object,
    ) -> Recipe:  # fmt: skip
        began = time.time()
        model = recipe.fit(split.train, run)
        seconds = time.time() - began
        found = evaluate(model, split, metrics=metrics, by=(), run=run, **options)  # type: ignore[arg-type]
        rows = found.slices["all"]
        self.rows.setdefault(condition, {}).setdefault(name, []).append(rows)
        line = {"condition": condition, "model": name, "seed": run.seed, "seconds": seconds}
        line |= {m: found[m] for m in metrics}
        used = model.recipe.parts[0] if isinstance(model.recipe, Fallback) else model.recipe
        if isinstance(used, Pct):
            line["omega"] = {n: dict(o.omega) for n, o in used.domains.items()}
        self.lines.append(line)
        print("  ".join(f"{k}={v:.4f}" if isinstance(v, float) else f"{k}={v}"
                        for k, v in line.items()), flush=True)  # fmt: skip
        if self.out:
            self.out.write_text(json.dumps(self.lines, indent=1))
        return model.recipe

    def summary(self, metrics: tuple[str, ...], against: str) -> None:
        """Print mean ± spread by condition, and each paired gain over one contender."""
        for condition, models in self.rows.items():
            print(f"\n{condition}")
            for name, seeds in models.items():
                text = "  ".join(f"{m} {mean_and_spread(seeds, m)}" for m in metrics)
                base = models.get(against)
                if base and name != against:
                    m = metrics[-1]
                    a, b = ([r.values[m] for r in x] for x in (seeds, base))
                    users = [r.user for r in seeds]
                    d = paired(np.concatenate(a), np.concatenate(b), np.random.default_rng(0),
                               cluster=np.concatenate(users))  # fmt: skip
                    mean = np.concatenate(b).mean()
                    text += (f"  {m} vs {against}: {d.difference / mean:+.1%} "
                             f"[{d.low / mean:+.1%}, {d.high / mean:+.1%}]")  # fmt: skip
                print(f"  {name:<14} {text}", flush=True)


def mean_and_spread(seeds: list[Rows], metric: str) -> str:
    """Return the mean over divisions ± their spread; over draws, where there is one division."""
    means = np.array([rows.mean(metric) for rows in seeds])
    spread = means.std() if len(seeds) > 1 else seeds[0].spread(metric)
    return f"{means.mean():.4f} ± {spread:.4f}"


def douban(seeds: range, table: Table, only: list[str]) -> None:
    """Both directions; the source's own options are tuned on a holdout of its whole train."""
    metrics = ("recall@20", "ndcg@20")
    pair = ("music", "book")
    for (keep, cold), seed in itertools.product([KEEPS[name] for name in only], seeds):
        for target, source in (pair, pair[::-1]):
            run = Run(seed=seed)
            split = datasets.douban(seed, keep=keep, target=target, cold=cold)
            name = f"{target}, " + ("cold users" if cold else f"{keep:.0%} of its train")
            inner = holdout(split.train, run.rng("holdout"))
            first = Pct(domains={target: Local()}, transfer=False).choose(inner, run)
            tuned = Pct(domains={source: first.domains[source]})
            table.add(name, "pct", answered(tuned.choose(inner, run)), split, run, metrics)
            if not cold:  # alone knows nothing of cold users
                single = replace(tuned, transfer=False).choose(inner, run)
                table.add(name, "alone", answered(single), split, run, metrics)
                other = datasets.douban(seed, keep=keep, target=target, shuffle_link=True)
                stranger = tuned.choose(holdout(other.train, run.rng("holdout")), run)
                table.add(name, "shuffled", answered(stranger), other, run, metrics)
            table.add(name, "popular", Popular(), split, run, metrics)
    table.summary(metrics, "alone")


def cdr(seeds: range, table: Table) -> None:
    metrics = ("hit@10", "ndcg@10")
    for pair in (("sport", "cloth"), ("sport", "phone")):
        for target in pair:
            plain = datasets.amazon_cdr(*pair, target=target)
            run = Run(seed=0)
            protocol = {"protocol": "sampled:999", "seeds": len(seeds)}
            name = f"{target} (with {pair[1 - pair.index(target)]})"
            own = Split(
                train=datasets.only(plain.train, target),
                test=plain.test,
                context=datasets.only(plain.train, target),
            )
            table.add(name, "popular", Popular(), own, run, metrics, **protocol)
            table.add(name, "item cosine", Neighbours(), own, run, metrics, **protocol)
            dropped = datasets.amazon_cdr(*pair, target=target, drop_twins=True)
            table.add(name, "twins dropped", Pct(), dropped, run, metrics, **protocol)
            table.add(name, "alone", Pct(transfer=False), own, run, metrics, **protocol)
            table.add(name, "as shipped", Pct(), plain, run, metrics, **protocol)
            other = datasets.amazon_cdr(*pair, target=target, drop_twins=True, shuffle_link=1)
            table.add(name, "shuffled", Pct(), other, run, metrics, **protocol)
    table.summary(metrics, "alone")


def cold(seeds: range, table: Table) -> None:
    metrics = ("ndcg@10", "hit@10", "mrr")
    _, test = datasets.amazon_cold()
    protocol = {"protocol": "sampled:999", "seeds": len(seeds)}
    recipe: Recipe = Pct().fit(test.train, Run()).recipe
    for target in ("game", "video"):
        split = replace(test, test=datasets.only(test.test, target))
        table.add(target, "pct", recipe, split, Run(), metrics, **protocol)
        table.add(target, "popular", Popular(), split, Run(), metrics, **protocol)
    table.summary(metrics, "popular")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("douban", "cdr", "cold"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="first seed of the divisions")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(KEEPS), default=list(KEEPS))
    given = parser.parse_args()
    seeds, table = range(given.first, given.first + given.seeds), Table(given.out)
    if given.what == "douban":
        douban(seeds, table, given.only)
    else:
        {"cdr": cdr, "cold": cold}[given.what](seeds, table)
