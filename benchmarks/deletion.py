"""Deletion test: do the history items that a reason names carry the score?

    python benchmarks/deletion.py [demo] [beauty] [--users 1000] [--epochs 6] [--seed 0]

For each test user the item ranked first is explained. Then three items leave the history, and
the fall of that item's score is measured: the three of the greatest contributions, three at
random (mean of ten draws among the items that the explanation mentions, so that what a model
does not read cannot win for it), and the three newest of them. Falls are in standard deviations
of the user's scores; differences are paired over users. Of the fused model, and of each of its
parts that explains itself by history, towers among them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import datasets
import numpy as np
from fusion import demo

from m6rec.arrays import Array, Floats, Ids
from m6rec.compiled import threads
from m6rec.data.splits import Split
from m6rec.explanation import explain
from m6rec.models.base import Model, Recipe
from m6rec.models.default import M6Rec
from m6rec.models.neighbours import Neighbours
from m6rec.models.pct import Pct
from m6rec.models.popular import Popular
from m6rec.models.towers import Towers
from m6rec.models.window import Window
from m6rec.significance import paired
from m6rec.tracking import Run

GONE, DRAWS = 3, 10
LEAST = 2 * GONE  # items that an explanation must mention
SETS: dict[str, Callable[[], Split]] = {"demo": demo, "beauty": datasets.beauty}


def fused(epochs: int) -> M6Rec:
    """The default's parts, small, with towers of few epochs, so that a run takes minutes."""
    parts: tuple[Recipe, ...] = (
        Pct(dim=32, sweeps=4), Neighbours(), Window(), Towers(epochs=epochs), Popular(),
    )  # fmt: skip
    return M6Rec(parts=parts)


def tested(split: Split, n: int, rng: np.random.Generator) -> Ids:
    """Return at most n test users with enough distinct items in their history."""
    users = rng.permutation(np.unique(split.test.user))
    counts = np.diff(split.context.query(users).history.indptr)
    return np.sort(users[counts >= LEAST][:n])


def best(model: Model, split: Split, users: Ids) -> tuple[Ids, Floats, Floats]:
    """Return (B,) the unseen item of the highest score, that score, and the spread of all."""
    query = split.context.query(users)
    scores = np.array(model.score(query), np.float64)
    scores[query.history.nonzero()] = np.nan
    scores[:, split.train.hidden] = np.nan
    item = np.nanargmax(scores, axis=1)
    return item, scores[np.arange(len(users)), item], np.nanstd(scores, axis=1)


def named(model: Model, split: Split, users: Ids, item: Ids) -> list[Ids]:
    """Return for each user the history items of the explanation, the greatest first."""
    query = split.context.query(users)
    told = explain(model, query, item[:, None], str)
    return [
        np.array([c.item for c in cell.contributions if c.kind == "history"], np.int64)
        for (cell,) in told
    ]


def newest(split: Split, user: int, among: Ids) -> Ids:
    """Return the newest items of one user among these."""
    sequence = split.context.query(np.array([user])).sequence[0][::-1]
    order = list(dict.fromkeys(i for i in sequence.tolist() if i in set(among.tolist())))
    return np.array(order[:GONE])


def falls(model: Model, split: Split, users: Ids, item: Ids, before: Floats, gone: Array) -> Array:
    """Return (B,) by how much the scores fall when the items (B, GONE) leave the history."""
    data = split.context
    pairs = users[:, None].astype(np.int64) * data.n_items + gone
    left = data.take(~np.isin(data.user.astype(np.int64) * data.n_items + data.item, pairs))
    after = np.concatenate([
        model.score(left.query(users[b : b + 1]), item[b : b + 1])[0] for b in range(len(users))
    ])  # fmt: skip
    return before - after


def measure(name: str, kind: str, model: Model, split: Split, users: Ids) -> None:
    """Print one line of the table."""
    rng = np.random.default_rng(1)
    began = time.time()
    picked = [best(model, split, part) for part in np.array_split(users, len(users) // 100 + 1)]
    item, before, spread = (np.concatenate(column) for column in zip(*picked, strict=True))
    mentioned = named(model, split, users, item)
    enough = np.array([len(m) >= LEAST for m in mentioned]) & (spread > 0)
    if enough.sum() < LEAST:
        return
    kept = np.flatnonzero(enough)
    users, item, before, spread = users[kept], item[kept], before[kept], spread[kept]
    mentioned = [mentioned[k] for k in kept]

    def fall(gone: list[Ids]) -> Array:
        return falls(model, split, users, item, before, np.stack(gone)) / spread

    by = {"named": fall([m[:GONE] for m in mentioned])}
    draws = [fall([rng.permutation(m)[:GONE] for m in mentioned]) for _ in range(DRAWS)]
    by["random"] = np.mean(draws, axis=0)
    pairs = zip(users.tolist(), mentioned, strict=True)
    by["newest"] = fall([newest(split, user, m) for user, m in pairs])
    line = f"| {name} | {kind} | {len(users):,} | "
    line += " | ".join(f"{v.mean():.3f}" for v in by.values())
    for other in ("random", "newest"):
        d = paired(by["named"], by[other], rng)
        line += f" | {d.difference:+.3f} [{d.low:+.3f}, {d.high:+.3f}]"
    share = (by["named"] > by["random"]).mean()
    print(f"{line} | {share:.0%} | {time.time() - began:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="*", metavar="SET", help=", ".join(SETS))
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for unknown in set(given.sets) - set(SETS):
        parser.error(f"{unknown}: no such set (there are: {', '.join(SETS)})")
    print("| set | model | users | named | random | newest | named − random | named − newest "
          "| named above random | s |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for name in given.sets or SETS:
        split, run = SETS[name](), Run(seed=given.seed, threads=1)
        users = tested(split, given.users, run.rng("users"))
        with threads(1):
            model = fused(given.epochs).fit(split.train, run)
            blend = model.parts[0]
            measure(name, "m6rec", model, split, users)
            for part in blend.parts:
                if part.recipe.kind != "popular":
                    measure(name, part.recipe.kind, part, split, users)


if __name__ == "__main__":
    main()
