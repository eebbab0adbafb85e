"""The tables of quality.py's records: each model with its spread, and M6-Rec less it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from figures import Figure, gain, seconds, table

from m6rec.significance import bootstrap_ci, paired

METRICS = {
    "ndcg_10": "NDCG@10",
    "ndcg_20": "NDCG@20",
    "recall_10": "recall@10",
    "recall_20": "recall@20",
    "hit_10": "HR@10",
    "mrr": "MRR",
    "rmse": "RMSE ↓",
    "mae": "MAE ↓",
}
REFERENCES = ("ours/m6rec", "ours/m6rec,-ratings")


class Found(NamedTuple):
    """A model's test rows: metric → values (S, R) of each seed; user, weight: (R,)."""

    values: dict[str, np.ndarray]
    user: np.ndarray
    weight: np.ndarray
    options: dict[str, Any]
    trials: str
    seconds: str

    def figure(self, metric: str) -> Figure:
        """Mean over seeds, with the interval over users of the rows' means over seeds."""
        root = metric == "rmse"
        each = [np.average(v, weights=self.weight) for v in self.values[metric]]
        low, high = bootstrap_ci(
            self.values[metric].mean(axis=0), np.random.default_rng(0), cluster=self.user,
            weight=self.weight,
        )  # fmt: skip
        if root:
            each, low, high = list(np.sqrt(each)), low**0.5, high**0.5
        return Figure(tuple(map(float, each)), low, high)


def found(folder: Path) -> Found | None:
    """Read what was kept of one model on one set; None where no test was done."""
    files = [f for f in sorted(folder.glob("test-*.npz")) if f.with_suffix(".json").exists()]
    if not files:
        return None
    tests = [json.loads(f.with_suffix(".json").read_text()) for f in files]
    rows = [dict(np.load(f)) for f in files]
    every = list(records(folder))
    done = [r for r in every if r["stage"] == "trial" and r["status"] == "done"]
    late = sum(r["status"] != "done" for r in every)
    metrics = [m for m in METRICS if m in rows[0]]
    pairs = rows[0]["pairs"]
    return Found(
        values={m: np.stack([r[m] for r in rows]) for m in metrics},
        user=rows[0]["user"],
        weight=pairs if "rmse" in metrics else np.ones(len(pairs)),
        options=tests[0]["options"],
        trials=f"{len(done)}" + (f" + {late} stopped" if late else ""),
        seconds=seconds([r["cost"]["fit"] for r in (*done, *tests)]),
    )


def records(folder: Path) -> Iterator[dict[str, Any]]:
    for file in sorted(folder.glob("*.json")):
        yield json.loads(file.read_text())


def shown(folder: Path) -> str:
    """Return the table of a set, best first by the first metric, and what was not run."""
    models = {}
    for each in sorted(p for p in folder.glob("*/*") if p.is_dir()):
        rows = found(each)
        if rows is not None:
            models["/".join(each.parts[-2:])] = rows
    lines = [f"**{folder.name}**"]
    if models:
        lines.append(ranking(models))
    missing = [line for each in sorted(folder.glob("*/*")) for line in unfinished(each)]
    return "\n\n".join([*lines, *(["\n".join(missing)] if missing else [])])


def ranking(models: dict[str, Found]) -> str:
    metrics = list(next(iter(models.values())).values)
    first = metrics[0]
    sign = 1 if first in ("rmse", "mae") else -1
    reference = next((models[name] for name in REFERENCES if name in models), None)
    figures = {name: {m: rows.figure(m) for m in metrics} for name, rows in models.items()}
    order = sorted(models, key=lambda name: sign * float(np.mean(figures[name][first].values)))
    rows = []
    for name in order:
        each = models[name]
        less = "–"
        if reference is not None and each is not reference:
            a, b = (r.values[first].mean(axis=0) for r in (reference, each))
            less = gain(
                paired(a, b, np.random.default_rng(0), cluster=each.user, weight=each.weight,
                       root=first == "rmse")
            )  # fmt: skip
        options = ", ".join(f"{k} {v}" for k, v in each.options.items()) or "–"
        rows.append(
            [name.replace("-", " "), *(figures[name][m] for m in metrics), less, each.trials,
             each.seconds, options]
        )  # fmt: skip
    header = ["model", *(METRICS[m] for m in metrics), f"m6rec less it, {METRICS[first]}",
              "trials", "fit, s", "options"]  # fmt: skip
    return table(header, rows)


def unfinished(folder: Path) -> Iterator[str]:
    """Yield why a model has no test, with what was spent on it."""
    if not folder.is_dir() or list(folder.glob("test-*.npz")):
        return
    name = "/".join(folder.parts[-2:]).replace("-", " ")
    every = list(records(folder))
    if every and all(record["status"] == "done" for record in every):
        spent = seconds([record["processor"] for record in every])
        yield f"- {name}: stopped after {len(every)} trials; seconds of the processor: {spent}"
    for record in every:
        if record["status"] == "over budget":
            limit = f"> {record['limit']} s of the processor in {record['stage']}"
            yield f"- {name}: not run: {limit}, stopped ({record['options'] or 'no options'})"
        elif record["status"] != "done":
            yield f"- {name}: {record['status']}: {record['error'].strip().splitlines()[-1][:200]}"
