"""Zero-shot: items and users that training never saw, known by text and attributes alone.

    python benchmarks/zero_shot.py [films] [games] [users] [--draws 3] [--rows 2000] [--short]

films, games: a share of the items is hidden from train (MovieLens-100k as in `m6rec demo` with
titles, genres and years, 20 %; games-titles, 10 %); the answers are events of hidden items.
Ranked among all items of the domain, and among the hidden ones. users: of a fifth of the users
of MovieLens-100k all events are hidden; age, gender and occupation are known.

Text and attributes come together in PCT's φ and in a blend of that with the model "text". All
options and λ are learned on the holdout that a fit carves from train by itself, which hides 2 %
of the items. "[new items]": only λ, on a holdout that hides as many items as the test does.
"[ridge 1]": the ridge of PCT's map A is not learned. Draws are pooled; differences are paired,
users drawn together.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import datasets
import numpy as np
from fusion import demo

from m6rec.arrays import Ids, Scores, State
from m6rec.compiled import threads
from m6rec.data.dataset import Dataset
from m6rec.data.holdout import holdout
from m6rec.data.query import Query
from m6rec.data.splits import Split, cold_item
from m6rec.evaluation import Rows, evaluate
from m6rec.models.base import Model, Recipe
from m6rec.models.compose import Blend
from m6rec.models.default import M6Rec, default_parts
from m6rec.models.pct import Pct
from m6rec.models.popular import Popular
from m6rec.models.text import Text
from m6rec.significance import paired
from m6rec.tracking import Run

METRICS = ("ndcg@10", "recall@50", "mrr")
Found = dict[str, dict[str, list[Rows]]]  # candidates → model → rows of each draw


@dataclass(frozen=True, kw_only=True)
class Chance(Recipe):
    """Scores at random."""

    kind: ClassVar[str] = "chance"

    def fit(self, train: Dataset, run: Run) -> Model:
        return ChanceModel(train.n_items)

    def restore(self, state: State) -> Model:
        return ChanceModel(int(state["n_items"]))


class ChanceModel(Model):
    def __init__(self, n_items: int) -> None:
        self.recipe, self.n_items = Chance(), n_items

    def score(self, query: Query, items: Ids | None = None) -> Scores:
        rows = [np.random.default_rng(int(u)).random(self.n_items) for u in query.user]
        scores = np.array(rows, np.float32).reshape(len(query), self.n_items)
        return scores if items is None else scores[:, items]

    def state(self) -> State:
        return {"n_items": np.array(self.n_items)}


def films(seed: int) -> Split:
    return demo(seed, 'split.kind="cold-item"', "split.fraction=0.2")


def games(seed: int) -> Split:
    return datasets.games(cold=0.1, seed=seed)


def new_users(seed: int) -> Split:
    return demo(seed, 'split.kind="cold-user"', "split.fraction=0.2", "split.context=0.0")


def sampled(split: Split, rows: int, run: Run) -> Split:
    """The split with the test events of some users only."""
    some = run.rng("rows").permutation(np.unique(split.test.user))[:rows]
    return replace(split, test=split.test.take(np.isin(split.test.user, some)))


def told(data: Dataset, text: bool = True, attributes: bool = True) -> Dataset:
    """The dataset with less known of its items."""
    return replace(
        data,
        item_text=data.item_text if text else None,
        item_attributes=data.item_attributes if attributes else {},
    )


def less(split: Split, **kept: bool) -> Split:
    return replace(split, train=told(split.train, **kept), context=told(split.context, **kept))


def of_items(split: Split, share: float, run: Run, found: Found, short: bool) -> None:
    """Fit and evaluate every contender on one draw of hidden items; short: without `m6rec`."""
    train = split.train
    own = holdout(train, run.rng("holdout"))
    new = cold_item(train, share, run.rng("new items"))

    def add(name: str, recipe: Recipe, data: Dataset = train) -> None:
        began = time.time()
        measure(split, name, recipe.fit(data, run), run, found, began)

    add("popularity", Popular())
    add("chance", Chance())
    add("text", Text())
    both = bool(train.item_features) and train.item_text is not None
    if both:
        for name, kept in (("attributes", {"text": False}), ("text", {"attributes": False})):
            chosen = Pct().choose(less(own, **kept), run)
            add(f"pct, φ of {name}", chosen, told(train, **kept))
    pct = Pct().choose(own, run)
    print({name: (local.reg, local.nu, local.alpha) for name, local in pct.domains.items()})
    add(f"pct, φ of {'text and attributes' if both else 'text'}", pct)
    parts = tuple(pct if p.kind == "pct" else p for p in default_parts(train, deep=False))
    for recipe in (Blend(parts=(Text(), pct)), M6Rec(parts=parts))[: 1 if short else 2]:
        name = "text + pct" if isinstance(recipe, Blend) else "m6rec without towers"
        for mark, inner in (("", own), (" [new items]", new)):
            chosen = recipe.choose(inner, run)
            add(f"{name}{mark}", chosen)
            for domain, rows in chosen.weights.items():
                print(f"λ of {domain}: {rows}", flush=True)


def of_users(split: Split, run: Run, found: Found) -> None:
    """Fit and evaluate what answers users of whom only attributes are known."""
    own = holdout(split.train, run.rng("holdout"))
    pct = Pct().choose(own, run)
    print("ridge", {name: local.ridge for name, local in pct.domains.items()}, flush=True)
    fixed = {name: replace(local, ridge=1.0) for name, local in pct.domains.items()}
    contenders: dict[str, Recipe] = {"popularity": Popular(), "chance": Chance()}
    parts = default_parts(split.train, deep=False)
    for mark, by in ((" [ridge 1]", replace(pct, domains=fixed)), ("", pct)):
        contenders[f"pct by attributes{mark}"] = by
        mine = tuple(by if p.kind == "pct" else p for p in parts)
        contenders[f"m6rec without towers{mark}"] = M6Rec(parts=mine).choose(own, run)
    for name, recipe in contenders.items():
        began = time.time()
        measure(split, name, recipe.fit(split.train, run), run, found, began, only_all=True)


def measure(
    split: Split, name: str, model: Model, run: Run, found: Found, began: float,
    only_all: bool = False,
) -> None:  # fmt: skip
    """Rank among all items, and among those that train does not know."""
    seen = np.bincount(split.train.item, minlength=split.train.n_items) > 0
    views = {"all items": split.train.hidden, "new items": split.train.hidden | seen}
    for view, hidden in views.items():
        if only_all and view != "all items":
            continue
        shown = replace(split, train=replace(split.train, hidden=hidden))
        rows = evaluate(model, shown, metrics=METRICS, by=(), run=run).slices["all"]
        found.setdefault(view, {}).setdefault(name, []).append(rows)
        values = "  ".join(f"{m} {rows.mean(m):.4f}" for m in METRICS)
        print(f"{run.seed}  {view}  {name:<40} {values}  {time.time() - began:.0f} s", flush=True)


def summary(found: Found, pairs: list[tuple[str, str]]) -> None:
    """Print the means over the draws, then the paired differences, as Markdown."""
    for view, models in found.items():
        print(f"\nAmong {view}:\n\n| model | {' | '.join(METRICS)} |\n|---|---|---|---|")
        for name, draws in models.items():
            means = [np.concatenate([r.values[m] for r in draws]).mean() for m in METRICS]
            print(f"| {name} | " + " | ".join(f"{x:.4f}" for x in means) + " |")
        print(f"\n| difference | {' | '.join(METRICS)} |\n|---|---|---|---|")
        for a, b in pairs:
            if a in models and b in models:
                cells = [difference(models[a], models[b], m) for m in METRICS]
                print(f"| {a} − {b} | " + " | ".join(cells) + " |", flush=True)


def difference(a: list[Rows], b: list[Rows], metric: str) -> str:
    x, y = (np.concatenate([r.values[metric] for r in rows]) for rows in (a, b))
    user = np.concatenate([r.user for r in a])
    d = paired(x, y, np.random.default_rng(0), cluster=user)
    return f"{d.difference:+.4f} [{d.low:+.4f}, {d.high:+.4f}]"


SETS: dict[str, tuple[Callable[[int], Split], float]] = {
    "films": (films, 0.2), "games": (games, 0.1), "users": (new_users, 0.0),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="*", metavar="SET", help=", ".join(SETS))
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--rows", type=int, default=2000, help="most test users of a draw")
    parser.add_argument("--short", action="store_true", help="new items without m6rec")
    given = parser.parse_args()
    for unknown in set(given.sets) - set(SETS):
        parser.error(f"{unknown}: no such set (there are: {', '.join(SETS)})")
    for name in given.sets or SETS:
        found: Found = {}
        make, share = SETS[name]
        for seed in range(given.draws):
            run = Run(seed=seed, threads=1)
            split = sampled(make(seed), given.rows, run)
            if share:
                of_items(split, share, run, found, given.short)
            else:
                of_users(split, run, found)
        print(f"\n## {name}")
        names = list(found["all items"])
        summary(found, [(a, b) for b, a in itertools.combinations(names, 2)])


if __name__ == "__main__":
    with threads(1):
        main()
