"""The fused default beside its own parts, on every set: overall and by domain and activity.

    python benchmarks/fusion.py [SET …] [--shallow] [--seed 0] [--out FILE.json] [--rows FOLDER]

Fits ``kind = "m6rec"`` with the parts that it chooses by itself (--shallow: without towers), then
evaluates it and each of its fitted parts on the same test rows. In each slice it stands against
the part that is best there *by the test*, so the comparison favours the part. Holm's correction
is over the slices of a set. Printed as Markdown. --rows keeps what each test user got, for
`benchmarks/together.py`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import datasets
import numpy as np

from m6rec.data.fetch import fetch
from m6rec.data.prepare import prepare
from m6rec.data.splits import Split
from m6rec.evaluation import evaluate
from m6rec.experiment import load
from m6rec.models.default import M6Rec
from m6rec.pipeline import stage
from m6rec.results import Difference, Evaluation, compare
from m6rec.significance import holm
from m6rec.tracking import Run


class Task(NamedTuple):
    """A split, the metric that its protocol reports, and the protocol of ``evaluate``."""

    split: Callable[[], Split]
    metric: str
    protocol: str = "full"


def demo(seed: int = 0, *changes: str) -> Split:
    """MovieLens-100k as three domains, as in `m6rec demo`; changes: of its configuration."""
    run = Run(seed=seed)
    base = fetch("ml-100k", run=run)
    toml = files("m6rec.scenarios").joinpath("demo.toml")
    experiment = load(Path(str(toml)), [f"base={str(base)!r}", *changes])
    prepared = prepare(experiment.data, Path(experiment.base), run)
    return stage(experiment, prepared, run).split


def cdr(a: str, b: str) -> Task:
    """amazon-cdr, target a, its twins dropped from b."""
    return Task(lambda: datasets.amazon_cdr(a, b, a, drop_twins=True), "ndcg@10", "sampled:999")


TASKS = {
    "demo": Task(demo, "ndcg@10"),
    "lastfm": Task(datasets.lastfm, "ndcg@20"),
    "ml-1m": Task(datasets.ml1m, "ndcg@20"),
    "yelp18": Task(datasets.yelp18, "ndcg@20"),
    "douban-music": Task(lambda: datasets.douban(1), "ndcg@20"),
    "douban-book": Task(lambda: datasets.douban(1, target="book"), "ndcg@20"),
    "sport (cloth)": cdr("sport", "cloth"),
    "cloth (sport)": cdr("cloth", "sport"),
    "sport (phone)": cdr("sport", "phone"),
    "phone (sport)": cdr("phone", "sport"),
    "amazon-cold": Task(lambda: datasets.amazon_cold()[1], "ndcg@10", "sampled:999"),
    "games": Task(datasets.games, "ndcg@10"),
    "beauty": Task(datasets.beauty, "ndcg@10"),
    "amazon3": Task(datasets.amazon3, "ndcg@10"),
}
ALONE = {
    f"amazon3 {n}": Task(partial(datasets.amazon3, (n,)), "ndcg@10")
    for n in ("beauty", "sports", "toys")
}


def measured(name: str, recipe: M6Rec, seed: int, folder: Path | None) -> dict[str, object]:
    """Fit, evaluate, print and return what was found."""
    task, run = (TASKS | ALONE)[name], Run(seed=seed)
    split = task.split()
    began = time.time()
    model = recipe.fit(split.train, run)
    seconds = time.time() - began
    blend = model.parts[0]
    by = ("domain", "activity")
    recall = task.metric.replace("ndcg", "hit" if "sampled" in task.protocol else "recall")

    def of(part: object) -> Evaluation:
        return evaluate(
            part, split, metrics=(task.metric, recall), protocol=task.protocol, by=by, run=run
        )

    kinds = [part.recipe.kind for part in blend.parts]
    fused, parts = of(model), dict(zip(kinds, map(of, blend.parts), strict=True))
    if folder:
        keep(fused, split, folder / f"{name}.npz")
    lines = best(fused, parts, task.metric)
    print(f"\n**{name}**, {task.metric}, fit {seconds:.0f} s. Parts: ", end="")
    print(", ".join(f"{kind} {found[task.metric]:.4f}" for kind, found in parts.items()), end="")
    print(f"; fused {fused[task.metric]:.4f} ({recall} {fused[recall]:.4f}).\n")
    print("| slice | rows | best part | it | fused | gain | 95 % interval | p (Holm) |")
    print("|---|---|---|---|---|---|---|---|")
    for line, kind in lines:
        base = line.b or float("nan")
        low, high = (f"{100 * x / base:+.1f}" for x in (line.low, line.high))
        print(f"| {line.slice} | {len(fused.slices[line.slice]):,} | {kind} | {line.b:.4f} "
              f"| {line.a:.4f} | {100 * line.difference / base:+.1f} % | [{low}, {high}] % "
              f"| {line.p_holm:.3f} |", flush=True)  # fmt: skip
    table = blend.weights.round(3).tolist()
    weights = {d.name: table[i] for i, d in enumerate(split.train.domains)}
    for domain, rows in weights.items():
        print(f"\nλ of {domain} by activity ({', '.join(kinds)}): {rows}", flush=True)
    return {
        "set": name, "seed": seed, "seconds": seconds, "kinds": kinds, "lambda": weights,
        "parts": {kind: found[task.metric] for kind, found in parts.items()},
        "fused": fused[task.metric], recall: fused[recall],
        "by domain": {s: [r.mean(recall), r.mean(task.metric)] for s, r in fused.slices.items()},
        "slices": [{"part": kind, **line._asdict()} for line, kind in lines],
    }  # fmt: skip


def keep(found: Evaluation, split: Split, file: Path) -> None:
    """Write the rows: keys of users, names of domains, and values of metrics."""
    rows = found.slices["all"]
    names = np.array([d.name for d in split.train.domains])
    users = split.train.users.keys.to_numpy()[rows.user].astype(str)
    np.savez(file, user=users, domain=names[rows.domain], **rows.values)


def best(
    fused: Evaluation, parts: dict[str, Evaluation], metric: str
) -> list[tuple[Difference, str]]:
    """Return for each slice fused less the best part there, and its kind."""
    against = {kind: compare(fused, found, metric) for kind, found in parts.items()}
    lines = []
    for i in range(len(fused.slices)):
        kind = max(against, key=lambda k: against[k][i].b)
        lines.append((against[kind][i], kind))
    corrected = holm(np.array([line.p for line, _ in lines]))
    return [
        (line._replace(p_holm=float(p)), kind)
        for (line, kind), p in zip(lines, corrected, strict=True)
    ]


def main(names: list[str], deep: bool, seed: int, out: Path | None, folder: Path | None) -> None:
    found = []
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        recipe = M6Rec() if deep else replace(M6Rec(), deep=False)
        found.append(measured(name, recipe, seed, folder))
        if out:
            out.write_text(json.dumps(found, indent=1, default=float))
    gains = [f["slices"][0]["difference"] / f["slices"][0]["b"] for f in found]  # type: ignore[index]
    print(f"\nMean gain over the best part, {len(gains)} sets: {100 * np.mean(gains):+.1f} %")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="*", metavar="SET", help=", ".join(TASKS))
    parser.add_argument("--shallow", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rows", type=Path, metavar="FOLDER")
    given = parser.parse_args()
    for unknown in set(given.sets) - set(TASKS | ALONE):
        parser.error(f"{unknown}: no such set (there are: {', '.join(TASKS | ALONE)})")
    main(given.sets or list(TASKS), not given.shallow, given.seed, given.out, given.rows)
