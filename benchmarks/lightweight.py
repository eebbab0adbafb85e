"""Towers made small: distilled, as ONNX and in int8; on beauty, full ranking, one thread.

    python benchmarks/lightweight.py [blend holdout test] [--epochs 4] [--passes 1] [--users 10000]

Prints parameters and bytes, NDCG@10 of the same users' newest events on a holdout of train and on
the test, each with the paired 95 % interval of its difference to the teacher, and how long one
request takes. Epochs are fixed, and the same for all: a comparison of sizes, not the best figures.
The blend: one request to the parts of the default at 10,000 items.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import datasets
import numpy as np
import torch

from m6rec.data.dataset import Dataset
from m6rec.data.holdout import holdout
from m6rec.data.splits import Split
from m6rec.evaluation import evaluate
from m6rec.export import replaced
from m6rec.models.base import Model
from m6rec.models.compose import Blend
from m6rec.models.default import default_parts
from m6rec.models.distil import Distilled, Student
from m6rec.models.onnx_graph import converted
from m6rec.models.pct import Pct
from m6rec.models.towers import Learner, Towers, TowersModel
from m6rec.models.transfer import Local
from m6rec.tracking import Run

ASKED, WARM = 300, 30  # requests that are timed, and before them
ITEMS = 10_000  # of the blend


def main(what: list[str], epochs: int, passes: int, users: int) -> None:
    run = Run(seed=0, threads=1)
    torch.set_num_threads(1)
    recipe = Distilled(epochs=epochs, dropout=0.5)
    recipe = replace(recipe, student=replace(recipe.student, epochs=passes))
    whole = datasets.beauty()
    if "blend" in what:
        fused(whole.train, run)
    splits = {"holdout": holdout(whole.train, run.rng("holdout")), "test": whole}
    for name in (each for each in splits if each in what):
        split = splits[name]
        began = time.perf_counter()
        learner = Learner(recipe, split.train, run)
        learner.learn(replace(recipe.training, epochs=epochs))
        taught = time.perf_counter()
        student = Student(recipe, learner)
        student.learn(recipe.student)
        seconds = taught - began, time.perf_counter() - taught
        print(f"{name}: teacher {seconds[0]:.0f} s, student {seconds[1]:.0f} s", flush=True)
        compare(name, learner.model(), student.model(), some(split, users, run), run)


def compare(name: str, teacher: TowersModel, small: TowersModel, split: Split, run: Run) -> None:
    """Print one line for each form of the two."""
    forms: dict[str, tuple[TowersModel, Model]] = {
        "teacher, torch": (teacher, teacher),
        "teacher, onnx": (teacher, converted(teacher)),
        "teacher, onnx int8": (teacher, converted(teacher, int8=True)),
        "distilled, torch": (small, small),
        "distilled, onnx": (small, converted(small)),
        "distilled, onnx int8": (small, converted(small, int8=True)),
    }
    base: np.ndarray | None = None
    for form, (source, model) in forms.items():
        found = evaluate(model, split, metrics=("ndcg@10",), by=(), run=run)
        values = np.nan_to_num(found.slices["all"].values["ndcg@10"])
        base = values if base is None else base
        change = (values - base).mean() / base.mean()
        spread = 1.96 * (values - base).std() / np.sqrt(len(values)) / base.mean()
        weights = sum(each.numel() for each in source.network.parameters())
        size = sum(array.nbytes for array in model.state().values())
        p50, p95 = latency(model, split.context)
        print(
            f"{name}  {form:<20} parameters {weights:>9,}  bytes {size:>10,}  "
            f"NDCG@10 {values.mean():.4f} ({change:+.1%} ± {spread:.1%})  "
            f"one request p50 {p50:.2f} ms, p95 {p95:.2f} ms",
            flush=True,
        )


def fused(train: Dataset, run: Run) -> None:
    """Print the time of a request to a blend at the 10,000 most popular items."""
    count = np.bincount(train.item, minlength=train.n_items)
    popular = np.argsort(-count, kind="stable")[:ITEMS]
    place = np.full(train.n_items, -1)
    place[popular] = np.arange(ITEMS)
    kept = place[train.item] >= 0
    user, item = train.user[kept], place[train.item[kept]]
    small = Dataset.build(user=user, item=item, users=train.n_users, items=ITEMS, ordered=True)
    domain = small.domains[0].name
    parts = tuple(
        replace(part, epochs=1) if isinstance(part, Towers)
        else replace(part, domains={domain: Local()}) if isinstance(part, Pct)
        else part
        for part in default_parts(small)
    )  # fmt: skip
    even = ((1 / len(parts),) * len(parts),) * 4  # the time does not depend on λ
    model = Blend(parts=parts, weights={domain: even}).fit(small, run)
    place_of = [part.kind for part in parts].index("towers")
    deep = model.parts[place_of]
    print("blend of " + ", ".join(part.kind for part in parts))
    forms = {"torch": deep, "onnx": converted(deep), "onnx int8": converted(deep, int8=True)}
    for form, part in forms.items():
        p50, p95 = latency(replaced(model, {str(place_of): part}), small)
        print(f"blend at {ITEMS:,} items, {form}: p50 {p50:.2f} ms, p95 {p95:.2f} ms", flush=True)


def latency(model: Model, data: Dataset) -> tuple[float, float]:
    """Return p50 and p95 in ms of scoring all items for one user, who differs each time."""
    rng = np.random.default_rng(0)
    users = rng.choice(np.unique(data.user), ASKED + WARM)
    queries = [data.query(np.array([u])) for u in users]
    seconds = []
    for query in queries:
        began = time.perf_counter()
        model.score(query)
        seconds.append(time.perf_counter() - began)
    p50, p95 = np.percentile(np.array(seconds[WARM:]) * 1000, [50, 95])
    return float(p50), float(p95)


def some(split: Split, users: int, run: Run) -> Split:
    """Return the split with the answers of this many users."""
    asked = np.unique(split.test.user)
    asked = run.rng("asked").permutation(asked)[:users]
    return replace(split, test=split.test.take(np.isin(split.test.user, asked)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", default=["blend", "holdout", "test"])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--passes", type=int, default=1)
    parser.add_argument("--users", type=int, default=10_000)
    given = parser.parse_args()
    main(given.what, given.epochs, given.passes, given.users)
