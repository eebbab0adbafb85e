"""What tasks, scales of history, attacks and joint training with PCT bring to the towers.

    python benchmarks/ablations.py ml-100k|toys|lastfm [--only base,scales] [--seeds 1] [--out F]

Each variant is trained once on train without a holdout, which picks the epoch; then it answers the
test part, which nothing else sees. ml-100k: every rating is an event, "liked" from 4 stars on,
"seen" below; the test is the newest film that each user liked. toys: Amazon toys, leave-last.
lastfm: artists by users, random 80/20 without order, "often" from the user's median count on. The
gain over "base" has a paired bootstrap over users. "attacked": the same metric after the items'
vectors were moved by 10 % of their length to where the loss of the test rises fastest.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import polars as pl
import torch
from scipy.sparse import csr_array

from m6rec.data.dataset import Dataset
from m6rec.data.fetch import fetch
from m6rec.data.holdout import holdout
from m6rec.data.schema import EventType
from m6rec.data.splits import Split, leave_last
from m6rec.evaluation import evaluate
from m6rec.metrics import ranked
from m6rec.models.pct import Pct
from m6rec.models.towers import Learner, Towers, TowersModel
from m6rec.results import Rows
from m6rec.significance import paired
from m6rec.tracking import Run
from m6rec.training.adversarial import attacked

STRENGTH = 0.1  # of the attack at the test
Change = Callable[[Towers], Towers]


def ml_100k() -> Split:
    """Every rating as an event of one of two types, its stars as its value."""
    rows = pl.read_csv(fetch("ml-100k", run=Run()) / "ratings.csv")
    user, item, value, when = (rows[column] for column in rows.columns[:4])
    data = two_types(user, item, value.to_numpy().astype(np.float32), value.to_numpy() >= 4, when)
    liked = np.flatnonzero(data.event == 1)
    newest = liked[np.r_[data.user[liked][1:] != data.user[liked][:-1], True]]
    last = np.full(data.n_users, -1)
    last[data.user[newest]] = newest
    before = np.arange(len(data)) < last[data.user]
    train = data.take(before)
    return Split(train=train, test=data.take(newest), context=train)


def two_types(
    user: pl.Series, item: pl.Series, value: np.ndarray, strong: np.ndarray,
    when: pl.Series | None = None,
) -> Dataset:  # fmt: skip
    """Return events of a weak type (0) and a strong one (1), with their values as weights."""
    users, user_code = np.unique(user.to_numpy(), return_inverse=True)
    items, item_code = np.unique(item.to_numpy(), return_inverse=True)
    return Dataset.build(
        user=user_code,
        item=item_code,
        users=len(users),
        items=len(items),
        weight=value,
        time=None if when is None else when.to_numpy().astype(np.int64),
        event=strong.astype(np.int16),
        events=(EventType(name="weak", weight=0.25), EventType(name="strong")),
    )


def toys() -> Split:
    rows = datasets.lists("amazon3/toys/sequential.txt")
    return leave_last(datasets.joined({"toys": rows}, ordered=True))


def lastfm() -> Split:
    path = datasets.path("lastfm-hetrec/user_artists.dat")
    rows = pl.read_csv(path, separator="\t").filter(pl.col("userID") != 1)
    rows = rows.with_columns(often=pl.col("weight") >= pl.col("weight").median().over("userID"))
    value = np.log1p(rows["weight"].to_numpy()).astype(np.float32)
    data = two_types(rows["userID"], rows["artistID"], value, rows["often"].to_numpy())
    return Split.by_mask(data, np.random.default_rng(0).random(len(data)) < 0.2)


TASKS = {"ml-100k": (ml_100k, "ndcg@10"), "toys": (toys, "ndcg@10"), "lastfm": (lastfm, "ndcg@20")}
VARIANTS: dict[str, Change] = {
    "base": lambda t: t,
    "scales": lambda t: replace(t, scales=True),
    "event heads": lambda t: replace(t, event_heads=True),
    "value head": lambda t: replace(t, value_head=True),
    "both heads": lambda t: replace(t, event_heads=True, value_head=True),
    "attack 0.1": lambda t: replace(t, adversarial=0.1),
    "attack 0.5": lambda t: replace(t, adversarial=0.5),
    "PCT separate": lambda t: replace(t, pct=Pct()),
    "PCT residual": lambda t: replace(t, pct=Pct(), hybrid="residual"),
    "PCT tuned": lambda t: replace(t, pct=Pct(), hybrid="tuned"),
}
NO_TYPES = ("event heads", "value head", "both heads")  # not where there is one type of event


def under_attack(model: TowersModel, split: Split, metric: str) -> float:
    """Return the mean metric with the keys of the items moved up the slope of the test's loss."""
    users = np.unique(split.test.user)
    query = split.context.query(users)
    u = np.nan_to_num(model.users(query)[:, 0])
    liked = csr_array(split.test.positives[users])
    row = np.repeat(np.arange(len(users)), np.diff(liked.indptr))
    given, bias = torch.from_numpy(u), torch.from_numpy(model.bias)

    def loss(keys: torch.Tensor) -> torch.Tensor:
        logits = (given @ keys.T + bias)[torch.from_numpy(row)]
        return torch.nn.functional.cross_entropy(logits, torch.from_numpy(liked.indices).long())

    (moved,) = attacked(loss, [torch.from_numpy(model.keys)], STRENGTH)
    scores = u @ moved.numpy().T + model.bias
    return float(np.nanmean(ranked(scores, liked, query.history).metric(metric)))


def main(what: str, only: list[str], seeds: int, out: Path | None) -> None:
    load, metric = TASKS[what]
    split = load()
    base = Towers(encoder="attention" if split.train.ordered else "mlp", popular=1.0, metric=metric)
    found: dict[str, list[Rows]] = {}
    lines = []
    names = [n for n in VARIANTS if what != "toys" or n not in NO_TYPES]
    for name in [n for n in names if not only or n in only]:
        for seed in range(seeds):
            run, began = Run(seed=seed), time.time()
            inner = holdout(split.train, run.rng("holdout"))
            recipe = VARIANTS[name](base)
            if recipe.pct is not None:
                recipe = replace(recipe, pct=recipe.pct.choose(inner, run))
            learner = Learner(recipe, inner.train, run)
            epochs = learner.learn(base.training, inner)
            model = learner.model()
            rows = evaluate(model, split, metrics=(metric,), by=(), run=run).slices["all"]
            found.setdefault(name, []).append(rows)
            line = {"set": what, "variant": name, "seed": seed, metric: rows.mean(metric)}
            line |= {"attacked": under_attack(model, split, metric), "epochs": epochs}
            line |= {"seconds": time.time() - began}
            variance = learner.network.variance
            if variance is not None:
                line["weights"] = torch.exp(-variance).tolist()
            lines.append(line)
            print("  ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}"
                            for k, v in line.items()), flush=True)  # fmt: skip
            if out:
                out.write_text(json.dumps(lines, indent=1))
    print(f"\n| {what} | {metric} | attacked | against base |\n|---|---|---|---|")
    for name, runs in found.items():
        a, b = (np.mean([r.values[metric] for r in each], axis=0) for each in (runs, found["base"]))
        test = paired(a, b, np.random.default_rng(0))
        gain = [f"{100 * x / b.mean():+.1f}" for x in test[:3]]
        hurt = np.mean([line["attacked"] for line in lines if line["variant"] == name])
        print(f"| {name} | {a.mean():.4f} | {hurt:.4f} | {gain[0]} % [{gain[1]}, {gain[2]}] |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=TASKS)
    parser.add_argument("--only", default="")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    main(given.what, [n for n in given.only.split(",") if n], given.seeds, given.out)
